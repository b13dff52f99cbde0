// Package postgres keeps the state in a PostgreSQL database, version 15 or
// later, for one server or several replicas of it. Nothing is kept in the
// process: any replica may read and write at any time.
//
// It needs a session of its own for each connection, so a pooler in between must
// be one that pools sessions. DESIGN.md of the store tells why writers queue, how
// a commit without an answer is found out about, and who wakes whom.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqldb"
)

const (
	// writers is how many connections a process has for Updates. Only one of all
	// processes' writes at a time; the second one queues for its turn meanwhile.
	writers = 2
	// defaultPool is for Options.Pool.
	defaultPool = 10
	// keepRevisions is how far back a watch can go on, as in SQLite.
	keepRevisions = 100_000
	// patience bridges a restart of the database, or its failover.
	patience = 15 * time.Second
	// minVersion is PostgreSQL 15, the oldest that this is tested with.
	minVersion = 15_00_00
)

// Options say where the database is and how it is used.
type Options struct {
	// URL is the connection URL, such as
	// postgres://penstock@db.example:5432/penstock?sslmode=verify-full&sslrootcert=/etc/ca.pem
	// with libpq's parameters (https://www.postgresql.org/docs/15/libpq-connect.html).
	// It may not have a password: a URL is seen in too many places.
	URL string
	// PasswordFile has the password alone; white space at its end is not part of
	// it. It is read whenever a connection is made, so it may be replaced. Empty is
	// what libpq does: certificates, PGPASSWORD, ~/.pgpass.
	PasswordFile string
	// Pool is how many connections this process makes at most, apart from the one
	// that listens; 0 is 10, and 3 is the least.
	Pool int
	// KeepRevisions is how many of the newest revisions the change log keeps, at
	// least; 0 is 100,000.
	KeepRevisions int64
}

// Store is a store.Store on a PostgreSQL database.
type Store struct {
	*sqldb.Store
	listener *listener
}

var _ store.Store = (*Store)(nil)

// Open connects to the database and brings its schema up to date, alone if
// several replicas start at once. Errors are Invalid for Options that can't be
// right, Unsupported for a server that is too old or a database from a newer
// version, and Unavailable for a database that can't be reached or used.
func Open(ctx context.Context, o Options) (store.Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		var e *penstock.Error
		if errors.As(err, &e) && e.Where == "" {
			e.Where = place(o.URL)
		}
		return nil, fmt.Errorf("open the state: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, o Options) (*Store, error) {
	c, err := newConnector(o)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, c); err != nil {
		return nil, err
	}
	s := &Store{Store: sqldb.New(sqldb.Config{
		Writer:        c.pool(writers),
		Readers:       c.pool(cmp.Or(o.Pool, defaultPool) - writers),
		Dialect:       dialect(c),
		KeepRevisions: cmp.Or(o.KeepRevisions, keepRevisions),
		Patience:      patience,
	})}
	if s.listener, err = listen(ctx, c, s.Wake); err != nil {
		return nil, errors.Join(explain(err), s.Store.Close())
	}
	return s, nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.listener.close()
	return s.Store.Close()
}
