package storetest

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func changeTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"EveryChangeIsLoggedWithTheObjectAsItWasAfter": testLog,
		"AWatchGoesOnWhereItStopped":                   testResume,
		"RevisionsHaveNoGapsAndRolledBackOnesAreReused": func(t *testing.T, s store.Store) {
			for n := range 3 {
				s.Update(t.Context(), func(tx store.Tx) error {
					if _, err := tx.Create(job(100+n, "vision", "never")); err != nil {
						return err
					}
					return errStop
				})
				made := create(t, s, job(n, "vision", fmt.Sprintf("job-%d", n)))
				if made.Metadata.Revision != int64(n+1) {
					t.Errorf("change %d has revision %d", n+1, made.Metadata.Revision)
				}
			}
		},
		"ARevisionThatIsStillToComeIsConflict": func(t *testing.T, s store.Store) {
			create(t, s, job(1, "vision", "train"))
			err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.Changes(2, 0); return err })
			wantCode(t, err, penstock.Conflict)
		},
	}
}

func testLog(t *testing.T, s store.Store) {
	o := job(1, "vision", "train")
	o.Metadata.Labels = map[string]string{"team": "red"}
	o.Spec = json.RawMessage(`{ "a": "<>" }`)
	var want []store.Change
	log := func(op store.Op, o v1.Object) {
		want = append(want, store.Change{Revision: o.Metadata.Revision, Op: op, Object: o})
	}
	update(t, s, func(tx store.Tx) (err error) {
		if o, err = tx.Create(o); err != nil {
			return err
		}
		log(store.Created, o)
		o.Metadata.Phase, o.Metadata.Labels, o.Status = penstock.PhaseQueued, nil, json.RawMessage(`{"attempt":1}`)
		if o, err = tx.Update(o); err != nil {
			return err
		}
		log(store.Updated, o)
		return nil
	})
	update(t, s, func(tx store.Tx) error { return tx.Delete(uid(1), o.Metadata.Revision) })
	// A deletion has a revision of its own.
	o.Metadata.Revision++
	log(store.Deleted, o)
	wantSame(t, read(t, s, func(tx store.Tx) ([]store.Change, error) { return tx.Changes(0, 0) }), want)
	if newest := read(t, s, func(tx store.Tx) (int64, error) { return tx.Revision() }); newest != o.Metadata.Revision {
		t.Errorf("the newest revision is %d, want %d", newest, o.Metadata.Revision)
	}
}

func testResume(t *testing.T, s store.Store) {
	for n := range 10 {
		create(t, s, job(n, "vision", fmt.Sprintf("job-%d", n)))
	}
	var seen []penstock.UID
	for after := int64(0); ; {
		changes := read(t, s, func(tx store.Tx) ([]store.Change, error) { return tx.Changes(after, 3) })
		if len(changes) > 3 {
			t.Fatalf("%d changes, want 3 at most", len(changes))
		}
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			seen, after = append(seen, c.Object.Metadata.UID), c.Revision
		}
	}
	wantSame(t, seen, uids(read(t, s, func(tx store.Tx) ([]v1.Object, error) { return tx.List(store.Query{}) })))
}

// testTrimming fills a log that keeps 50 revisions, over several transactions
// and a reopening.
func testTrimming(t *testing.T, open Open) {
	const keep, total = 50, 320
	folder := t.TempDir()
	s := open(t, folder, keep)
	o := create(t, s, job(1, "vision", "train"))
	for o.Metadata.Revision < total {
		update(t, s, func(tx store.Tx) (err error) {
			for range 11 {
				if o, err = tx.Update(o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = open(t, folder, keep)
	defer s.Close()
	newest := read(t, s, func(tx store.Tx) (int64, error) { return tx.Revision() })
	if newest != o.Metadata.Revision {
		t.Errorf("the newest revision is %d, want %d", newest, o.Metadata.Revision)
	}
	for after := int64(-1); after <= newest; after++ {
		var changes []store.Change
		err := s.View(t.Context(), func(tx store.Tx) (err error) { changes, err = tx.Changes(after, 0); return err })
		switch {
		case err == nil && after > newest-2*keep: // then all of them, or it would be Conflict
			if int64(len(changes)) != newest-after {
				t.Errorf("%d changes after revision %d, want %d", len(changes), after, newest-after)
			}
		case after < newest-keep:
			wantCode(t, err, penstock.Conflict)
		default:
			t.Errorf("after revision %d of %d: %v", after, newest, err)
		}
	}
}
