package cycle

import (
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// lentTo is a fleet on which b borrows 4 devices, and a job of a wants as many
// as are a's own, of which another of its jobs holds 4.
func lentTo(t *testing.T) *State {
	p := Defaults()
	p.Preemption.MinRuntime = 0
	s, now := New(p), time.Unix(1_700_000_000, 0)
	devices := func(n penstock.Amount) penstock.Resources { return penstock.Resources{"h100": n * 1000} }
	for _, err := range []error{
		s.SetPool("p"), s.SetNode("p", fleet.Spec{Name: "n", Capacity: devices(16)}),
		s.SetQueue(quota.Spec{Name: "org", Nominal: devices(4)}, Backfill),
		s.SetQueue(quota.Spec{Name: "a", Parent: "org", Nominal: devices(8), Borrow: devices(4)}, Backfill),
		s.SetQueue(quota.Spec{Name: "b", Parent: "org", Nominal: devices(4), Borrow: devices(8)}, Backfill),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range []struct {
		id       penstock.UID
		queue    string
		priority int
		want     penstock.Amount
	}{{"own", "a", 0, 4}, {"lent", "b", 0, 8}, {"wants", "a", 5, 8}} {
		err := s.Submit(Job{ID: j.id, Queue: j.queue, Priority: j.priority, QueuedAt: now, Sets: []Set{{Name: "w", Count: 1, Each: devices(j.want)}}})
		if err != nil {
			t.Fatal(err)
		}
		if j.id != "wants" {
			s.Cycle(now)
		}
	}
	return s
}

// TestRightIsJudgedOnTheSetThatIsTold: queue a may have what b borrowed back only
// as long as it stays within its own quota, and it does only if its own job goes
// too. A set from which that one was spared again is no longer lawful (Kueue
// 14543: the check was made on the set as it grew).
func TestRightIsJudgedOnTheSetThatIsTold(t *testing.T) {
	s := lentTo(t)
	for _, c := range []struct {
		name   string
		chosen []penstock.UID
		lawful bool
	}{
		{"both, its own first", []penstock.UID{"own", "lent"}, true},
		{"its own alone", []penstock.UID{"own"}, true},
		{"the other's alone", []penstock.UID{"lent"}, false},
	} {
		var chosen []*job
		for _, id := range c.chosen {
			chosen = append(chosen, s.jobs[id])
		}
		s.search++
		search := &purge{State: s, j: s.jobs["wants"], d: s.desks[0]}
		if got := search.lawful(chosen); got != c.lawful {
			t.Errorf("%s: lawful: %v", c.name, got)
		}
		search.restore(0)
	}
	if found := faults(s, true); len(found) > 0 {
		t.Error(found)
	}
}
