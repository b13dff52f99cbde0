package webui

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/store"
)

// reads are the reads of pages in the audit log, once all are written.
func (w *world) reads() []string {
	w.t.Helper()
	w.journal.Close()
	var entries []store.AuditEntry
	w.check(w.store.View(w.t.Context(), func(tx store.Tx) (err error) {
		entries, err = tx.Audit(0, 1000)
		return err
	}))
	report, err := audit.Verify(w.t.Context(), w.store)
	w.check(err)
	w.check(report.Err())
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Detail, "page, token ") {
			out = append(out, fmt.Sprintf("%s %s %s %s", e.Actor, e.Verb, e.Target, e.Outcome))
		}
	}
	return out
}

func TestEachPageThatIsReadIsInTheAuditLogRefusedOnesToo(t *testing.T) {
	w := newWorld(t)
	live := func(r *http.Request) { r.Header.Set("HX-Request", "true") }
	for _, read := range []struct{ who, path string }{
		{"vision", "/"}, {"vision", "/jobs/vision/train-7"}, {"vision", "/jobs/vision/train-7/metrics"}, {"text", "/jobs/vision/train-7"},
		{"text", "/nowhere"}, {"vision", "/assets/app.css"}, {"", "/cost"},
	} {
		w.ask(read.who, "GET", read.path, nil)
	}
	for range 5 { // a page that stands open
		w.ask("vision", "GET", "/", nil, live)
	}
	w.ask("text", "GET", "/", nil, live) // the header is the caller's to set: it hides nothing
	want := []string{
		"vision-user GET / 200", "vision-user GET /jobs/vision/train-7 200", "vision-user GET /jobs/vision/train-7/metrics 200",
		"text-user GET /jobs/vision/train-7 404", "text-user GET /nowhere 404", "text-user GET / 200",
	}
	if diff := cmp.Diff(want, w.reads()); diff != "" {
		t.Error(diff)
	}
}

func TestAReadIsWrittenDownAgainAfterAMinute(t *testing.T) {
	var log trail
	start := time.Now()
	for _, c := range []struct {
		read  string
		after time.Duration
		news  bool
	}{
		{"a 200 /", 0, true}, {"a 200 /", repeatTime - 1, false}, {"a 404 /", 1, true}, {"b 200 /", 1, true}, {"a 200 /", repeatTime, true}, {"a 200 /", repeatTime + 1, false},
	} {
		if got := log.news(c.read, start.Add(c.after)); got != c.news {
			t.Errorf("%s after %s: %v", c.read, c.after, got)
		}
	}
	for i := range 3 * maxRepeats {
		log.news(fmt.Sprint(i), start)
	}
	if n := len(log.last); n > maxRepeats {
		t.Errorf("it remembers %d reads, more than %d", n, maxRepeats)
	}
}
