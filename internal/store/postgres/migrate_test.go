package postgres

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/migrations"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/storetest"
)

// A released schema is kept in testdata as the SQL that makes it, with a row of
// each sort. -release writes the file of the newest one; it is used once, when
// that version is released, and never on an older one.
var release = flag.Bool("release", false, "write testdata/schema-N.sql of the newest schema")

// oldest is the first version that was released with this adapter.
const oldest = 3

// newest is the version of the newest migration: there is one file for each.
func newest(t *testing.T) int {
	files, err := fs.Glob(migrations.PostgreSQL, "postgres/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func schemaFile(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("schema-%04d.sql", version))
}

// dump gives the statements that make the database again, by pg_dump: the
// schema, and then the rows.
func dump(t *testing.T, url string, options ...string) string {
	t.Helper()
	args := append([]string{"--inserts", "--no-owner", "--no-privileges", "--dbname=" + url}, options...)
	said, err := exec.Command("pg_dump", args...).Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			t.Fatalf("pg_dump: %s", e.Stderr)
		}
		t.Fatalf("pg_dump: %v", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(said)) {
		// Comments have versions in them, settings differ from one to the next, and
		// what begins with \ is for psql.
		if line != "\n" && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "\\") &&
			!strings.HasPrefix(line, "SET ") && !strings.HasPrefix(line, "SELECT pg_catalog.set_config") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func filled(t *testing.T, server *pgtest.Server) (url string) {
	t.Helper()
	url = server.Database(t)
	s := mustOpen(t, Options{URL: url})
	defer mustClose(t, s)
	storetest.Fill(t, s)
	return url
}

func TestReleasedSchemasAreFrozen(t *testing.T) {
	server := pgtest.Shared(t)
	url := filled(t, server)
	if *release {
		if err := os.WriteFile(schemaFile(newest(t)), []byte(dump(t, url)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then := server.Database(t)
	mustExec(t, then, released(t, newest(t)))
	if diff := cmp.Diff(dump(t, then, "--schema-only"), dump(t, url, "--schema-only")); diff != "" {
		t.Errorf("a released migration was changed; write a new one (-released +now):\n%s", diff)
	}
}

func released(t *testing.T, version int) string {
	t.Helper()
	text, err := os.ReadFile(schemaFile(version))
	if err != nil {
		t.Fatalf("schema %d has no file of its own: %v", version, err)
	}
	return string(text)
}

func TestEveryReleasedSchemaIsBroughtUpToDateWithItsRows(t *testing.T) {
	server := pgtest.Shared(t)
	fresh := mustOpen(t, Options{URL: filled(t, server)})
	defer mustClose(t, fresh)
	for version := oldest; version <= newest(t); version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			url := server.Database(t)
			mustExec(t, url, released(t, version))
			s := mustOpen(t, Options{URL: url})
			defer mustClose(t, s)
			storetest.Same(t, s, fresh)
			if has := schemaVersion(t, url); has != newest(t) {
				t.Errorf("the schema has version %d", has)
			}
			err := s.Update(t.Context(), func(tx store.Tx) error { return tx.RevokeCredential("c1", time.Now()) })
			if err != nil {
				t.Errorf("write to it: %v", err)
			}
		})
	}
}

func schemaVersion(t *testing.T, url string) (has int) {
	t.Helper()
	if err := raw(t, url).QueryRow(t.Context(), "SELECT max(version_id) FROM goose_db_version").Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

func TestADatabaseOfANewerVersionIsRefusedUnchanged(t *testing.T) {
	url := filled(t, pgtest.Shared(t))
	mustExec(t, url, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9001, true)")
	before := dump(t, url)
	_, err := Open(t.Context(), Options{URL: url})
	e := wantError(t, err, penstock.Unsupported)
	if !strings.Contains(e.Msg, "9001") || !strings.Contains(e.Msg, fmt.Sprint(newest(t))) {
		t.Errorf("the message doesn't give both versions: %s", e.Msg)
	}
	if diff := cmp.Diff(before, dump(t, url)); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
}

func TestReplicasThatStartAtOnceMigrateOnce(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), Options{URL: url})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			s.Close()
		})
	}
	all.Wait()
	var rows int
	if err := raw(t, url).QueryRow(t.Context(), "SELECT count(*) FROM goose_db_version WHERE version_id > 0").Scan(&rows); err != nil || rows != newest(t) {
		t.Errorf("%d migrations ran, want %d (%v)", rows, newest(t), err)
	}
}

func TestEveryVersionIsInBothDialects(t *testing.T) {
	ours, err := fs.Glob(migrations.PostgreSQL, "postgres/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := fs.Glob(migrations.SQLite, "sqlite/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for i := range theirs {
		theirs[i] = "postgres/" + filepath.Base(theirs[i])
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("the dialects differ (-sqlite +postgres):\n%s", diff)
	}
}

func TestEveryPhaseIsInTheSchema(t *testing.T) {
	text, err := fs.ReadFile(migrations.PostgreSQL, "postgres/0001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range penstock.Phases() {
		if !strings.Contains(string(text), "'"+string(p)+"'") {
			t.Errorf("the phase %s is in none of the CHECK constraints", p)
		}
	}
}
