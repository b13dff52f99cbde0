package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/store"
)

const (
	// batchSize bounds the writes of one transaction, and so how long it takes.
	batchSize = 256
	// batchTime bounds one transaction. Writes go on after their client has left.
	batchTime = 10 * time.Second
)

// batcher commits writes that come at the same time together: a commit waits
// for the disk, and every request needs two. A write that comes alone waits for
// nobody.
type batcher struct {
	store store.Store

	mu      sync.Mutex
	waiting []*write
	running bool
}

// write is one caller's part of a transaction.
type write struct {
	do   func(store.Tx) error
	err  error
	done chan struct{}
}

// update runs do in a transaction, maybe with others', and returns when it is
// durable. do must write nothing when it fails, since the others' part goes on;
// that is what the port says of Reserve and Settle.
func (b *batcher) update(do func(store.Tx) error) error {
	w := &write{do: do, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	<-w.done // each batch ends within batchTime
	return w.err
}

// run commits batches until nobody waits.
func (b *batcher) run() {
	for {
		b.mu.Lock()
		n := min(len(b.waiting), batchSize)
		batch := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		b.running = n > 0
		b.mu.Unlock()
		if n == 0 {
			return
		}
		b.commit(batch)
	}
}

func (b *batcher) commit(batch []*write) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTime)
	defer cancel()
	err := b.store.Update(ctx, func(tx store.Tx) error {
		for _, w := range batch {
			w.err = w.do(tx)
		}
		return nil
	})
	for _, w := range batch {
		if err != nil {
			w.err = fmt.Errorf("commit %d ledger writes: %w", len(batch), err)
		}
		close(w.done)
	}
}
