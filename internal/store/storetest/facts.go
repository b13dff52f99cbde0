package storetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func event(n int, reason string) store.Event {
	return store.Event{At: minute(n), Project: "vision", Kind: penstock.KindJob, UID: uid(1), Name: "train", Reason: reason, Message: "on node a"}
}

func point(n int, step int64) v1.MetricPoint {
	return v1.MetricPoint{At: minute(n), Step: step, Values: map[string]float64{"loss": 1 / float64(step+1)}}
}

func checkpoint(step int64, c byte) v1.Checkpoint {
	return v1.Checkpoint{
		Job: uid(1), Step: step, Attempt: 1, Digest: digest(c), Bytes: 3, Committed: minute(int(step)),
		Files: []v1.File{{Path: "weights/0", Size: 3, Digest: digest('b')}},
	}
}

func move(n int) v1.AliasMove {
	return v1.AliasMove{Model: "resnet", Alias: "prod", From: digest('a'), To: digest('b'), By: "ann", At: minute(n), Note: "better"}
}

func answer(key string) store.Answer {
	return store.Answer{Actor: "ann", Key: key, Request: digest('c'), Status: 201, Body: []byte("{\"x\":\xff\x00}"), At: minute(1)}
}

func factTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"EventsAreTheNewestOnesOldestFirst":                      testEvents,
		"MetricsComeInOrderOfTimeAndBelongToTheirJob":            testMetrics,
		"MetricsAreThinnedEvenlyAndKeepBothEnds":                 testThinning,
		"AMetricThatIsNoNumberIsRefused":                         testNaN,
		"CheckpointsComeNewestStepFirstAndGoWhenDropped":         testCheckpoints,
		"TheSameCheckpointChangesNothingAndAnotherReplacesIt":    testCheckpointAgain,
		"AliasMovesAreThoseOfTheModelInOrder":                    testAliasMoves,
		"AnAnswerIsRecalledForItsActorAndKeyAndIsNotOverwritten": testAnswers,
		"AFactWithoutATimeIsRefused":                             testNoTime,
	}
}

func testEvents(t *testing.T, s store.Store) {
	late := event(9, "Late")
	other := event(3, "Other")
	other.UID = uid(2)
	foreign := event(4, "Foreign")
	foreign.Project, foreign.UID = "speech", uid(3)
	all := []store.Event{event(1, "A"), event(1, "B"), event(2, "C"), other, foreign, late}
	update(t, s, func(tx store.Tx) error {
		// Late is appended first: the order is that of time.
		for _, e := range append([]store.Event{late}, all[:len(all)-1]...) {
			if err := tx.AppendEvent(e); err != nil {
				return err
			}
		}
		return nil
	})
	for what, c := range map[string]struct {
		project string
		uid     penstock.UID
		limit   int
		want    []store.Event
	}{
		"of an object":             {"vision", uid(1), 10, []store.Event{all[0], all[1], all[2], late}},
		"the newest of an object":  {"vision", uid(1), 2, []store.Event{all[2], late}},
		"of a project":             {"vision", "", 10, []store.Event{all[0], all[1], all[2], other, late}},
		"the newest of a project":  {"vision", "", 2, []store.Event{other, late}},
		"of another's object":      {"vision", uid(3), 10, nil},
		"of everything":            {"", "", 0, all},
		"of what has none":         {"vision", uid(7), 10, nil},
		"of a project without any": {"audio", "", 10, nil},
	} {
		t.Run(what, func(t *testing.T) {
			got := read(t, s, func(tx store.Tx) ([]store.Event, error) { return tx.Events(c.project, c.uid, c.limit) })
			if len(got) == 0 {
				got = nil
			}
			wantSame(t, got, c.want)
		})
	}
}

func testMetrics(t *testing.T, s store.Store) {
	a, b, c := point(1, 10), point(2, 20), point(3, 5)
	c.Values = map[string]float64{"loss": 0.1, "lr": 1e-300, "neg": -math.MaxFloat64}
	update(t, s, func(tx store.Tx) error {
		if err := tx.AppendMetrics(uid(1), 2, []v1.MetricPoint{c}); err != nil {
			return err
		}
		if err := tx.AppendMetrics(uid(2), 1, []v1.MetricPoint{point(1, 1)}); err != nil {
			return err
		}
		return tx.AppendMetrics(uid(1), 1, []v1.MetricPoint{a, b})
	})
	wantSame(t, metrics(t, s, 3), []v1.MetricPoint{a, b, c})
	wantSame(t, metrics(t, s, 0), []v1.MetricPoint{a, b, c})
	wantSame(t, metrics(t, s, 2), []v1.MetricPoint{a, c})
	wantSame(t, metrics(t, s, 1), []v1.MetricPoint{c})
}

func metrics(t testing.TB, s store.Store, limit int) []v1.MetricPoint {
	return read(t, s, func(tx store.Tx) ([]v1.MetricPoint, error) { return tx.Metrics(uid(1), limit) })
}

// testThinning checks, for any number of points and limit, that limit points
// come, ordered, with both ends, and that no gap is more than one wider than
// another.
func testThinning(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 60).Draw(rt, "n")
		limit := rapid.IntRange(2, 60).Draw(rt, "limit")
		err := s.Update(t.Context(), func(tx store.Tx) error {
			points := make([]v1.MetricPoint, n)
			for i := range points {
				points[i] = point(i/3, int64(i)) // three at a time
			}
			if err := tx.AppendMetrics(uid(1), 1, points); err != nil {
				return err
			}
			got, err := tx.Metrics(uid(1), limit)
			if err != nil {
				return err
			}
			if len(got) != min(n, limit) || got[0].Step != 0 || got[len(got)-1].Step != int64(n-1) {
				rt.Fatalf("%d points from %d to %d, want %d from 0 to %d", len(got), got[0].Step, got[len(got)-1].Step, min(n, limit), n-1)
			}
			var gaps []int64
			for i := range got[1:] {
				gaps = append(gaps, got[i+1].Step-got[i].Step)
			}
			if least, most := slices.Min(gaps), slices.Max(gaps); least < 1 || most > least+1 {
				rt.Fatalf("the gaps are %v", gaps)
			}
			return errStop
		})
		if err != errStop {
			rt.Fatalf("update: %v", err)
		}
	})
}

func testNaN(t *testing.T, s store.Store) {
	before := everything(t, s)
	bad := point(2, 2)
	bad.Values["loss"] = math.NaN()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		tx.AppendMetrics(uid(1), 1, []v1.MetricPoint{point(1, 1), bad})
		return nil
	})
	wantCode(t, err, penstock.Invalid)
	wantSame(t, everything(t, s), before)
}

func testNoTime(t *testing.T, s store.Store) {
	for what, fn := range map[string]func(store.Tx) error{
		"event":  func(tx store.Tx) error { return tx.AppendEvent(store.Event{Reason: "Started"}) },
		"metric": func(tx store.Tx) error { return tx.AppendMetrics(uid(1), 1, []v1.MetricPoint{{Step: 1}}) },
		"audit":  func(tx store.Tx) error { _, err := tx.AppendAudit(store.AuditEntry{Actor: "ann"}); return err },
		"usage":  func(tx store.Tx) error { return tx.AppendUsage(store.Usage{ID: "u1", Outcome: "lost"}) },
		"rate":   func(tx store.Tx) error { return tx.AppendRate(store.Rate{Pool: "local"}) },
	} {
		wantCode(t, s.Update(t.Context(), fn), penstock.Invalid)
		if t.Failed() {
			t.Fatalf("a fact of sort %s without a time", what)
		}
	}
}

func testCheckpoints(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error {
		for _, step := range []int64{20, 100, 3} {
			if err := tx.CommitCheckpoint(checkpoint(step, 'a')); err != nil {
				return err
			}
		}
		return nil
	})
	wantSame(t, checkpoints(t, s), []v1.Checkpoint{checkpoint(100, 'a'), checkpoint(20, 'a'), checkpoint(3, 'a')})
	for range 2 { // the second time there is nothing to drop
		update(t, s, func(tx store.Tx) error { return tx.DropCheckpoint(uid(1), 20) })
		wantSame(t, checkpoints(t, s), []v1.Checkpoint{checkpoint(100, 'a'), checkpoint(3, 'a')})
	}
}

func checkpoints(t *testing.T, s store.Store) []v1.Checkpoint {
	return read(t, s, func(tx store.Tx) ([]v1.Checkpoint, error) { return tx.Checkpoints(uid(1)) })
}

func testCheckpointAgain(t *testing.T, s store.Store) {
	first := checkpoint(10, 'a')
	same := first
	same.Attempt, same.Bytes, same.Committed = 2, 99, minute(50)
	retrained := checkpoint(10, 'd')
	retrained.Attempt, retrained.Committed, retrained.Files = 3, minute(60), []v1.File{{Path: "x", Size: 1, Digest: digest('e')}}
	for _, step := range []struct{ commit, want v1.Checkpoint }{{first, first}, {same, first}, {retrained, retrained}} {
		update(t, s, func(tx store.Tx) error { return tx.CommitCheckpoint(step.commit) })
		wantSame(t, checkpoints(t, s), []v1.Checkpoint{step.want})
	}
}

func testAliasMoves(t *testing.T, s store.Store) {
	a, b := move(1), move(2)
	b.From, b.Note = "", ""
	elsewhere := move(3)
	elsewhere.Model = "bert"
	update(t, s, func(tx store.Tx) error {
		for project, moves := range map[string][]v1.AliasMove{"vision": {a, elsewhere, b}, "speech": {move(4)}} {
			for _, m := range moves {
				if err := tx.AppendAliasMove(m, project); err != nil {
					return err
				}
			}
		}
		return nil
	})
	wantSame(t, read(t, s, func(tx store.Tx) ([]v1.AliasMove, error) { return tx.AliasMoves("vision", "resnet") }), []v1.AliasMove{a, b})
}

func testAnswers(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Remember(answer("k1")) })
	recall := func(actor, key string) (a store.Answer, err error) {
		err = s.View(t.Context(), func(tx store.Tx) (err error) { a, err = tx.Recall(actor, key); return err })
		return a, err
	}
	for _, c := range []struct{ actor, key string }{{"bob", "k1"}, {"ann", "k2"}} {
		_, err := recall(c.actor, c.key)
		wantCode(t, err, penstock.NotFound)
	}
	again := answer("k1")
	again.Status = 500
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.Remember(again) }), penstock.Exists)
	got, err := recall("ann", "k1")
	if err != nil {
		t.Fatal(fmt.Errorf("recall: %w", err))
	}
	wantSame(t, got, answer("k1"))
}
