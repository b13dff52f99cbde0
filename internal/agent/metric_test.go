package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/penstock/penstock/api/v1"
)

func TestMetricLines(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // the point, or a part of the error
	}{
		{`{"step": 7, "loss": 1.5}`, "7 map[loss:1.5]"},
		{`{"loss": 1.5, "step": 0, "lr": 1e-4}`, "0 map[loss:1.5 lr:0.0001]"},
		{`{"step": 7}`, "7 map[]"},
		{`{"loss": 1.5}`, `no "step"`},
		{`{"step": 7.5, "loss": 1}`, `no "step"`},
		{`{"step": -1, "loss": 1}`, `no "step"`},
		{`{"step": 1, "loss": null}`, "is null"},
		{`{"step": null}`, "is null"},
		{`null`, `no "step"`},
		{`{"step": 1, "loss": NaN}`, "invalid"},
		{`{"step": 1, "loss": 1e999}`, "1e999"},
		{`{"step": 1, "phase": "warm-up"}`, "string"},
		{`{"step": 1} {"step": 2}`, "after top-level value"},
	} {
		p, err := parseMetrics([]byte(c.line))
		got := fmt.Sprint(p.Step, " ", p.Values)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s gives %q, want %q", c.line, got, c.want)
		}
	}
}

func newTestTailer(t *testing.T) *tailer {
	t.Helper()
	log, err := newLogWriter(filepath.Join(t.TempDir(), logFolder), logFileBytes)
	if err != nil {
		t.Fatal(err)
	}
	return &tailer{path: filepath.Join(t.TempDir(), metricFile), spool: newTestSpool(t), log: log, now: time.Now}
}

func (l *tailer) append(t *testing.T, text string) {
	t.Helper()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// steps gives the steps of all points in the spool, in order.
func (l *tailer) steps(t *testing.T) []int64 {
	t.Helper()
	var steps []int64
	for {
		reports, _, err := l.spool.batch()
		if err != nil {
			t.Fatal(err)
		}
		if len(reports) == 0 {
			return steps
		}
		for _, r := range reports {
			for _, p := range r.Metrics {
				steps = append(steps, p.Step)
			}
			l.spool.acknowledge(r.Seq)
		}
	}
}

func TestMetricsAreReadThroughTornLinesAndATruncatedFile(t *testing.T) {
	l := newTestTailer(t)
	poll := func() {
		t.Helper()
		if err := l.poll(); err != nil {
			t.Fatal(err)
		}
	}
	poll() // no file yet
	l.append(t, `{"step": 1}`+"\n"+`{"st`)
	poll()
	l.append(t, `ep": 2}`+"\n"+strings.Repeat("x", metricLine+1))
	poll()
	l.append(t, "still the long line\n"+`{"step": 3}`+"\n")
	poll()
	if err := os.Truncate(l.path, 0); err != nil {
		t.Fatal(err)
	}
	poll()
	l.append(t, `{"step": 4}`) // without a newline
	poll()
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4}, l.steps(t)); diff != "" {
		t.Error(diff)
	}
	if l.bad != 1 {
		t.Errorf("%d bad lines, want the long one", l.bad)
	}
}

func TestMetricsAreThinnedEvenlyWhileTheServerIsAwayAndOthersAreNot(t *testing.T) {
	l := newTestTailer(t)
	for range metricBacklog {
		addAll(t, l.spool, v1.Report{})
	}
	const points = 10_000
	for from := 0; from < points; from += 500 {
		var text strings.Builder
		for step := from; step < from+500; step++ {
			fmt.Fprintf(&text, "{\"step\": %d}\n", step)
		}
		l.append(t, text.String())
		if err := l.poll(); err != nil {
			t.Fatal(err)
		}
		if len(l.points) > 4*metricPoints {
			t.Fatalf("%d points wait in memory", len(l.points))
		}
	}
	if got := l.spool.waiting(); got != metricBacklog {
		t.Errorf("%d reports wait, want no more than the %d from before", got, metricBacklog)
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	steps := l.steps(t)
	if len(steps) < 50 || len(steps)+l.thinned != points {
		t.Errorf("%d points are left and %d thinned out, of %d", len(steps), l.thinned, points)
	}
	if steps[0] != 0 {
		t.Errorf("the first step is %d, want 0", steps[0])
	}
}
