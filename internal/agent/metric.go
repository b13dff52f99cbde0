package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

// Bounds on what is read of PENSTOCK_METRICS and on what waits to be sent.
const (
	metricLine    = 64 << 10 // bytes; a longer line is a bad one
	metricPoints  = 200      // in one report
	metricBytes   = 256 << 10
	metricBacklog = 500 // reports that wait, beyond which points are thinned out
)

// tailer follows the metrics file of a task.
type tailer struct {
	path  string
	spool *spool
	log   *logWriter
	now   func() time.Time

	offset  int64
	rest    []byte // an unfinished line
	skip    bool   // the rest of a line that is too long
	bad     int
	points  []v1.MetricPoint
	size    int // bytes of the lines of points
	thinned int
}

// poll reads what was written since, and reports it unless the server is far
// behind: then points are kept back, and thinned out evenly when there are many.
func (t *tailer) poll() error {
	return errors.Join(t.read(), t.settle())
}

func (t *tailer) settle() error {
	if t.spool.waiting() >= metricBacklog {
		t.thin()
		return nil
	}
	return t.flush()
}

// finish reads to the end, also a last line without a newline, and reports all.
func (t *tailer) finish() error {
	err := t.read()
	if len(t.rest) > 0 {
		t.line(t.rest)
		t.rest = nil
	}
	if t.thinned > 0 {
		t.log.note("%d metric points were thinned out while the server was away", t.thinned)
	}
	if t.bad > 1 {
		t.log.note("%d lines of PENSTOCK_METRICS were not understood", t.bad)
	}
	return errors.Join(err, t.flush())
}

func (t *tailer) read() error {
	file, err := os.Open(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the task removed it
	}
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if info.Size() < t.offset { // written anew
		t.offset, t.rest, t.skip = 0, nil, false
	}
	chunk := make([]byte, 64<<10)
	for t.offset < info.Size() {
		n, err := file.ReadAt(chunk[:min(int64(len(chunk)), info.Size()-t.offset)], t.offset)
		t.offset += int64(n)
		t.feed(chunk[:n])
		if len(t.points) > 2*metricPoints { // much came at once: don't gather it all
			if err := t.settle(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
	}
	return nil
}

// feed takes bytes of the file and parses the lines that they complete.
func (t *tailer) feed(b []byte) {
	for len(b) > 0 {
		line, rest, complete := bytes.Cut(b, []byte{'\n'})
		b = rest
		if !t.skip {
			t.rest = append(t.rest, line...)
		}
		if len(t.rest) > metricLine {
			t.complain("a line is longer than 64 KiB")
			t.rest, t.skip = nil, true
		}
		if !complete {
			return
		}
		if !t.skip {
			t.line(t.rest)
		}
		t.rest, t.skip = nil, false
	}
}

func (t *tailer) line(b []byte) {
	if len(bytes.TrimSpace(b)) == 0 {
		return
	}
	p, err := parseMetrics(b)
	if err != nil {
		t.complain(err.Error())
		return
	}
	p.At = t.now().UTC()
	t.points = append(t.points, p)
	t.size += len(b)
}

// complain tells of the first bad line; the others are counted.
func (t *tailer) complain(why string) {
	if t.bad++; t.bad == 1 {
		t.log.note(`a line of PENSTOCK_METRICS was not understood: %s; write one JSON object a line, such as {"step": 1, "loss": 2.5}`, why)
	}
}

// parseMetrics reads {"step": 7, "loss": 1.5}: a whole step, and finite numbers.
func parseMetrics(b []byte) (v1.MetricPoint, error) {
	var fields map[string]*float64
	if err := json.Unmarshal(b, &fields); err != nil {
		return v1.MetricPoint{}, fmt.Errorf("%.80q: %w", b, err)
	}
	values := make(map[string]float64, len(fields))
	for name, value := range fields {
		if value == nil {
			return v1.MetricPoint{}, fmt.Errorf("%.80q: %.40q is null", b, name)
		}
		values[name] = *value
	}
	step, ok := values["step"]
	if !ok || step < 0 || step != float64(int64(step)) || step > 1<<53 {
		return v1.MetricPoint{}, fmt.Errorf(`%.80q has no "step" that is a whole number`, b)
	}
	delete(values, "step")
	return v1.MetricPoint{Step: int64(step), Values: values}, nil
}

// thin drops every second point where there are more than a few reports of them.
func (t *tailer) thin() {
	if len(t.points) <= 2*metricPoints {
		return
	}
	kept := t.points[:0]
	for i, p := range t.points {
		if i%2 == 0 {
			kept = append(kept, p)
		}
	}
	t.thinned += len(t.points) - len(kept)
	t.points, t.size = kept, t.size/2
}

// flush reports the points, in as many reports as their size asks for.
func (t *tailer) flush() error {
	for len(t.points) > 0 {
		n := min(len(t.points), metricPoints)
		if t.size > metricBytes {
			// Lines may be long: as many as fit on average, and one at least.
			n = max(1, min(n, metricBytes*len(t.points)/t.size))
		}
		if err := t.spool.add(v1.Report{Metrics: t.points[:n:n]}); err != nil {
			return err
		}
		t.size -= t.size * n / len(t.points)
		t.points = t.points[n:]
	}
	t.points, t.size = nil, 0
	return nil
}
