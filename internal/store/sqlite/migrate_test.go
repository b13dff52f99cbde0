package sqlite

import (
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/migrations"
	"github.com/penstock/penstock/internal/store/storetest"
)

// A released schema is kept in testdata as the SQL that makes it, with a row of
// each sort. -release writes the file of the newest one; it is used once, when
// that version is released, and never on an older one.
var release = flag.Bool("release", false, "write testdata/schema-N.sql of the newest schema")

// newest is the version of the newest migration: there is one file for each.
func newest(t *testing.T) int {
	files, err := fs.Glob(migrations.SQLite, "sqlite/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func schemaFile(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("schema-%04d.sql", version))
}

func filled(t *testing.T, path string) {
	t.Helper()
	s := mustOpen(t, path)
	storetest.Fill(t, s)
	mustClose(t, s)
}

// dump gives the statements that make the database again: the schema, then the
// rows.
func dump(t *testing.T, db *sql.DB) (schema, rows []string) {
	t.Helper()
	schema = texts(t, db, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, rowid")
	for _, table := range texts(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid") {
		columns := texts(t, db, "SELECT name FROM pragma_table_info('"+table+"') ORDER BY cid")
		quoted := "quote(" + strings.Join(columns, ") || ', ' || quote(") + ")"
		rows = append(rows, texts(t, db, "SELECT 'INSERT INTO "+table+" VALUES (' || "+quoted+" || ')' FROM "+table)...)
	}
	return schema, rows
}

func texts(t *testing.T, db *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	return all
}

func TestReleasedSchemasAreFrozen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	filled(t, path)
	schema, rows := dump(t, raw(t, path))
	if *release {
		text := strings.Join(append(schema, rows...), ";\n") + ";\n"
		if err := os.WriteFile(schemaFile(newest(t)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	released, err := os.ReadFile(schemaFile(newest(t)))
	if err != nil {
		t.Fatalf("the newest schema has no file of its own: %v", err)
	}
	then := filepath.Join(t.TempDir(), "state.db")
	db := raw(t, then)
	mustExec(t, db, string(released))
	want, _ := dump(t, db)
	if diff := cmp.Diff(want, schema); diff != "" {
		t.Errorf("a released migration was changed; write a new one (-released +now):\n%s", diff)
	}
}

func TestEveryReleasedSchemaIsBroughtUpToDateWithItsRows(t *testing.T) {
	fresh := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	defer mustClose(t, fresh)
	storetest.Fill(t, fresh)
	for version := 1; version <= newest(t); version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			released, err := os.ReadFile(schemaFile(version))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "state.db")
			mustExec(t, raw(t, path), string(released))
			s := mustOpen(t, path)
			defer mustClose(t, s)
			storetest.Same(t, s, fresh)
			var version string
			if err := raw(t, path).QueryRow("SELECT MAX(version_id) FROM goose_db_version").Scan(&version); err != nil || version != fmt.Sprint(newest(t)) {
				t.Errorf("the schema has version %s (%v)", version, err)
			}
			err = s.Update(t.Context(), func(tx store.Tx) error { return tx.RevokeCredential("c1", time.Now()) })
			if err != nil {
				t.Errorf("write to it: %v", err)
			}
		})
	}
}

func TestADatabaseOfANewerVersionIsRefusedUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	filled(t, path)
	db := raw(t, path)
	mustExec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9001, 1)")
	schema, rows := dump(t, db)
	_, err := Open(t.Context(), path)
	e := wantError(t, err, penstock.Unsupported)
	if !strings.Contains(e.Msg, "9001") || !strings.Contains(e.Msg, fmt.Sprint(newest(t))) {
		t.Errorf("the message doesn't give both versions: %s", e.Msg)
	}
	schemaAfter, rowsAfter := dump(t, db)
	if diff := cmp.Diff(append(schema, rows...), append(schemaAfter, rowsAfter...)); diff != "" {
		t.Errorf("it was changed (-before +after):\n%s", diff)
	}
}

func TestEveryPhaseIsInTheSchema(t *testing.T) {
	text, err := fs.ReadFile(migrations.SQLite, "sqlite/0001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range penstock.Phases() {
		if !strings.Contains(string(text), "'"+string(p)+"'") {
			t.Errorf("the phase %s is in none of the CHECK constraints", p)
		}
	}
}
