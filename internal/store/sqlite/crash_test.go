package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// crashPath names, in the environment of a child of this test, the database
// that it writes to until it is killed.
const crashPath = "PENSTOCK_TEST_CRASH_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		fmt.Fprintln(os.Stderr, commitForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitForEver commits again and again and writes the number of each commit to
// stdout after it was acknowledged.
func commitForEver(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		return err
	}
	var next int
	if err := s.View(ctx, func(tx store.Tx) error { all, err := tx.List(store.Query{}); next = len(all); return err }); err != nil {
		return err
	}
	for ; ; next++ {
		if err := s.Update(ctx, func(tx store.Tx) error { return commit(tx, next) }); err != nil {
			return err
		}
		fmt.Println(next)
	}
}

// commit writes many rows to many tables, in an order in which half of it would
// show, and closes what the commit before it left open.
func commit(tx store.Tx, n int) error {
	at := time.Unix(int64(n), 0)
	o := crashObject(n)
	if err := tx.AppendEvent(store.Event{At: at, UID: o.Metadata.UID, Reason: "Created"}); err != nil {
		return err
	}
	if _, err := tx.Create(o); err != nil {
		return err
	}
	if _, err := tx.AppendAudit(store.AuditEntry{At: at, Actor: "child", Verb: "create"}); err != nil {
		return err
	}
	if err := tx.Reserve(store.Request{ID: strconv.Itoa(n), Key: "key", Started: at, Reserved: 7}, 0); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	if err := tx.Link(store.Edge{From: o.Metadata.UID, To: crashObject(n - 1).Metadata.UID, Relation: "base"}); err != nil {
		return err
	}
	_, err := tx.Settle(store.Request{ID: strconv.Itoa(n - 1), Ended: at, PromptTokens: 3, Outcome: "ok"})
	return err
}

func crashObject(n int) v1.Object {
	name := fmt.Sprintf("job-%06d", n)
	return v1.Object{Kind: penstock.KindJob, Metadata: v1.Metadata{UID: penstock.UID(name), Name: name, Labels: map[string]string{"n": strconv.Itoa(n)}}}
}

// TestKillLosesNoAcknowledgedCommit kills a writing process at random commits,
// again and again on one database.
func TestKillLosesNoAcknowledgedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	acked := -1
	for round := range 10 {
		acked = max(acked, crash(t, path, 1+rand.IntN(40)))
		s := mustOpen(t, path)
		there := crashed(t, s)
		mustClose(t, s)
		if there != acked+1 && there != acked+2 {
			t.Fatalf("round %d: %d commits are there; number %d was the last acknowledged", round, there, acked)
		}
		acked = there - 1
		for _, check := range []string{"integrity_check", "foreign_key_check"} {
			if said := texts(t, raw(t, path), "SELECT * FROM pragma_"+check); len(said) > 0 && said[0] != "ok" {
				t.Fatalf("round %d: %s says %v", round, check, said)
			}
		}
	}
}

// crash runs the child until it has acknowledged some commits, kills it, and
// gives the last number it wrote, -1 for none.
func crash(t *testing.T, path string, commits int) (last int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	last = -1
	for i := 0; ; i++ {
		if i == commits {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // what was written before the kill has been read
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err = strconv.Atoi(line[:len(line)-1]); err != nil {
			t.Fatal(err)
		}
	}
	child.Wait()
	if last < 0 {
		t.Fatal("the child committed nothing")
	}
	return last
}

// crashed checks that every commit is there whole, and gives how many there are.
func crashed(t *testing.T, s store.Store) (n int) {
	var events, requests, open int
	var revision int64
	var audit []store.AuditEntry
	err := s.View(t.Context(), func(tx store.Tx) error {
		var errs [6]error
		n, errs[0] = length(tx.List(store.Query{}))
		events, errs[1] = length(tx.Events("", "", 0))
		requests, errs[2] = length(tx.Requests(store.RequestQuery{}))
		open, errs[3] = length(tx.Requests(store.RequestQuery{Open: true}))
		revision, errs[4] = tx.Revision()
		audit, errs[5] = tx.Audit(0, 0)
		return errors.Join(errs[:]...)
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	if events != n || len(audit) != n || requests != n || open != 1 || revision != int64(n) {
		t.Errorf("half a commit: %d objects, %d events, %d audit entries, %d requests, %d open, revision %d",
			n, events, len(audit), requests, open, revision)
	}
	for i, e := range audit {
		if e.Hash != e.Sum() || i > 0 && e.Prev != audit[i-1].Hash {
			t.Errorf("audit entry %d doesn't follow", e.Seq)
		}
	}
	checkBalance(t, s, int64(3*(n-1)+7))
	return n
}

func length[T any](all []T, err error) (int, error) { return len(all), err }

// checkBalance asks by reserving how much of the key is spent: 3 tokens for
// each request that is settled, 7 for the open one.
func checkBalance(t *testing.T, s store.Store, spent int64) {
	reserve := func(tokens int64) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.Reserve(store.Request{ID: "probe", Key: "key", Started: time.Unix(1, 0), Reserved: tokens}, spent+1); err != nil {
				return err
			}
			return io.EOF // it was only a question
		})
	}
	if err := reserve(1); err != io.EOF {
		t.Errorf("more than %d tokens are spent: %v", spent, err)
	}
	if err := reserve(2); penstock.CodeOf(err) != penstock.OverLimit {
		t.Errorf("less than %d tokens are spent: %v", spent, err)
	}
}
