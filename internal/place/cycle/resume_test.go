package cycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// TestAStateBuiltAnewGoesOnAsTheOldOne is I10: what runs is resumed, what waits
// is submitted again, and from then on both states decide alike.
func TestAStateBuiltAnewGoesOnAsTheOldOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Defaults()
		p.Preemption.Most, p.HalfLife = 0, 0
		w, specs := newWorld(t, p)
		for range rapid.IntRange(1, 8).Draw(t, "jobs") {
			j := drawJob(t, penstock.UID(fmt.Sprint(len(w.s.jobs))), w.now)
			j.Queue, j.Sets = "free", j.Sets[:1] // several sets may find by luck, later, what they didn't find first
			w.must(t, w.s.Submit(j))
		}
		w.s.Cycle(w.now)
		again := New(p)
		w.must(t, again.SetPool("p", levels...))
		w.must(t, again.SetQueue(quota.Spec{Name: "free"}, Backfill))
		for _, spec := range specs {
			w.must(t, again.SetNode("p", spec))
		}
		for _, r := range w.s.Running() {
			w.must(t, again.Resume(w.s.jobs[r.Job].spec, *r.Placement, r.Since, r.Since))
		}
		for _, id := range sortedJobs(w.s) {
			if w.s.jobs[id].phase == pending {
				w.must(t, again.Submit(w.s.jobs[id].spec))
			}
		}
		if found := faults(again, true); len(found) > 0 {
			t.Fatal(found)
		}
		again.Cycle(w.now)
		for _, r := range w.s.Running()[:len(w.s.Running())/2] {
			w.must(t, w.s.Finished(r.Job))
			w.must(t, again.Finished(r.Job))
		}
		later := w.now.Add(time.Hour)
		w.s.Cycle(later)
		again.Cycle(later)
		if diff := cmp.Diff(w.s.Running(), again.Running()); diff != "" {
			t.Fatalf("what runs (-old +anew):\n%s", diff)
		}
	})
}

func TestWhatCantRunThereIsntResumed(t *testing.T) {
	c := newScenario()
	for _, line := range []string{"pool p", "node a cpu=4 h100=2", "queue q"} {
		if said := c.run(t, line); said != "" {
			t.Fatal(said)
		}
	}
	spec := c.job(t, []string{"one", "in=q", ":", "w", "x2", "h100=1"})
	at := func(tasks ...Placed) Placement { return Placement{"p", tasks} }
	for name, place := range map[string]Placement{
		"an unknown pool":   {"mars", nil},
		"half of the gang":  at(Placed{"w", 0, "a", []string{"h100-0"}}),
		"an unknown node":   at(Placed{"w", 0, "b", []string{"h100-0"}}, Placed{"w", 1, "b", []string{"h100-1"}}),
		"an unknown device": at(Placed{"w", 0, "a", []string{"h100-7"}}, Placed{"w", 1, "a", []string{"h100-1"}}),
		"no device":         at(Placed{"w", 0, "a", nil}, Placed{"w", 1, "a", nil}),
		"one device twice":  at(Placed{"w", 0, "a", []string{"h100-0"}}, Placed{"w", 1, "a", []string{"h100-0"}}),
		"an unknown set":    at(Placed{"x", 0, "a", []string{"h100-0"}}),
	} {
		if err := c.s.Resume(spec, place, c.now, c.now); err == nil {
			t.Errorf("%s: resumed", name)
		}
		if found := faults(c.s, true); len(found) > 0 || len(c.s.jobs) > 0 {
			t.Errorf("%s: left behind %v and %d jobs", name, found, len(c.s.jobs))
		}
	}
}
