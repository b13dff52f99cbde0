package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/storetest"
)

// TestStore gives each test of the suite a schema of its own: a database would
// take ten times as long to make.
func TestStore(t *testing.T) {
	database := pgtest.Shared(t).Database(t)
	schemas := map[string]string{} // by folder
	storetest.Run(t, func(t *testing.T, folder string, keep int64) store.Store {
		schema, known := schemas[folder]
		if !known {
			schema = fmt.Sprintf("suite%d", len(schemas))
			schemas[folder] = schema
			mustExec(t, database, "CREATE SCHEMA "+schema)
		}
		return mustOpen(t, Options{URL: with(t, database, "search_path", schema), KeepRevisions: keep})
	})
}

// with adds a parameter to a URL.
func with(t testing.TB, base, key, value string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func mustOpen(t testing.TB, o Options) store.Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func mustClose(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// raw connects as another program would.
func raw(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func mustExec(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := raw(t, url)
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// wantError checks the code and that people are told what to do.
func wantError(t testing.TB, err error, code penstock.Code) *penstock.Error {
	t.Helper()
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code != code || e.Hint == "" {
		t.Fatalf("got %v, want %s with a hint", err, code)
	}
	return e
}
