package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func transactionTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"AnUpdateThatFailsLeavesNothing":                    testFailedUpdate,
		"AnUpdateThatPanicsLeavesNothingAndTheStoreGoesOn":  testPanic,
		"AFailureThatFnSwallowsIsNotCommitted":              testSwallowedFailure,
		"ARefusalThatFnSwallowsLeavesTheRestOfItsWork":      testSwallowedRefusal,
		"AnUpdateSeesWhatItWrote":                           testReadOwnWrites,
		"AViewKeepsItsStateWhileOthersCommit":               testSnapshot,
		"AViewNeverSeesHalfACommit":                         testNoHalfCommit,
		"AViewCannotWrite":                                  testReadOnly,
		"ACanceledUpdateCommitsNothing":                     testCanceled,
		"ACommitThatChangedObjectsWakes":                    testWakes,
		"FactsAndFailuresDoNotWake":                         testDoesNotWake,
		"CloseWaitsForTransactionsAndRefusesLaterOnes":      testClose,
		"TimesComeBackInUTCAndToTheMicrosecond":             testTimes,
		"ZeroTimesComeBackZeroAndTheEpochComesBackAsItself": testZeroTimes,
	}
}

var errStop = errors.New("stop")

func testFailedUpdate(t *testing.T, s store.Store) {
	before := everything(t, s)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := writeEverything(tx); err != nil {
			return err
		}
		return errStop
	})
	if !errors.Is(err, errStop) {
		t.Fatalf("update gave %v, want fn's own error", err)
	}
	wantSame(t, everything(t, s), before)
	err = s.View(t.Context(), func(tx store.Tx) error { _, err := tx.Recall("ann", "k1"); return err })
	wantCode(t, err, penstock.NotFound)
	// The counters of the key are gone too: the whole limit can be reserved.
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r3", 1000), 1000) })
}

func testPanic(t *testing.T, s store.Store) {
	before := everything(t, s)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of fn was swallowed")
			}
		}()
		s.Update(t.Context(), func(tx store.Tx) error {
			if err := writeEverything(tx); err != nil {
				return err
			}
			panic("stop")
		})
	}()
	wantSame(t, everything(t, s), before)
	update(t, s, writeEverything)
}

func testSwallowedFailure(t *testing.T, s store.Store) {
	before := everything(t, s)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := writeEverything(tx); err != nil {
			return err
		}
		bad := job(3, "vision", "bad")
		bad.Metadata.Phase = "Flying"
		if _, err := tx.Create(bad); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("an unknown phase gives %v, want Invalid", err)
		}
		return nil
	})
	wantCode(t, err, penstock.Invalid)
	wantSame(t, everything(t, s), before)
}

func testSwallowedRefusal(t *testing.T, s store.Store) {
	create(t, s, job(1, "vision", "train"))
	update(t, s, func(tx store.Tx) error {
		if _, err := tx.Create(job(2, "vision", "train")); penstock.CodeOf(err) != penstock.Exists {
			t.Errorf("a taken name gives %v, want Exists", err)
		}
		if err := tx.Reserve(request("r1", 11), 10); penstock.CodeOf(err) != penstock.OverLimit {
			t.Errorf("a request over the limit gives %v, want OverLimit", err)
		}
		_, err := tx.Create(job(3, "vision", "tune"))
		return err
	})
	if got := read(t, s, func(tx store.Tx) ([]v1.Object, error) { return tx.List(store.Query{}) }); len(got) != 2 {
		t.Errorf("there are %d objects, want 2", len(got))
	}
}

func testReadOwnWrites(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error {
		made, err := tx.Create(job(1, "vision", "train"))
		if err != nil {
			return err
		}
		got, err := tx.Get(made.Ref())
		wantSame(t, got, made)
		return err
	})
}

func testSnapshot(t *testing.T, s store.Store) {
	a := create(t, s, job(1, "vision", "train"))
	view(t, s, func(tx store.Tx) error {
		if _, err := tx.ByUID(uid(1)); err != nil {
			return err
		}
		update(t, s, func(tx store.Tx) error {
			if _, err := tx.Create(job(2, "vision", "tune")); err != nil {
				return err
			}
			a.Metadata.Phase = penstock.PhaseQueued
			_, err := tx.Update(a)
			return err
		})
		all, err := tx.List(store.Query{})
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].Metadata.Phase != penstock.PhasePending {
			t.Errorf("the view sees the later commit: %+v", all)
		}
		return nil
	})
}

// testNoHalfCommit keeps two jobs in the same phase while readers compare them.
func testNoHalfCommit(t *testing.T, s store.Store) {
	create(t, s, job(1, "vision", "left"))
	create(t, s, job(2, "vision", "right"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				for _, id := range []penstock.UID{uid(1), uid(2)} {
					o, err := tx.ByUID(id)
					if err != nil {
						return err
					}
					o.Metadata.Phase = penstock.Phases()[i%len(penstock.Phases())]
					if _, err := tx.Update(o); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("update: %v", err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		all := read(t, s, func(tx store.Tx) ([]v1.Object, error) { return tx.List(store.Query{}) })
		if all[0].Metadata.Phase != all[1].Metadata.Phase {
			t.Fatalf("half a commit is seen: %s and %s", all[0].Metadata.Phase, all[1].Metadata.Phase)
		}
	}
}

func testReadOnly(t *testing.T, s store.Store) {
	before := everything(t, s)
	if err := s.View(t.Context(), writeEverything); err == nil {
		t.Error("a view wrote without an error")
	}
	wantSame(t, everything(t, s), before)
}

func testCanceled(t *testing.T, s store.Store) {
	before := everything(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := writeEverything(tx); err != nil {
			return err
		}
		cancel()
		return nil
	})
	wantCode(t, err, penstock.Canceled)
	wantCode(t, s.Update(ctx, writeEverything), penstock.Canceled)
	wantCode(t, s.View(ctx, func(store.Tx) error { return nil }), penstock.Canceled)
	wantSame(t, everything(t, s), before)
	update(t, s, writeEverything)
}

func testWakes(t *testing.T, s store.Store) {
	first := s.Changed()
	a := create(t, s, job(1, "vision", "train"))
	wantClosed(t, "a creation", first)
	second := s.Changed()
	update(t, s, func(tx store.Tx) (err error) { a, err = tx.Update(a); return err })
	wantClosed(t, "an update", second)
	third := s.Changed()
	update(t, s, func(tx store.Tx) error { return tx.Delete(a.Metadata.UID, a.Metadata.Revision) })
	wantClosed(t, "a deletion", third)
}

func wantClosed(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s didn't wake", what)
	}
}

func testDoesNotWake(t *testing.T, s store.Store) {
	ch := s.Changed()
	update(t, s, func(tx store.Tx) error { return tx.AppendEvent(event(1, "Started")) })
	s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Create(job(1, "vision", "train")); err != nil {
			return err
		}
		return errStop
	})
	select {
	case <-ch:
		t.Error("woken although no object changed")
	default:
	}
}

func testClose(t *testing.T, s store.Store) {
	inside, leave, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	committed := make(chan error, 1)
	go func() {
		committed <- s.Update(context.Background(), func(tx store.Tx) error {
			close(inside)
			<-leave
			_, err := tx.Create(job(1, "vision", "train"))
			return err
		})
	}()
	<-inside
	go func() { closed <- s.Close() }()
	// Close has begun once others are refused, and can't have ended.
	deadline := time.Now().Add(10 * time.Second)
	for s.View(t.Context(), func(store.Tx) error { return nil }) == nil {
		if time.Now().After(deadline) {
			t.Fatal("transactions still begin 10 s after Close")
		}
	}
	select {
	case err := <-closed:
		close(leave)
		t.Fatalf("Close didn't wait for the transaction (%v)", err)
	default:
	}
	close(leave)
	if err := <-committed; err != nil {
		t.Errorf("the running transaction: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	wantCode(t, s.Update(t.Context(), writeEverything), penstock.Unavailable)
}

func testTimes(t *testing.T, s store.Store) {
	o := job(1, "vision", "train")
	o.Metadata.CreatedAt = time.Date(2026, 3, 1, 9, 30, 0, 123_456_789, time.FixedZone("CET", 3600))
	want := time.Date(2026, 3, 1, 8, 30, 0, 123_456_000, time.UTC)
	made := create(t, s, o)
	got := read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.ByUID(uid(1)) })
	for what, at := range map[string]time.Time{"Create": made.Metadata.CreatedAt, "ByUID": got.Metadata.CreatedAt} {
		if at != want {
			t.Errorf("%s gives %v, want %v", what, at, want)
		}
	}
}

func testZeroTimes(t *testing.T, s store.Store) {
	o := job(1, "vision", "train")
	o.Metadata.CreatedAt, o.Metadata.UpdatedAt = time.Time{}, time.Unix(0, 0).UTC()
	create(t, s, o)
	m := read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.ByUID(uid(1)) }).Metadata
	if !m.CreatedAt.IsZero() || !m.DeletedAt.IsZero() || m.UpdatedAt != time.Unix(0, 0).UTC() {
		t.Errorf("got %v, %v and %v", m.CreatedAt, m.DeletedAt, m.UpdatedAt)
	}
}

func testReopening(t *testing.T, open Open) {
	folder := t.TempDir()
	s := open(t, folder, plenty)
	update(t, s, writeEverything)
	want := everything(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = open(t, folder, plenty)
	defer s.Close()
	wantSame(t, everything(t, s), want)
	if got := read(t, s, func(tx store.Tx) (store.Answer, error) { return tx.Recall("ann", "k1") }); got.Status != 201 {
		t.Errorf("the answer is %+v", got)
	}
	// The counters went on too: 50 used and 100 held of 1000.
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Reserve(request("r3", 851), 1000) })
	wantCode(t, err, penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r3", 850), 1000) })
}
