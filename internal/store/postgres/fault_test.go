package postgres

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/sqldb"
)

// counter is the object that writers count in.
const counter = penstock.UID("counter")

func makeCounter(t *testing.T, s store.Store) {
	t.Helper()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Create(v1.Object{Kind: penstock.KindJob, Status: json.RawMessage("0"), Metadata: v1.Metadata{UID: counter, Name: "counter"}})
		return err
	})
	if err != nil {
		t.Fatalf("make the counter: %v", err)
	}
}

// count adds one to the counter, with an event and an audit entry.
func count(tx store.Tx) error {
	o, err := tx.ByUID(counter)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(o.Status))
	if err != nil {
		return err
	}
	o.Status = json.RawMessage(strconv.Itoa(n + 1))
	if _, err := tx.Update(o); err != nil {
		return err
	}
	if err := tx.AppendEvent(store.Event{At: time.Now(), UID: counter, Reason: "Counted"}); err != nil {
		return err
	}
	_, err = tx.AppendAudit(store.AuditEntry{At: time.Now(), Actor: "test", Verb: "count"})
	return err
}

// wantCount checks that n were counted, each whole and once, by asking on a
// connection that nobody breaks.
func wantCount(t *testing.T, url string, n int) {
	t.Helper()
	s := mustOpen(t, Options{URL: url})
	defer mustClose(t, s)
	err := s.View(t.Context(), func(tx store.Tx) error {
		o, err := tx.ByUID(counter)
		if err != nil {
			return err
		}
		events, err := tx.Events("", counter, 0)
		if err != nil {
			return err
		}
		audit, err := tx.Audit(0, 0)
		if err != nil {
			return err
		}
		if string(o.Status) != strconv.Itoa(n) || o.Metadata.Revision != int64(n+1) || len(events) != n || len(audit) != n {
			t.Errorf("of %d acknowledged counts there are %s, with revision %d, %d events and %d audit entries",
				n, o.Status, o.Metadata.Revision, len(events), len(audit))
		}
		for i, e := range audit {
			if e.Hash != e.Sum() || i > 0 && e.Prev != audit[i-1].Hash {
				t.Errorf("audit entry %d doesn't follow", e.Seq)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
}

// countAll lets writers count, each so many times, in one of the stores each.
func countAll(t *testing.T, writers, times int, stores ...store.Store) {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range times {
				if err := stores[w%len(stores)].Update(t.Context(), count); err != nil {
					t.Errorf("count: %v", err)
				}
			}
		})
	}
	all.Wait()
}

func TestSixteenWritersInTwoReplicasLoseNoUpdate(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a, b := mustOpen(t, Options{URL: url}), mustOpen(t, Options{URL: url})
	defer mustClose(t, a)
	defer mustClose(t, b)
	makeCounter(t, a)
	countAll(t, 16, 10, a, b)
	wantCount(t, url, 160)
}

// TestACommitWithoutAnAnswerIsFoundOutAbout cuts each commit off, in one way.
func TestACommitWithoutAnAnswerIsFoundOutAbout(t *testing.T) {
	for f, times := range map[fate]int{cutOnTheWay: 10, answerCutOff: 10, leftHalfOpened: 1} {
		t.Run(string(f), func(t *testing.T) {
			server := pgtest.Shared(t)
			direct := server.Database(t)
			p, url := network(t, server, direct)
			s := mustOpen(t, Options{URL: with(t, url, "idle_in_transaction_session_timeout", "1s")})
			defer mustClose(t, s)
			makeCounter(t, s)
			for range times {
				p.commits.Store(f)
				if err := s.Update(t.Context(), count); err != nil {
					t.Errorf("count: %v", err)
				}
			}
			if cuts := p.cuts.Load(); cuts != int64(times) {
				t.Errorf("%d of %d commits were cut off", cuts, times)
			}
			wantCount(t, direct, times)
		})
	}
}

func TestConnectionsCutAtRandomPointsLoseAndDoubleNothing(t *testing.T) {
	server := pgtest.Shared(t)
	direct := server.Database(t)
	p, url := network(t, server, direct)
	s := mustOpen(t, Options{URL: url})
	defer mustClose(t, s)
	makeCounter(t, s)
	p.oneOf.Store(150)
	countAll(t, 4, 15, s)
	p.oneOf.Store(0)
	if p.cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
	t.Logf("%d connections were cut", p.cuts.Load())
	wantCount(t, direct, 60)
}

func TestARestartOfTheDatabaseUnderLoadLosesAndDoublesNothing(t *testing.T) {
	server := pgtest.Private(t)
	url := server.Database(t)
	s := mustOpen(t, Options{URL: url})
	defer mustClose(t, s)
	makeCounter(t, s)
	var counted atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Update(t.Context(), count); err != nil {
					t.Errorf("count: %v", err)
					return
				}
				counted.Add(1)
			}
		})
	}
	for _, end := range []func(testing.TB){server.Kill, server.Stop, server.Kill} {
		for before, until := counted.Load(), time.Now().Add(time.Minute); counted.Load() < before+10; time.Sleep(time.Millisecond) { // polls
			if time.Now().After(until) || t.Failed() {
				t.Fatalf("after %d counts it doesn't go on", counted.Load())
			}
		}
		end(t)
		server.Restart(t)
	}
	close(stop)
	all.Wait()
	wantCount(t, url, int(counted.Load()))
}

// TestASerializationFailureIsRepeated changes, while fn runs, what it has read,
// as somebody would who doesn't queue.
func TestASerializationFailureIsRepeated(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	s := mustOpen(t, Options{URL: url})
	defer mustClose(t, s)
	makeCounter(t, s)
	runs := 0
	err := s.Update(t.Context(), func(tx store.Tx) error {
		runs++
		if _, err := tx.ByUID(counter); err != nil {
			return err
		}
		if runs <= 3 {
			mustExec(t, url, "UPDATE objects SET owner = 'run "+strconv.Itoa(runs)+"'")
		}
		return count(tx)
	})
	if err != nil || runs != 4 {
		t.Errorf("after %d runs: %v", runs, err)
	}
	wantCount(t, url, 1)
}

func TestAProcessThatIsFrozenInAnUpdateHoldsUpOthersForAWhileOnly(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	frozen := mustOpen(t, Options{URL: with(t, url, "idle_in_transaction_session_timeout", "300ms")})
	other := mustOpen(t, Options{URL: url})
	defer mustClose(t, frozen)
	defer mustClose(t, other)
	makeCounter(t, other)
	runs := 0
	err := frozen.Update(t.Context(), func(tx store.Tx) error {
		if runs++; runs == 1 {
			if err := other.Update(t.Context(), count); err != nil { // waits until the frozen one is cut off
				t.Errorf("the other one: %v", err)
			}
		}
		return count(tx)
	})
	if err != nil || runs != 2 {
		t.Errorf("the frozen one, after %d runs: %v", runs, err)
	}
	wantCount(t, url, 2)
}

func TestADatabaseThatIsGoneIsUnavailableAndNamesWhatToDo(t *testing.T) {
	server := pgtest.Private(t)
	url := server.Database(t)
	server.Stop(t)
	_, err := Open(t.Context(), Options{URL: url})
	wantError(t, err, penstock.Unavailable)
}

func TestOnlyWhatHelpsIsRepeated(t *testing.T) {
	for _, c := range []struct {
		severity, code string
		want           sqldb.Verdict
	}{
		{"ERROR", "40001", sqldb.Repeat},
		{"ERROR", "40P01", sqldb.Repeat},
		{"ERROR", "40003", sqldb.Cut},
		{"FATAL", "57P01", sqldb.Cut},
		{"FATAL", "57P03", sqldb.Cut},
		{"FATAL", "25P03", sqldb.Cut},
		{"FATAL", "53300", sqldb.Cut},
		{"FATAL", "28P01", sqldb.Final},
		{"FATAL", "3D000", sqldb.Final},
		{"ERROR", "23505", sqldb.Final},
		{"ERROR", "57014", sqldb.Final},
		{"ERROR", "55P03", sqldb.Final},
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: c.severity, Code: c.code})
		if got := judge(err); got != c.want {
			t.Errorf("%s %s is %d, want %d", c.severity, c.code, got, c.want)
		}
	}
}
