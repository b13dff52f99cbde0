package storetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func objectTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"CreateKeepsEveryFieldAndEveryByte":              testCreate,
		"WhatIsNotThereIsNotFound":                       testMissing,
		"ATakenNameIsExistsUntilItsObjectIsDeleted":      testTakenName,
		"ATakenUIDIsExists":                              testTakenUID,
		"UpdateReplacesWhatItSaysAndNothingElse":         testUpdate,
		"GenerationCountsChangesOfTheSpecsBytes":         testGeneration,
		"AStaleRevisionIsConflictAndChangesNothing":      testStale,
		"EveryPhaseCanBeKept":                            testPhases,
		"IncrementsOfManyWritersAreAllCounted":           testIncrements,
		"OptimisticLockingIsLinearizable":                testLinearizable,
		"TheObjectHandedInIsNotSharedWithTheOneGivenOut": testNoAliasing,
	}
}

func testCreate(t *testing.T, s store.Store) {
	full := v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindDataset,
		Metadata: v1.Metadata{
			UID: uid(1), Project: "vision", Name: "images", Labels: map[string]string{"team": "räd", "": "empty key"},
			Owner: uid(9), Phase: penstock.PhaseReady, CreatedBy: "ann",
			CreatedAt: minute(1), UpdatedAt: minute(2), DeletedAt: minute(3),
		},
		Spec: json.RawMessage("{ \"a\" : \"<&>\u2028\" ,\n\"b\":1e400}"), Status: json.RawMessage(`{"x":null}`),
	}
	bare := v1.Object{APIVersion: v1.Version, Kind: penstock.KindPool, Metadata: v1.Metadata{UID: uid(2), Name: "local"}}
	for _, o := range []v1.Object{full, bare} {
		made := create(t, s, o)
		want := o
		want.Metadata.Generation = 1
		want.Metadata.Revision = made.Metadata.Revision
		wantSame(t, made, want)
		wantSame(t, read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.Get(o.Ref()) }), want)
		wantSame(t, read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.ByUID(o.Metadata.UID) }), want)
		newest := read(t, s, func(tx store.Tx) (int64, error) { return tx.Revision() })
		if made.Metadata.Revision != newest || newest == 0 {
			t.Errorf("revision is %d, the newest %d", made.Metadata.Revision, newest)
		}
	}
}

func testMissing(t *testing.T, s store.Store) {
	create(t, s, job(1, "vision", "train"))
	for what, fn := range map[string]func(store.Tx) error{
		"Get, other name":    func(tx store.Tx) error { _, err := tx.Get(job(1, "vision", "tune").Ref()); return err },
		"Get, other project": func(tx store.Tx) error { _, err := tx.Get(job(1, "speech", "train").Ref()); return err },
		"Get, other kind": func(tx store.Tx) error {
			_, err := tx.Get(penstock.Ref{Kind: penstock.KindModel, Project: "vision", Name: "train"})
			return err
		},
		"ByUID":  func(tx store.Tx) error { _, err := tx.ByUID(uid(2)); return err },
		"Update": func(tx store.Tx) error { _, err := tx.Update(job(2, "vision", "train")); return err },
		"Delete": func(tx store.Tx) error { return tx.Delete(uid(2), 1) },
	} {
		t.Run(what, func(t *testing.T) { wantCode(t, refuse(t, s, fn), penstock.NotFound) })
	}
}

func testTakenName(t *testing.T, s store.Store) {
	first := create(t, s, job(1, "vision", "train"))
	second := job(2, "vision", "train")
	again := func(tx store.Tx) error { _, err := tx.Create(second); return err }
	wantCode(t, refuse(t, s, again), penstock.Exists)

	create(t, s, job(3, "speech", "train"))
	model := job(4, "vision", "train")
	model.Kind = penstock.KindModel
	create(t, s, model)

	update(t, s, func(tx store.Tx) error { return tx.Delete(uid(1), first.Metadata.Revision) })
	update(t, s, again)
	got := read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.Get(second.Ref()) })
	if got.Metadata.UID != uid(2) {
		t.Errorf("the name leads to %s, want the new object", got.Metadata.UID)
	}
}

func testTakenUID(t *testing.T, s store.Store) {
	create(t, s, job(1, "vision", "train"))
	wantCode(t, refuse(t, s, func(tx store.Tx) error { _, err := tx.Create(job(1, "vision", "tune")); return err }), penstock.Exists)
}

func testUpdate(t *testing.T, s store.Store) {
	o := job(1, "vision", "train")
	o.Metadata.Labels = map[string]string{"team": "red", "env": "prod"}
	old := create(t, s, o)
	change := v1.Object{
		Kind: penstock.KindModel,
		Metadata: v1.Metadata{
			UID: uid(1), Revision: old.Metadata.Revision, Project: "speech", Name: "other", Owner: uid(7), CreatedBy: "eve", Generation: 40,
			Labels: map[string]string{"team": "blue"}, Phase: penstock.PhaseQueued,
			CreatedAt: minute(5), UpdatedAt: minute(6), DeletedAt: minute(7),
		},
		Spec: json.RawMessage(`{"priority":2}`), Status: json.RawMessage(`{"attempt":1}`),
	}
	var got v1.Object
	update(t, s, func(tx store.Tx) (err error) { got, err = tx.Update(change); return err })
	want := old
	want.Spec, want.Status = change.Spec, change.Status
	m := &want.Metadata
	m.Labels, m.Phase, m.Generation, m.Revision = change.Metadata.Labels, change.Metadata.Phase, 2, got.Metadata.Revision
	m.CreatedAt, m.UpdatedAt, m.DeletedAt = minute(5), minute(6), minute(7)
	wantSame(t, got, want)
	wantSame(t, read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.ByUID(uid(1)) }), want)
	if got.Metadata.Revision <= old.Metadata.Revision {
		t.Errorf("revision went from %d to %d", old.Metadata.Revision, got.Metadata.Revision)
	}
	for label, found := range map[string]int{"red": 0, "blue": 1} {
		list := read(t, s, func(tx store.Tx) ([]v1.Object, error) {
			return tx.List(store.Query{Labels: map[string]string{"team": label}})
		})
		if len(list) != found {
			t.Errorf("%d objects have team=%s, want %d", len(list), label, found)
		}
	}
}

func testGeneration(t *testing.T, s store.Store) {
	o := create(t, s, job(1, "vision", "train"))
	for _, step := range []struct {
		spec string
		want int64
	}{{`{"priority":1}`, 1}, {`{"priority":2}`, 2}, {`{"priority": 2}`, 3}, {`{"priority": 2}`, 3}, {"", 4}} {
		o.Spec, o.Metadata.Phase = json.RawMessage(step.spec), penstock.PhaseQueued
		update(t, s, func(tx store.Tx) (err error) { o, err = tx.Update(o); return err })
		if o.Metadata.Generation != step.want {
			t.Errorf("after spec %s the generation is %d, want %d", step.spec, o.Metadata.Generation, step.want)
		}
	}
}

func testStale(t *testing.T, s store.Store) {
	old := create(t, s, job(1, "vision", "train"))
	update(t, s, func(tx store.Tx) error { _, err := tx.Update(old); return err })
	wantCode(t, refuse(t, s, func(tx store.Tx) error { _, err := tx.Update(old); return err }), penstock.Conflict)
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.Delete(uid(1), old.Metadata.Revision) }), penstock.Conflict)
}

func testPhases(t *testing.T, s store.Store) {
	for n, p := range append(penstock.Phases(), "") {
		o := job(n+1, "vision", fmt.Sprintf("job-%d", n))
		o.Metadata.Phase = p
		if got := create(t, s, o); got.Metadata.Phase != p {
			t.Errorf("phase %q came back as %q", p, got.Metadata.Phase)
		}
	}
}

func testNoAliasing(t *testing.T, s store.Store) {
	o := job(1, "vision", "train")
	o.Metadata.Labels = map[string]string{"team": "red"}
	made := create(t, s, o)
	made.Metadata.Labels["team"] = "blue"
	made.Spec[1] = 'X'
	if o.Metadata.Labels["team"] != "red" || string(o.Spec) != `{"priority":1}` {
		t.Errorf("changing the answer changed what was handed in: %v %s", o.Metadata.Labels, o.Spec)
	}
}

func testIncrements(t *testing.T, s store.Store) {
	o := job(1, "vision", "counter")
	o.Spec = json.RawMessage("0")
	create(t, s, o)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				switch err := increment(t, s); penstock.CodeOf(err) {
				case "":
					done++
				case penstock.Conflict: // somebody was faster; again
				default:
					t.Errorf("update: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := read(t, s, func(tx store.Tx) (v1.Object, error) { return tx.ByUID(uid(1)) })
	if string(got.Spec) != fmt.Sprint(writers*each) || got.Metadata.Generation != writers*each+1 {
		t.Errorf("the counter is %s and the generation %d after %d increments", got.Spec, got.Metadata.Generation, writers*each)
	}
}

// increment reads in one transaction and writes in another, as a client does.
func increment(t *testing.T, s store.Store) error {
	var o v1.Object
	if err := s.View(t.Context(), func(tx store.Tx) (err error) { o, err = tx.ByUID(uid(1)); return err }); err != nil {
		return err
	}
	var n int
	if err := json.Unmarshal(o.Spec, &n); err != nil {
		return err
	}
	o.Spec = json.RawMessage(fmt.Sprint(n + 1))
	return s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Update(o); return err })
}

// register is the state of the model of one object: what it holds and since
// which revision.
type register struct {
	revision int64
	value    string
}

// registerOp reads the register, or writes it where it still has a revision.
type registerOp struct {
	write bool
	register
}

// registerModel is a register with compare-and-set by revision.
func registerModel(initial register) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(s, i, o any) (bool, any) {
			state, in, out := s.(register), i.(registerOp), o.(register)
			switch {
			case !in.write:
				return out == state, state
			case out.revision == 0: // conflict
				return in.revision != state.revision, state
			default:
				return in.revision == state.revision && out.value == in.value, out
			}
		},
	}
}

func testLinearizable(t *testing.T, s store.Store) {
	made := create(t, s, job(1, "vision", "register"))
	begin := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	var wg sync.WaitGroup
	for client := range 6 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(client)))
			known := made
			for i := range 25 {
				in := registerOp{write: random.IntN(2) == 0, register: register{known.Metadata.Revision, fmt.Sprintf(`"%d-%d"`, client, i)}}
				call := time.Since(begin)
				got, err := registerCall(t, s, known, in)
				end := time.Since(begin)
				out := register{got.Metadata.Revision, string(got.Spec)}
				if penstock.CodeOf(err) == penstock.Conflict {
					out = register{}
				} else if err != nil {
					t.Errorf("call: %v", err)
					return
				} else {
					known = got
				}
				mu.Lock()
				history = append(history, porcupine.Operation{
					ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(end),
				})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	model := registerModel(register{made.Metadata.Revision, string(made.Spec)})
	if result := porcupine.CheckOperationsTimeout(model, history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history of %d calls is %s", len(history), result)
	}
}

func registerCall(t *testing.T, s store.Store, known v1.Object, in registerOp) (o v1.Object, err error) {
	if in.write {
		known.Spec = json.RawMessage(in.value)
		err = s.Update(t.Context(), func(tx store.Tx) (err error) { o, err = tx.Update(known); return err })
		return o, err
	}
	err = s.View(t.Context(), func(tx store.Tx) (err error) { o, err = tx.ByUID(uid(1)); return err })
	return o, err
}
