package httpapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// journal writes audit entries in batches, in one order: many calls share one
// commit. It is bounded: when it is full, callers wait.
type journal struct {
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

func newJournal(s store.Store, log *slog.Logger) *journal {
	j := &journal{
		store: s, log: log, entries: make(chan pendingEntry, 4*maxBatch),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go j.run()
	return j
}

// now returns once the entry is durable. It waits even for a caller who left:
// what was done is written down.
func (j *journal) now(e store.AuditEntry) error {
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

// later hands the entry over without waiting for the disk.
func (j *journal) later(e store.AuditEntry) {
	if err := j.take(pendingEntry{entry: e}); err != nil {
		j.log.Error("an audit entry was not written", "actor", e.Actor, "verb", e.Verb, "target", e.Target, "error", err)
	}
}

var errStopped = &penstock.Error{Code: penstock.Unavailable, Msg: "the server is stopping"}

func (j *journal) take(p pendingEntry) error {
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

func (j *journal) close() {
	j.ending.Do(func() { close(j.stop) })
	<-j.done
}

func (j *journal) run() {
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
func (j *journal) writeFrom(first pendingEntry) {
	batch := []pendingEntry{first}
	for len(batch) < maxBatch && len(j.entries) > 0 {
		batch = append(batch, <-j.entries)
	}
	j.write(batch)
}

func (j *journal) write(batch []pendingEntry) {
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
