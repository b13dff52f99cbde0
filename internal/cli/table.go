package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"github.com/goccy/go-yaml"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
)

// table prints rows for people on a terminal, and as tab-separated values in a
// pipe. The last column of a terminal's table is cut to its width.
type table struct {
	s       *session
	columns []string
	rows    [][]string
}

func (s *session) table(columns ...string) *table { return &table{s: s, columns: columns} }

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.Map(printable, c)
	}
	t.rows = append(t.rows, cells)
}

// printable keeps what others wrote from steering the terminal.
func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return ' '
	case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
		return -1
	}
	return r
}

func (t *table) print() {
	if !t.s.Terminal {
		for _, row := range t.rows {
			fmt.Fprintln(t.s.Out, strings.Join(row, "\t"))
		}
		return
	}
	widths := make([]int, len(t.columns))
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(t.s.Out, lipgloss.NewStyle().Faint(true).Render(t.line(t.columns, widths)))
	for _, row := range t.rows {
		fmt.Fprintln(t.s.Out, t.line(row, widths))
	}
}

func (t *table) line(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		if i == len(row)-1 {
			b.WriteString(cell)
			break
		}
		b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
	}
	text := []rune(b.String())
	if t.s.Width > 20 && len(text) > t.s.Width {
		text = append(text[:t.s.Width-1], '…')
	}
	return string(text)
}

// when is a time as this output wants it.
func (s *session) when(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case !s.Terminal:
		return t.UTC().Format(time.RFC3339)
	}
	return span(time.Since(t)) + " ago"
}

// span is a length of time in one unit.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// formats are the values of -o.
const formats = "table|wide|json|yaml|name"

// format checks -o.
func (s *session) format() (string, error) {
	for _, f := range strings.Split(formats, "|") {
		if s.output == f {
			return f, nil
		}
	}
	return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("-o %q is not a format", s.output), Hint: "take one of " + formats}
}

// printJSON writes any document.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printDocument writes a document that isn't an object as JSON or YAML.
func (s *session) printDocument(format string, v any) error {
	if format == "json" {
		return printJSON(s.Out, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = s.Out.Write(text)
	return err
}

// printObjects writes objects in a format for programs.
func (s *session) printObjects(format string, objects []v1.Object) error {
	switch format {
	case "name":
		for _, o := range objects {
			fmt.Fprintln(s.Out, o.Ref())
		}
		return nil
	case "yaml":
		b, err := spec.Marshal(objects)
		if err != nil {
			return err
		}
		_, err = s.Out.Write(b)
		return err
	}
	if len(objects) == 1 {
		return printJSON(s.Out, objects[0])
	}
	return printJSON(s.Out, map[string]any{"items": objects})
}
