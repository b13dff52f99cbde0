package audit

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Journal writes entries in batches, in one order: many calls share one commit.
// It is bounded: when it is full, callers wait.
type Journal struct {
	store   store.Store
	log     *slog.Logger
	entries chan pendingEntry
	ending  sync.Once
	stop    chan struct{} // closed when no more entries are taken
	done    chan struct{} // closed when the last one is written
}

type pendingEntry struct {
	entry   store.AuditEntry
	written chan<- error // nil when nobody waits
}

// maxBatch is how many entries one commit takes at most.
const maxBatch = 256

// NewJournal makes a Journal of a store's log. Close it to write the last entries.
func NewJournal(s store.Store, log *slog.Logger) *Journal {
	j := &Journal{
		store: s, log: log, entries: make(chan pendingEntry, 4*maxBatch),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go j.run()
	return j
}

// Now returns once the entry is durable. It waits even for a caller who left:
// what was done is written down.
func (j *Journal) Now(e store.AuditEntry) error {
	written := make(chan error, 1)
	if err := j.take(pendingEntry{e, written}); err != nil {
		return err
	}
	select {
	case err := <-written:
		return err
	case <-j.done:
	}
	select {
	case err := <-written:
		return err
	default:
		return errStopped
	}
}

// Later hands the entry over without waiting for the disk.
func (j *Journal) Later(e store.AuditEntry) {
	if err := j.take(pendingEntry{entry: e}); err != nil {
		j.log.Error("an audit entry was not written", "actor", e.Actor, "verb", e.Verb, "target", e.Target, "error", err)
	}
}

var errStopped = &penstock.Error{Code: penstock.Unavailable, Msg: "the server is stopping"}

func (j *Journal) take(p pendingEntry) error {
	select {
	case <-j.stop:
		return errStopped
	default:
	}
	select {
	case j.entries <- p:
		return nil
	case <-j.stop:
		return errStopped
	}
}

// Read serves a call that changes nothing, and writes it down once it was
// answered: entry makes the entry from the HTTP status, or false for none.
func (j *Journal) Read(w http.ResponseWriter, r *http.Request, next http.Handler, entry func(status int) (store.AuditEntry, bool)) {
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	next.ServeHTTP(seen, r)
	if e, ok := entry(seen.status); ok {
		j.Later(e)
	}
}

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the flusher.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Close writes what is left and takes no more.
func (j *Journal) Close() {
	j.ending.Do(func() { close(j.stop) })
	<-j.done
}

func (j *Journal) run() {
	defer close(j.done)
	for {
		select {
		case first := <-j.entries:
			j.writeFrom(first)
		case <-j.stop:
			for len(j.entries) > 0 {
				j.writeFrom(<-j.entries)
			}
			return
		}
	}
}

// writeFrom writes first and what stands behind it.
func (j *Journal) writeFrom(first pendingEntry) {
	batch := []pendingEntry{first}
	for len(batch) < maxBatch && len(j.entries) > 0 {
		batch = append(batch, <-j.entries)
	}
	j.write(batch)
}

func (j *Journal) write(batch []pendingEntry) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := j.store.Update(ctx, func(tx store.Tx) error {
		for _, p := range batch {
			if _, err := tx.AppendAudit(p.entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		j.log.Error("audit entries were not written", "count", len(batch), "error", err)
	}
	for _, p := range batch {
		if p.written != nil {
			p.written <- err
		}
	}
}
