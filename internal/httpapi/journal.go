package httpapi

import (
	"context"
	"log/slog"
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
	done    chan struct{}
}

type pendingEntry struct {
	entry   store.AuditEntry
	written chan<- error // nil when nobody waits
}

// maxBatch is how many entries one commit takes at most.
const maxBatch = 256

func newJournal(s store.Store, log *slog.Logger) *journal {
	j := &journal{store: s, log: log, entries: make(chan pendingEntry, 4*maxBatch), done: make(chan struct{})}
	go j.run()
	return j
}

// now returns once the entry is durable.
func (j *journal) now(ctx context.Context, e store.AuditEntry) error {
	written := make(chan error, 1)
	select {
	case j.entries <- pendingEntry{e, written}:
	case <-ctx.Done():
		return &penstock.Error{Code: penstock.Canceled, Msg: "the caller left before the audit entry was written"}
	}
	return <-written
}

// later hands the entry over without waiting for the disk.
func (j *journal) later(e store.AuditEntry) { j.entries <- pendingEntry{entry: e} }

func (j *journal) close() {
	close(j.entries)
	<-j.done
}

func (j *journal) run() {
	defer close(j.done)
	for first := range j.entries {
		batch := []pendingEntry{first}
		for len(batch) < maxBatch && len(j.entries) > 0 {
			batch = append(batch, <-j.entries)
		}
		j.write(batch)
	}
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
