package telemetry

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock/penstock"
)

func logger(t *testing.T, w *bytes.Buffer, o LogOptions) *slog.Logger {
	t.Helper()
	l, err := NewLogger(w, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogIsJSONWhereNobodyReadsAlong(t *testing.T) {
	var b bytes.Buffer
	logger(t, &b, LogOptions{"info", "auto"}).Info("placed", KeyJob, "train", KeyAttempt, 2)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%q: %v", b.String(), err)
	}
	delete(line, "time")
	if diff := cmp.Diff(map[string]any{"level": "INFO", "msg": "placed", "job": "train", "attempt": 2.0}, line); diff != "" {
		t.Error(diff)
	}
}

func TestLogIsTextOnATerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT TESTED: this machine gives no terminal: %v", err)
	}
	defer tty.Close()
	l, err := NewLogger(tty, LogOptions{"info", "auto"})
	if err != nil {
		t.Fatal(err)
	}
	if _, text := l.Handler().(*slog.TextHandler); !text {
		t.Errorf("the handler is %T", l.Handler())
	}
}

func TestTextIsTextWhereAskedFor(t *testing.T) {
	var b bytes.Buffer
	logger(t, &b, LogOptions{"info", "text"}).Info("placed", KeyJob, "train")
	if got := b.String(); !strings.Contains(got, "level=INFO msg=placed job=train") {
		t.Error(got)
	}
}

func TestLevelsBelowTheAskedOneAreLeftOut(t *testing.T) {
	for level, want := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1} {
		var b bytes.Buffer
		l := logger(t, &b, LogOptions{level, "json"})
		l.Debug("x")
		l.Info("x")
		l.Warn("x")
		l.Error("x")
		if got := strings.Count(b.String(), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d", level, got, want)
		}
	}
}

func TestTimesInTheLogAreUTC(t *testing.T) {
	var b bytes.Buffer
	east := time.Date(2026, 3, 4, 12, 0, 0, 0, time.FixedZone("east", 7200))
	logger(t, &b, LogOptions{"info", "json"}).Info("x", "since", east)
	var line struct{ Time, Since string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Since != "2026-03-04T10:00:00Z" || !strings.HasSuffix(line.Time, "Z") {
		t.Errorf("%+v", line)
	}
}

func TestUnknownLevelOrFormatIsRefused(t *testing.T) {
	for _, o := range []LogOptions{{"loud", "json"}, {"", "json"}, {"info", "xml"}, {"info", ""}} {
		if _, err := NewLogger(&bytes.Buffer{}, o); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// values gives the metrics of one name by their labels.
func values(t *testing.T, r *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got[strings.Join(labels, ",")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

func registry(t *testing.T) *prometheus.Registry {
	t.Helper()
	r, err := NewRegistry(Build{Version: "v1.2.3", Revision: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegistryTellsBuildAndRuntime(t *testing.T) {
	r := registry(t)
	want := map[string]float64{"goversion=" + runtime.Version() + ",revision=abc,version=v1.2.3": 1}
	if diff := cmp.Diff(want, values(t, r, "penstock_build_info")); diff != "" {
		t.Error(diff)
	}
	if values(t, r, "go_goroutines")[""] < 1 || values(t, r, "process_open_fds")[""] < 1 {
		t.Error("no metrics of the runtime or of the process")
	}
}

func TestFailedAssertionIsLoggedCountedAndTold(t *testing.T) {
	var b bytes.Buffer
	var told []string
	r := registry(t)
	a, err := NewAsserter(logger(t, &b, LogOptions{"info", "text"}), r, func(assertion string) { told = append(told, assertion) })
	if err != nil {
		t.Fatal(err)
	}
	if !a.Assert(true, "sums conserve") || b.Len() != 0 {
		t.Errorf("an assertion that holds said %q", b.String())
	}
	if a.Assert(false, "sums conserve", KeyPool, "p") || a.Assert(false, "sums conserve", KeyPool, "q") {
		t.Error("an assertion that fails said yes")
	}
	if got := b.String(); !strings.Contains(got, `level=ERROR msg="assertion failed" assertion="sums conserve" pool=p`) {
		t.Error(got)
	}
	if diff := cmp.Diff(map[string]float64{"assertion=sums conserve": 2}, values(t, r, "penstock_assertion_failures_total")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"sums conserve", "sums conserve"}, told); diff != "" {
		t.Error(diff)
	}
	if _, err := NewAsserter(slog.Default(), r, nil); err == nil {
		t.Error("two asserters share one registry unseen")
	}
}

func TestAssertionWithoutHookGoesOn(t *testing.T) {
	a, err := NewAsserter(slog.New(slog.DiscardHandler), registry(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Assert(false, "x") {
		t.Error("said yes")
	}
}

func TestEachThingHasOneKey(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "key.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		value := spec.Values[0].(*ast.BasicLit).Value
		if before, twice := seen[value]; twice {
			t.Errorf("%s and %s are both %s", before, spec.Names[0].Name, value)
		}
		seen[value] = spec.Names[0].Name
		return true
	})
	if len(seen) < 10 {
		t.Errorf("only %d keys were found", len(seen))
	}
}
