package cycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// tell words decisions so that two runs can be compared.
func tell(decisions []Decision) string {
	var b strings.Builder
	for _, d := range decisions {
		fmt.Fprint(&b, d.Verdict, " ", d.Job, " ", d.For, " ", d.Jobs)
		if d.Placement != nil {
			fmt.Fprintf(&b, " %+v", *d.Placement)
		}
		if d.Verdict == Wait {
			fmt.Fprintf(&b, " %s", d.Reason())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// moment is events of one time, none of which depends on another.
type moment struct {
	now    time.Time
	events []func(*State) error
}

func (m moment) apply(t *rapid.T, s *State, order []int) string {
	for _, i := range order {
		if err := m.events[i](s); err != nil {
			t.Fatal(err)
		}
	}
	return tell(s.Cycle(m.now))
}

// drawMoment makes events for the jobs and nodes that there are in a state.
func drawMoment(t *rapid.T, s *State, now time.Time, made *int) moment {
	m := moment{now: now}
	for range rapid.IntRange(0, 4).Draw(t, "submitted") {
		*made++
		j := drawJob(t, penstock.UID(fmt.Sprintf("j%03d", *made)), now)
		m.events = append(m.events, func(s *State) error { return s.Submit(j) })
	}
	for _, id := range sortedJobs(s) {
		switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
		case what == 0:
			m.events = append(m.events, func(s *State) error { return s.Finished(id) })
		case what <= 2 && (s.jobs[id].phase == running || s.jobs[id].phase == stopping):
			m.events = append(m.events, func(s *State) error { return s.Requeued(id) })
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "fleet") == 0 {
		spec := drawNode(t, rapid.IntRange(0, 3).Draw(t, "node"))
		m.events = append(m.events, func(s *State) error { return s.SetNode("p", spec) })
	}
	return m
}

func drawNode(t *rapid.T, i int) fleet.Spec {
	return fleet.Spec{
		Name:     fmt.Sprintf("n%d", i),
		Topology: []string{rapid.SampledFrom([]string{"b1", "b2"}).Draw(t, "block"), rapid.SampledFrom([]string{"r1", "r2", ""}).Draw(t, "rack")},
		Capacity: penstock.Resources{"cpu": penstock.Amount(rapid.IntRange(1, 8).Draw(t, "cpu") * 1000), "h100": penstock.Amount(rapid.IntRange(0, 4).Draw(t, "h100") * 1000)},
	}
}

// TestTheOrderOfEventsOfOneMomentDecidesNothing is I9: whatever was told first,
// of queues, nodes and jobs, the decisions are the same, and so is what they are
// made of. Each run has its own maps, with their own order.
func TestTheOrderOfEventsOfOneMomentDecidesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Defaults()
		p.Preemption.MinRuntime, p.HalfLife = time.Minute, time.Hour
		a, b := New(p), New(p)
		now := time.Unix(1_700_000_000, 0)
		setup := moment{now: now, events: []func(*State) error{
			func(s *State) error { return s.SetPool("other") },
		}}
		for i := range 4 {
			spec := drawNode(t, i)
			setup.events = append(setup.events, func(s *State) error { return s.SetNode("p", spec) })
		}
		for _, q := range trees()[2:] {
			setup.events = append(setup.events, func(s *State) error { return s.SetQueue(q, Backfill) })
		}
		for _, s := range []*State{a, b} {
			for _, err := range []error{s.SetPool("p", levels...), s.SetQueue(trees()[0], Backfill), s.SetQueue(trees()[1], Backfill)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		made, told := 0, ""
		for m, n := setup, rapid.IntRange(1, 12).Draw(t, "moments"); n > 0; n-- {
			order := make([]int, len(m.events))
			for i := range order {
				order[i] = i
			}
			first := m.apply(t, a, order)
			other := m.apply(t, b, rapid.Permutation(order).Draw(t, "order"))
			if diff := cmp.Diff(first, other); diff != "" {
				t.Fatalf("after\n%s(-as told +shuffled):\n%s", told, diff)
			}
			told += first
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "minutes")) * time.Minute)
			m = drawMoment(t, a, now, &made)
		}
		if diff := cmp.Diff(a.Running(), b.Running()); diff != "" {
			t.Fatalf("what runs (-as told +shuffled):\n%s", diff)
		}
	})
}

// TestPreemptionComesToRest is I6: with nothing new, and everybody who gives way
// queueing again at once, evictions end.
func TestPreemptionComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		for range rapid.IntRange(1, 12).Draw(t, "jobs") {
			m.submit(t)
			if rapid.Bool().Draw(t, "cycle") {
				m.s.Cycle(m.now)
				m.now = m.now.Add(10 * time.Minute)
			}
		}
		quiet := 0
		for i := range 400 {
			m.now = m.now.Add(3 * time.Minute)
			m.s.Cycle(m.now)
			quiet++
			for _, id := range sortedJobs(m.s) {
				if m.s.jobs[id].phase == stopping {
					m.must(t, m.s.Requeued(id))
					quiet = 0
				}
			}
			if quiet > 50 {
				return
			}
			if i == 399 {
				t.Fatalf("jobs still give way after %d cycles in which nothing else happened", i)
			}
		}
	})
}

// trial is a queue whose jobs all end in time, and what its heads were told.
type trial struct {
	*world
	said, ends map[penstock.UID]time.Time
}

// step lets up to 5 minutes pass, ends what has ended, adds a job and decides.
func (w *trial) step(t *rapid.T, i int) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute)
	for _, id := range sortedJobs(w.s) {
		if end, runs := w.ends[id]; runs && !end.After(w.now) {
			w.must(t, w.s.Finished(id))
		}
	}
	j := drawJob(t, penstock.UID(fmt.Sprintf("j%03d", i)), w.now)
	j.Queue, j.Priority, j.QueuedAt, j.Endless, j.Sets = "free", 0, w.now, false, j.Sets[:1]
	j.Limit = time.Duration(rapid.IntRange(1, 30).Draw(t, "limit")) * time.Minute
	w.must(t, w.s.Submit(j))
	for _, d := range w.s.Cycle(w.now) {
		if d.Verdict == Start {
			early := time.Duration(rapid.IntRange(0, 3).Draw(t, "early")) * time.Minute
			w.ends[d.Job] = w.now.Add(w.s.jobs[d.Job].spec.Limit - early)
		}
	}
	for _, d := range w.s.desks {
		if d.hold != nil && d.hold.known {
			if _, before := w.said[d.hold.id]; !before {
				w.said[d.hold.id] = d.hold.start
			}
		}
	}
}

// TestTheHeadStartsNoLaterThanItWasTold is I8: in one queue whose jobs all end
// in time, who finds no room first starts no later than was first said.
func TestTheHeadStartsNoLaterThanItWasTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Defaults()
		p.Preemption.Most = 0
		w, _ := newWorld(t, p)
		told := &trial{w, map[penstock.UID]time.Time{}, map[penstock.UID]time.Time{}}
		for i := range rapid.IntRange(5, 40).Draw(t, "steps") {
			told.step(t, i)
			for id, at := range told.said { // a job that would start between two steps starts at the second
				if j := w.s.jobs[id]; j != nil && j.phase == pending && !w.now.Before(at) {
					t.Fatalf("%s still waits at %s, and was told %s: %s", id, w.now, at, w.s.Why(id))
				}
			}
		}
		if found := faults(w.s, true); len(found) > 0 {
			t.Fatal(strings.Join(found, "\n"))
		}
	})
}

// TestFreeingADeviceNeverHurts is I12: who has a place on a frozen fleet has one
// when anybody's devices are given back.
func TestFreeingADeviceNeverHurts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		for range rapid.IntRange(1, 8).Draw(t, "jobs") {
			m.submit(t)
		}
		m.s.Cycle(m.now)
		j := drawJob(t, "probe", m.now)
		j.Sets = j.Sets[:1]
		sh, err := m.s.shapeOf(&j)
		if err != nil {
			t.Fatal(err)
		}
		d := m.s.desks[slices.IndexFunc(m.s.desks, func(d *desk) bool { return d.pool.Name() == "p" })]
		fits := func() bool {
			tasks, _ := d.pool.Place(&sh.gang, fleet.Short)
			for i := range tasks {
				tasks[i].Give(fleet.Short)
			}
			return tasks != nil
		}
		before := fits()
		if len(d.running) == 0 {
			return
		}
		gone := d.running[rapid.IntRange(0, len(d.running)-1).Draw(t, "gone")]
		m.s.without([]*job{gone}, func() {
			if before && !fits() {
				t.Fatalf("%+v had a place, and has none after %s gave its own back", j, gone.spec.ID)
			}
		})
	})
}
