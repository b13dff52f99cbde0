package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func edgeTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"LinksAreFoundFromBothEnds":                   testLinks,
		"LinkingTwiceChangesNothing":                  testLinkTwice,
		"ALinkNeedsTwoObjectsThatAreThere":            testLinkMissing,
		"AnObjectThatOthersUseIsBusyUntilTheyAreGone": testBusy,
		"TheFactsOfADeletedObjectStay":                testFactsStay,
	}
}

func testLinks(t *testing.T, s store.Store) {
	for n := range 4 {
		create(t, s, job(n, "vision", fmt.Sprintf("job-%d", n)))
	}
	edges := []store.Edge{
		{From: uid(1), To: uid(0), Relation: "job"},
		{From: uid(2), To: uid(1), Relation: "base"},
		{From: uid(2), To: uid(1), Relation: "dataset"},
		{From: uid(3), To: uid(2), Relation: "trigger"},
	}
	update(t, s, func(tx store.Tx) error {
		for _, e := range edges {
			if err := tx.Link(e); err != nil {
				return err
			}
		}
		return nil
	})
	links := func(n int) []store.Edge {
		return read(t, s, func(tx store.Tx) ([]store.Edge, error) { return tx.Links(uid(n)) })
	}
	wantSame(t, links(1), edges[:3])
	wantSame(t, links(3), edges[3:])
	wantSame(t, links(9), nil)
}

func testLinkTwice(t *testing.T, s store.Store) {
	update(t, s, writeEverything)
	if err := refuse(t, s, func(tx store.Tx) error { return tx.Link(store.Edge{From: uid(2), To: uid(1), Relation: "job"}) }); err != nil {
		t.Errorf("linking again: %v", err)
	}
}

func testLinkMissing(t *testing.T, s store.Store) {
	create(t, s, job(1, "vision", "train"))
	for _, e := range []store.Edge{{From: uid(1), To: uid(2), Relation: "job"}, {From: uid(2), To: uid(1), Relation: "job"}} {
		wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.Link(e) }), penstock.NotFound)
	}
	loop := store.Edge{From: uid(1), To: uid(1), Relation: "job"}
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.Link(loop) }), penstock.Invalid)
}

func testBusy(t *testing.T, s store.Store) {
	update(t, s, writeEverything)
	remove := func(n int) func(store.Tx) error {
		return func(tx store.Tx) error {
			o, err := tx.ByUID(uid(n))
			if err != nil {
				return err
			}
			return tx.Delete(uid(n), o.Metadata.Revision)
		}
	}
	wantCode(t, refuse(t, s, remove(1)), penstock.Busy)
	update(t, s, remove(2))
	wantSame(t, read(t, s, func(tx store.Tx) ([]store.Edge, error) { return tx.Links(uid(1)) }), nil)
	update(t, s, remove(1))
}

func testFactsStay(t *testing.T, s store.Store) {
	update(t, s, writeEverything)
	want := everything(t, s)
	update(t, s, func(tx store.Tx) error {
		for _, o := range []v1.Object{want.Objects[1], want.Objects[0]} {
			if err := tx.Delete(o.Metadata.UID, o.Metadata.Revision); err != nil {
				return err
			}
		}
		return nil
	})
	got := everything(t, s)
	want.Objects, want.Edges, want.Changes = nil, nil, got.Changes
	wantSame(t, got, want)
}

func listTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"AListIsInOrderOfCreationAndPagesAddUp": testListAgainstModel,
		"AnEmptyListIsNoError": func(t *testing.T, s store.Store) {
			wantSame(t, read(t, s, func(tx store.Tx) ([]v1.Object, error) { return tx.List(store.Query{}) }), nil)
		},
	}
}

// testListAgainstModel compares List with choosing from a slice, for random
// objects and queries, page by page. Each case is rolled back, so that one
// database does for all of them.
func testListAgainstModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		objects := rapid.SliceOfN(drawObject(), 0, 12).Draw(rt, "objects")
		for i := range objects {
			objects[i].Metadata.Name = fmt.Sprintf("object-%d", i)
			objects[i].Metadata.UID = uid(i)
		}
		q := drawQuery().Draw(rt, "query")
		limit := rapid.IntRange(1, 5).Draw(rt, "page")
		var want []penstock.UID
		for _, o := range objects {
			if chosen(q, o) {
				want = append(want, o.Metadata.UID)
			}
		}
		err := s.Update(t.Context(), func(tx store.Tx) error {
			for _, i := range rapid.Permutation(indices(objects)).Draw(rt, "order") {
				if _, err := tx.Create(objects[i]); err != nil {
					return err
				}
			}
			comparePages(rt, tx, q, limit, want)
			return errStop
		})
		if err != errStop {
			rt.Fatalf("update: %v", err)
		}
	})
}

func indices[T any](s []T) []int {
	n := make([]int, len(s))
	for i := range n {
		n[i] = i
	}
	return n
}

func comparePages(rt *rapid.T, tx store.Tx, q store.Query, limit int, want []penstock.UID) {
	whole, err := tx.List(q)
	if err != nil {
		rt.Fatalf("list: %v", err)
	}
	if got := uids(whole); !slices.Equal(got, want) {
		rt.Fatalf("the whole list is %v, want %v", got, want)
	}
	var paged []penstock.UID
	q.Limit = limit
	for {
		page, err := tx.List(q)
		if err != nil {
			rt.Fatalf("list a page: %v", err)
		}
		if len(page) > limit {
			rt.Fatalf("a page of %d has %d", limit, len(page))
		}
		paged = append(paged, uids(page)...)
		if len(page) < limit || len(paged) > len(want) {
			break
		}
		q.After = page[len(page)-1].Metadata.UID
	}
	if !slices.Equal(paged, want) {
		rt.Fatalf("the pages are %v, want %v", paged, want)
	}
}

func uids(objects []v1.Object) []penstock.UID {
	var out []penstock.UID
	for _, o := range objects {
		out = append(out, o.Metadata.UID)
	}
	return out
}

// chosen is what a Query means.
func chosen(q store.Query, o v1.Object) bool {
	m := o.Metadata
	return cmp.Or(q.Kind, o.Kind) == o.Kind && cmp.Or(q.Project, m.Project) == m.Project && cmp.Or(q.Owner, m.Owner) == m.Owner &&
		(len(q.Phases) == 0 || slices.Contains(q.Phases, m.Phase)) && (!q.Retiring || !m.DeletedAt.IsZero()) && m.UID > q.After &&
		!slices.ContainsFunc(slices.Collect(maps.Keys(q.Labels)), func(key string) bool {
			value, there := m.Labels[key]
			return !there || value != q.Labels[key]
		})
}

var (
	someKinds    = rapid.SampledFrom([]penstock.Kind{penstock.KindJob, penstock.KindModel})
	someProjects = rapid.SampledFrom([]string{"vision", "speech"})
	somePhases   = rapid.SampledFrom([]penstock.Phase{penstock.PhasePending, penstock.PhaseReady, penstock.PhaseFailed})
	someOwners   = rapid.SampledFrom([]penstock.UID{"", uid(100), uid(101)})
	someLabels   = rapid.MapOfN(rapid.SampledFrom([]string{"team", "env", "a.b"}), rapid.SampledFrom([]string{"", "x", "y%"}), 0, 2)
)

func drawObject() *rapid.Generator[v1.Object] {
	return rapid.Custom(func(rt *rapid.T) v1.Object {
		o := v1.Object{Kind: someKinds.Draw(rt, "kind"), Metadata: v1.Metadata{
			Project: someProjects.Draw(rt, "project"), Phase: somePhases.Draw(rt, "phase"),
			Owner: someOwners.Draw(rt, "owner"), Labels: someLabels.Draw(rt, "labels"),
		}}
		if rapid.Bool().Draw(rt, "retiring") {
			o.Metadata.DeletedAt = start
		}
		return o
	})
}

func drawQuery() *rapid.Generator[store.Query] {
	return rapid.Custom(func(rt *rapid.T) store.Query {
		q := store.Query{Owner: someOwners.Draw(rt, "owner"), Retiring: rapid.Bool().Draw(rt, "retiring")}
		if rapid.Bool().Draw(rt, "by kind") {
			q.Kind = someKinds.Draw(rt, "kind")
		}
		if rapid.Bool().Draw(rt, "by project") {
			q.Project = someProjects.Draw(rt, "project")
		}
		if rapid.Bool().Draw(rt, "by label") {
			q.Labels = someLabels.Draw(rt, "labels")
		}
		if rapid.Bool().Draw(rt, "after") {
			q.After = uid(rapid.IntRange(0, 12).Draw(rt, "n"))
		}
		q.Phases = rapid.SliceOfN(somePhases, 0, 2).Draw(rt, "phases")
		return q
	})
}
