package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, folder string, keep int64) store.Store {
		s, err := open(t.Context(), filepath.Join(folder, "state.db"), keep)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		return s
	})
}

func mustOpen(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func mustClose(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// raw opens the file as another program would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// wantError checks the code and that people are told what to do.
func wantError(t *testing.T, err error, code penstock.Code) *penstock.Error {
	t.Helper()
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code != code || e.Hint == "" {
		t.Fatalf("got %v, want %s with a hint", err, code)
	}
	return e
}

func TestOpenKeepsTheFilesPrivate(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for name, before := range map[string]func(path string) error{
		"new":      func(string) error { return nil },
		"too open": func(path string) error { return os.WriteFile(path, nil, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := before(path); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, path)
			defer mustClose(t, s)
			storetest.Fill(t, s)
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("state.db%s has mode %o", suffix, info.Mode().Perm())
				}
			}
		})
	}
}

func TestOpenTakesAnyPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "50% of? #1 ü;&.db")
	s := mustOpen(t, path)
	storetest.Fill(t, s)
	mustClose(t, s)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	// Closed, the database is the one file alone: that is what a backup copies.
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("after closing there are %v (%v)", files, err)
	}
}

func TestEveryCommitIsSyncedAndForeignKeysHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	mustClose(t, mustOpen(t, path))
	w, err := openWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1"} {
		var got string
		if err := w.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
}

func TestOpenRefusesWhatIsNotADatabase(t *testing.T) {
	for name, content := range map[string]string{
		"text": strings.Repeat("not a database\n", 1000), "a few bytes": "x", "another header": "SQLite format 2\x00" + strings.Repeat("\x00", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), path)
			wantError(t, err, penstock.Corrupt)
			if after, err := os.ReadFile(path); err != nil || string(after) != content {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestADamagedDatabaseIsCorrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	storetest.Fill(t, s)
	mustClose(t, s)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The first page, which says what tables there are, stays.
	if err := os.WriteFile(path, append(whole[:4096:4096], bytes.Repeat([]byte{0xff}, len(whole)-4096)...), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), path)
	if err == nil {
		defer s.Close()
		err = s.View(t.Context(), func(tx store.Tx) error { _, err := tx.List(store.Query{}); return err })
	}
	wantError(t, err, penstock.Corrupt)
}

func TestOpenSaysWhyTheFileCannotBeOpened(t *testing.T) {
	folder := t.TempDir()
	for name, path := range map[string]string{"no folder": filepath.Join(folder, "none", "state.db"), "a folder": folder} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), path)
			if e := wantError(t, err, penstock.Unavailable); e.Where != path {
				t.Errorf("where is %q, want the path", e.Where)
			}
		})
	}
}

func TestAChangedAuditRowIsDetectable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	defer mustClose(t, s)
	storetest.Fill(t, s)
	check := func() (fits bool) {
		err := s.View(t.Context(), func(tx store.Tx) error {
			all, err := tx.Audit(0, 0)
			fits = len(all) == 1 && all[0].Hash == all[0].Sum()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return fits
	}
	if !check() {
		t.Fatal("the entry as written doesn't fit its hash")
	}
	mustExec(t, raw(t, path), "UPDATE audit SET actor = 'nobody'")
	if check() {
		t.Error("the changed row fits its hash")
	}
}

// fillUp writes objects of 64 KiB until the store refuses, and gives how many
// it took and the refusal.
func fillUp(t *testing.T, s store.Store, first int) (taken int, err error) {
	spec, marshalErr := json.Marshal(strings.Repeat("x", 64<<10))
	if marshalErr != nil {
		t.Fatal(marshalErr)
	}
	for ; taken < 100; taken++ {
		name := fmt.Sprintf("job-%03d", first+taken)
		err := s.Update(t.Context(), func(tx store.Tx) error {
			o := v1.Object{Kind: penstock.KindJob, Metadata: v1.Metadata{UID: penstock.UID(name), Name: name, Project: "vision"}, Spec: spec}
			if err := tx.AppendEvent(store.Event{At: time.Now(), UID: o.Metadata.UID, Reason: "Created"}); err != nil {
				return err
			}
			_, err := tx.Create(o)
			return err
		})
		if err != nil {
			return taken, err
		}
	}
	return taken, nil
}

func counts(t *testing.T, s store.Store) (objects, events int) {
	err := s.View(t.Context(), func(tx store.Tx) error {
		o, err := tx.List(store.Query{})
		if err != nil {
			return err
		}
		e, err := tx.Events("", "", 0)
		objects, events = len(o), len(e)
		return err
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return objects, events
}

func TestAFullDiskLosesNothingAndIsOverWhenThereIsSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := open(t.Context(), path, keepRevisions, "max_page_count(300)")
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	taken, err := fillUp(t, s, 0)
	wantError(t, err, penstock.Unavailable)
	if taken == 0 {
		t.Fatal("nothing went in")
	}
	if objects, events := counts(t, s); objects != taken || events != taken {
		t.Errorf("%d objects and %d events are there of %d commits", objects, events, taken)
	}
	// What is deleted makes room for what comes, without a restart.
	err = s.Update(t.Context(), func(tx store.Tx) error {
		return tx.DropCheckpoint("none", 1)
	})
	if err != nil {
		t.Errorf("an update that needs no space: %v", err)
	}
	mustExec(t, raw(t, path), "DELETE FROM changes")
	if more, _ := fillUp(t, s, taken); more == 0 {
		t.Error("there is space, and nothing more goes in")
	}
}

func TestTheLockOfAnotherProgramIsWaitedForAndThenNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	// In the bubble the 5 s of patience pass at once.
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, path)
		defer mustClose(t, s)
		db := raw(t, path)
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = s.Update(t.Context(), func(store.Tx) error { return nil })
		wantError(t, err, penstock.Unavailable)
		if waited := time.Since(begin); waited < 4*time.Second {
			t.Errorf("gave up after %v", waited)
		}
		if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		storetest.Fill(t, s)
	})
}

// TestVirtualTimePasses runs hourly commits and a watcher for two days, in the
// bubble of a test of the loops.
func TestVirtualTimePasses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, path)
		defer mustClose(t, s)
		begin := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		seen := make(chan int64)
		go watch(t, ctx, s, seen)
		for i := range 48 {
			time.Sleep(time.Hour)
			name := fmt.Sprintf("job-%d", i)
			o := v1.Object{Kind: penstock.KindJob, Metadata: v1.Metadata{UID: penstock.UID(name), Name: name}}
			if err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Create(o); return err }); err != nil {
				t.Errorf("update: %v", err)
			}
			if revision := <-seen; revision != int64(i+1) {
				t.Errorf("the watcher saw revision %d, want %d", revision, i+1)
			}
		}
		stop()
		synctest.Wait()
		if passed := time.Since(begin); passed != 48*time.Hour {
			t.Errorf("%v passed", passed)
		}
	})
}

// watch tells every revision, as a watcher of the API does, until ctx ends.
func watch(t *testing.T, ctx context.Context, s store.Store, seen chan<- int64) {
	for after := int64(0); ; {
		wake := s.Changed()
		var changes []store.Change
		if err := s.View(t.Context(), func(tx store.Tx) (err error) { changes, err = tx.Changes(after, 0); return err }); err != nil {
			t.Errorf("view: %v", err)
			return
		}
		for _, c := range changes {
			after = c.Revision
			seen <- after
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	storetest.Fill(t, s)
	mustClose(t, s)
	mustClose(t, s)
}
