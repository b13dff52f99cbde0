// Package telemetry sets up what operators look at: the log, the metrics, and
// the assertions that tell them of a fault in Penstock itself. It has no
// globals: who logs or counts is handed a logger or a registry.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/penstock/penstock"
)

// LogOptions say what is logged and how.
type LogOptions struct {
	Level  string // debug, info, warn or error
	Format string // text, json, or auto: text on a terminal, JSON elsewhere
}

// NewLogger makes a logger that writes to w, with times in UTC. Names of
// attributes are the Key constants.
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.Level)); err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.40q is not a level of the log", o.Level), Hint: "write debug, info, warn or error", Err: err}
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC}
	switch {
	case o.Format == "text", o.Format == "auto" && terminal(w):
		return slog.New(slog.NewTextHandler(w, options)), nil
	case o.Format == "json", o.Format == "auto":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.40q is not a format of the log", o.Format), Hint: "write auto, text or json"}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// inUTC writes every time in UTC, so that logs of two machines can be merged.
func inUTC(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}
