package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
)

func TestOptionsThatCannotBeRightAreInvalidAndTellNoSecret(t *testing.T) {
	for name, o := range map[string]Options{
		"no URL":             {URL: "host=db password=hunter2"},
		"password in URL":    {URL: "postgres://penstock:hunter2@db/penstock"},
		"password parameter": {URL: "postgres://penstock@db/penstock?password=hunter2"},
		"wrong parameter":    {URL: "postgres://penstock@db/penstock?sslmode=perhaps"},
		"small pool":         {URL: "postgres://penstock@db/penstock", Pool: 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), o)
			wantError(t, err, penstock.Invalid)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

func TestThePasswordIsReadFromItsFileWheneverAConnectionIsMade(t *testing.T) {
	server := pgtest.Private(t)
	url := server.Database(t)
	mustExec(t, url, "SET password_encryption = 'scram-sha-256'", "CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'first'")
	rules := "local all guarded scram-sha-256\nlocal all all trust\n"
	if err := os.WriteFile(filepath.Join(server.Folder(), "data", "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	server.Restart(t)
	o := Options{URL: with(t, url, "user", "guarded"), PasswordFile: filepath.Join(t.TempDir(), "password")}
	_, err := Open(t.Context(), o)
	if e := wantError(t, err, penstock.Unavailable); e.Where != o.PasswordFile {
		t.Errorf("where is %q, want the file", e.Where)
	}
	write := func(text string) {
		if err := os.WriteFile(o.PasswordFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong\n")
	_, err = Open(t.Context(), o)
	wantError(t, err, penstock.Unavailable)
	write("first\n")
	s := mustOpen(t, o)
	defer mustClose(t, s)
	makeCounter(t, s)
	// A new password, and no connection of before: the file has the new one.
	mustExec(t, url, "ALTER ROLE guarded PASSWORD 'second'", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'")
	write("second")
	if err := s.Update(t.Context(), count); err != nil {
		t.Errorf("after the change of the password: %v", err)
	}
}

func TestSessionsHaveTimeoutsAndSyncedCommits(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	mustExec(t, url, "ALTER ROLE penstock IN DATABASE "+url[strings.LastIndex(url[:strings.Index(url, "?")], "/")+1:strings.Index(url, "?")]+" SET synchronous_commit = off")
	c, err := newConnector(Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	db := c.pool(1)
	defer db.Close()
	for setting, want := range map[string]string{
		"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "5s", "synchronous_commit": "on",
	} {
		var got string
		if err := db.QueryRowContext(t.Context(), "SELECT current_setting($1)", setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", setting, got, want, err)
		}
	}
}

// woken waits for a wake-up and gives how long it took.
func woken(t *testing.T, s store.Store, changed <-chan struct{}) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was woken in 30 s")
	}
	return time.Since(began)
}

func TestACommitWakesOtherReplicasAtOnce(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a, b := mustOpen(t, Options{URL: url}), mustOpen(t, Options{URL: url})
	defer mustClose(t, a)
	defer mustClose(t, b)
	makeCounter(t, a)
	var total time.Duration
	for range 5 {
		changed := b.Changed()
		if err := a.Update(t.Context(), count); err != nil {
			t.Fatal(err)
		}
		total += woken(t, b, changed)
	}
	// Woken slowly, that would take 5 × 5 s.
	if total > 2*slowly {
		t.Errorf("five wake-ups took %v", total)
	}
}

func TestALostListenerStallsNobody(t *testing.T) {
	server := pgtest.Shared(t)
	direct := server.Database(t)
	p, url := network(t, server, direct)
	a, b := mustOpen(t, Options{URL: direct}), mustOpen(t, Options{URL: url})
	defer mustClose(t, a)
	defer mustClose(t, b)
	makeCounter(t, a)
	for n := range 3 {
		changed := b.Changed()
		p.cutAll() // and what is notified now, nobody hears
		if err := a.Update(t.Context(), count); err != nil {
			t.Fatal(err)
		}
		woken(t, b, changed)
		err := b.View(t.Context(), func(tx store.Tx) error {
			changes, err := tx.Changes(int64(n+1), 0)
			if err == nil && len(changes) != 1 {
				err = fmt.Errorf("there are %d changes", len(changes))
			}
			return err
		})
		if err != nil {
			t.Errorf("after wake-up %d: %v", n+1, err)
		}
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := mustOpen(t, Options{URL: url})
	makeCounter(t, s)
	mustClose(t, s)
	mustClose(t, s)
}
