// Package sqldb is the part of the state store that is the same for every SQL
// database: the transaction of the store port, over database/sql. The adapters
// open the database, bring its schema up to date and give a Dialect.
//
// The SQL keeps to what SQLite and PostgreSQL share: ON CONFLICT, RETURNING,
// JSON as TEXT, times as INTEGER microseconds.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Config is an opened database, its schema up to date.
type Config struct {
	// Writer is used for Update, Readers for View. They may be the same.
	Writer, Readers *sql.DB
	Dialect         Dialect
	// KeepRevisions is how many of the newest revisions the change log keeps,
	// at least; it is trimmed when it has grown by a hundredth more.
	KeepRevisions int64
	// Patience is for how long a transaction that the database asks to repeat is
	// repeated, and a database that can't be reached is tried again.
	Patience time.Duration
}

// Store is a store.Store on a SQL database.
type Store struct {
	config  Config
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	changed chan struct{}
}

var _ store.Store = (*Store)(nil)

// New makes a Store. From then on the pools are the Store's to close.
func New(c Config) *Store {
	return &Store{config: c, changed: make(chan struct{})}
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.running.Done()
	var t *Tx
	// Only the beginning is tried again: fn runs once.
	if err := s.repeat(ctx, func() (v Verdict, err error) {
		t, v, err = s.begin(ctx, s.config.Readers, s.config.Dialect.View)
		return v, err
	}); err != nil {
		return err
	}
	defer t.tx.Rollback()
	return fn(t)
}

// Update implements store.Store. An Update within the fn of another waits for
// it, which is until ctx ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.running.Done()
	return s.repeat(ctx, func() (Verdict, error) { return s.update(ctx, fn) })
}

// update runs fn once. Until the commit is sent all of it ends with ctx; from
// then on only with an answer, or for want of one.
func (s *Store) update(ctx context.Context, fn func(store.Tx) error) (Verdict, error) {
	run, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	detach := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	defer detach()
	t, v, err := s.begin(run, s.config.Writer, s.config.Dialect.Update)
	if err != nil {
		return v, err
	}
	// After the commit this does nothing; before it, also when fn panics, it
	// leaves the writer free.
	defer t.tx.Rollback()
	if lock := s.config.Dialect.Lock; lock != "" {
		if _, err := t.exec("wait for other writers", lock); err != nil {
			return t.verdict, err
		}
	}
	if err := fn(t); err != nil {
		return t.verdict, err
	}
	seal, err := t.seal()
	if err != nil {
		return t.verdict, err
	}
	if !detach() {
		return Final, s.config.Dialect.explain(ctx, "commit the change", context.Cause(ctx))
	}
	defer time.AfterFunc(commitPatience, func() { end(errNoAnswer) }).Stop()
	return s.commit(run, t, seal)
}

// begin begins a transaction on one of the pools.
func (s *Store) begin(ctx context.Context, db *sql.DB, opts sql.TxOptions) (*Tx, Verdict, error) {
	tx, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return nil, s.config.Dialect.judge(err), s.config.Dialect.explain(ctx, "begin a transaction", err)
	}
	return &Tx{ctx: ctx, tx: tx, dialect: s.config.Dialect, keep: s.config.KeepRevisions}, Final, nil
}

// Changed implements store.Store.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Wake wakes those who wait for Changed. Adapters call it when somebody else
// changed objects, or may have.
func (s *Store) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// enter counts a transaction in, so that Close waits for it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &penstock.Error{Code: penstock.Unavailable, Msg: "the state store is closed", Hint: "the server is stopping; try again when it is back"}
	}
	s.running.Add(1)
	return nil
}

// Close implements store.Store. Closing again does nothing. Transactions that
// begin after it are refused with Unavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.running.Wait()
	// The writer goes last: it is the one that may still tidy up.
	if err := errors.Join(s.config.Readers.Close(), s.config.Writer.Close()); err != nil {
		return s.config.Dialect.explain(context.Background(), "close the database", err)
	}
	return nil
}
