package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

func leaseTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"ALeaseThatNobodyTookIsFree":                     testFreeLease,
		"EveryTakeoverRaisesTheToken":                    testTokens,
		"OnlyTheSeenLeaseCanBeTaken":                     testTakeSeen,
		"OfManyCandidatesOneTakesIt":                     testOneTakes,
		"AHolderThatLostItCanDoNothingWithIt":            testLostLease,
		"ALeaseThatWasReturnedIsFreeAndKeepsItsToken":    testReturn,
		"ALeaseThatWasDroppedBeginsAnew":                 testDrop,
		"LeasesOfDifferentNamesAreApart":                 testApart,
		"AFencedStoreCommitsUntilTheTakeoverAndNotAfter": testFence,
		"NoFencedCommitIsLostOrLateWhenTheLeaseMoves":    testFencedRace,
	}
}

func leaseNow(t testing.TB, s store.Store) store.Lease {
	t.Helper()
	return read(t, s, func(tx store.Tx) (store.Lease, error) { return tx.Lease("loops") })
}

func take(t testing.TB, s store.Store, seen store.Lease, holder string) (l store.Lease, err error) {
	t.Helper()
	err = s.Update(t.Context(), func(tx store.Tx) (err error) {
		l, err = tx.TakeLease(seen, holder, minute(1))
		return err
	})
	return l, err
}

func mustTake(t testing.TB, s store.Store, holder string) store.Lease {
	t.Helper()
	l, err := take(t, s, leaseNow(t, s), holder)
	if err != nil {
		t.Fatalf("take the lease: %v", err)
	}
	return l
}

func beat(t testing.TB, s store.Store, held store.Lease) (l store.Lease) {
	t.Helper()
	update(t, s, func(tx store.Tx) (err error) {
		l, err = tx.BeatLease(held)
		return err
	})
	return l
}

func testFreeLease(t *testing.T, s store.Store) {
	wantSame(t, leaseNow(t, s), store.Lease{Name: "loops"})
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.CheckLease(store.Lease{Name: "loops"}) }), penstock.Fenced)
	ch := s.Changed()
	first := mustTake(t, s, "a")
	wantSame(t, first, store.Lease{Name: "loops", Holder: "a", Token: 1, Since: minute(1)})
	first = beat(t, s, first)
	if first.Beat != 1 {
		t.Errorf("the first beat is number %d", first.Beat)
	}
	wantSame(t, leaseNow(t, s), first)
	select {
	case <-ch:
		t.Error("a lease is no object, and still it woke")
	default:
	}
}

func testTokens(t *testing.T, s store.Store) {
	for n, holder := range []string{"a", "b", "b", "c"} {
		held := mustTake(t, s, holder)
		if held.Token != int64(n+1) {
			t.Errorf("takeover %d has token %d", n+1, held.Token)
		}
		for range n {
			held = beat(t, s, held)
		}
		wantSame(t, leaseNow(t, s), held)
	}
}

func testTakeSeen(t *testing.T, s store.Store) {
	free := leaseNow(t, s)
	seen := mustTake(t, s, "a")
	beat(t, s, seen)
	for what, old := range map[string]store.Lease{"before it was taken": free, "before the beat": seen} {
		err := refuse(t, s, func(tx store.Tx) error { _, err := tx.TakeLease(old, "b", minute(2)); return err })
		if penstock.CodeOf(err) != penstock.Conflict {
			t.Errorf("taken as it was %s: %v, want Conflict", what, err)
		}
	}
}

func testOneTakes(t *testing.T, s store.Store) {
	for round := range 5 {
		seen := leaseNow(t, s)
		var won atomic.Int32
		parallel(8, func(n int) {
			_, err := take(t, s, seen, string(rune('a'+n)))
			if err == nil {
				won.Add(1)
			} else if penstock.CodeOf(err) != penstock.Conflict {
				t.Errorf("candidate %d: %v, want Conflict", n, err)
			}
		})
		if now := leaseNow(t, s); won.Load() != 1 || now.Token != int64(round+1) {
			t.Fatalf("round %d: %d candidates took it, and its token is %d", round, won.Load(), now.Token)
		}
	}
}

func testLostLease(t *testing.T, s store.Store) {
	lost := mustTake(t, s, "a")
	mustTake(t, s, "b")
	stranger := leaseNow(t, s)
	stranger.Holder = "a"
	for what, held := range map[string]store.Lease{"an old token": lost, "another holder": stranger} {
		for verb, do := range map[string]func(store.Tx) error{
			"check":  func(tx store.Tx) error { return tx.CheckLease(held) },
			"beat":   func(tx store.Tx) error { _, err := tx.BeatLease(held); return err },
			"return": func(tx store.Tx) error { return tx.ReturnLease(held) },
			"drop":   func(tx store.Tx) error { return tx.DropLease(held) },
		} {
			if err := refuse(t, s, do); penstock.CodeOf(err) != penstock.Fenced {
				t.Errorf("%s with %s: %v, want Fenced", verb, what, err)
			}
		}
	}
}

func testReturn(t *testing.T, s store.Store) {
	held := beat(t, s, mustTake(t, s, "a"))
	update(t, s, func(tx store.Tx) error { return tx.ReturnLease(held) })
	free := leaseNow(t, s)
	wantSame(t, free, store.Lease{Name: "loops", Token: 1, Beat: 1, Since: minute(1)})
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.CheckLease(free) }), penstock.Fenced)
	if next := mustTake(t, s, "b"); next.Token != 2 {
		t.Errorf("the next token is %d, want 2", next.Token)
	}
}

func testDrop(t *testing.T, s store.Store) {
	held := beat(t, s, mustTake(t, s, "a"))
	update(t, s, func(tx store.Tx) error { return tx.DropLease(held) })
	wantSame(t, leaseNow(t, s), store.Lease{Name: "loops"})
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.CheckLease(held) }), penstock.Fenced)
	wantSame(t, mustTake(t, s, "b"), store.Lease{Name: "loops", Holder: "b", Token: 1, Since: minute(1)})
}

func testApart(t *testing.T, s store.Store) {
	held := beat(t, s, mustTake(t, s, "a"))
	other, err := take(t, s, store.Lease{Name: "other"}, "b")
	if err != nil || other.Token != 1 {
		t.Fatalf("another lease: %+v, %v", other, err)
	}
	update(t, s, func(tx store.Tx) error { return tx.DropLease(other) })
	wantSame(t, leaseNow(t, s), held)
}

func testFence(t *testing.T, s store.Store) {
	first := mustTake(t, s, "a")
	old := store.Fence(s, first)
	create(t, old, job(1, "vision", "train"))
	beat(t, s, first)
	create(t, old, job(2, "vision", "tune"))
	next := store.Fence(s, mustTake(t, s, "b"))
	before := everything(t, s)
	err := old.Update(t.Context(), func(store.Tx) error {
		t.Error("what would be committed is worked out although the lease is lost")
		return nil
	})
	wantCode(t, err, penstock.Fenced)
	wantSame(t, everything(t, old), before)
	create(t, next, job(3, "vision", "late"))
}

// testFencedRace moves the lease while its holders commit as fast as they can:
// each commit writes down its token, and in the order of commits the tokens
// never go back.
func testFencedRace(t *testing.T, s store.Store) {
	const holders, commits = 4, 10
	var done [holders]int64
	parallel(holders, func(n int) {
		for done[n] < commits {
			var held store.Lease
			err := s.Update(t.Context(), func(tx store.Tx) error {
				now, err := tx.Lease("loops")
				if err == nil {
					held, err = tx.TakeLease(now, string(rune('a'+n)), minute(1))
				}
				return err
			})
			for err == nil && done[n] < commits {
				err = store.Fence(s, held).Update(t.Context(), func(tx store.Tx) error {
					_, err := tx.AppendAudit(store.AuditEntry{At: minute(1), Actor: held.Holder, Verb: "commit", Target: fmt.Sprintf("%09d", held.Token)})
					return err
				})
				if err == nil {
					done[n]++
				}
			}
			if code := penstock.CodeOf(err); err != nil && code != penstock.Fenced && code != penstock.Conflict {
				t.Errorf("holder %d: %v", n, err)
				return
			}
		}
	})
	log := read(t, s, func(tx store.Tx) ([]store.AuditEntry, error) { return tx.Audit(0, 0) })
	if len(log) != holders*commits {
		t.Errorf("%d commits are there, want %d", len(log), holders*commits)
	}
	for i := 1; i < len(log); i++ {
		if log[i].Target < log[i-1].Target {
			t.Errorf("commit %d, under an older token than the one before it, came late", log[i].Seq)
		}
	}
}
