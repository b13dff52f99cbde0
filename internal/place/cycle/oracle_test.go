package cycle

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// box is a node as the oracle sees it: what it has left, device by device.
type box struct {
	cpu     penstock.Amount
	devices []penstock.Amount
}

// fitsAny tries every way to put count tasks onto boxes: the oracle knows no
// policy, no counters and no bounds.
func fitsAny(boxes []box, each penstock.Resources, count int) bool {
	if count == 0 {
		return true
	}
	for i := range boxes {
		if boxes[i].cpu < each["cpu"] {
			continue
		}
		boxes[i].cpu -= each["cpu"]
		if onDevices(boxes[i].devices, each["h100"], func() bool { return fitsAny(boxes, each, count-1) }) {
			return true
		}
		boxes[i].cpu += each["cpu"]
	}
	return false
}

// onDevices tries every choice of devices for one task, and then goes on.
func onDevices(devices []penstock.Amount, want penstock.Amount, next func() bool) bool {
	if want == 0 {
		return next()
	}
	share := min(want, 1000)
	for i := range devices {
		if devices[i] < share {
			continue
		}
		devices[i] -= share
		if onDevices(devices[i:], want-share, next) {
			return true
		}
		devices[i] += share
	}
	return false
}

// TestAPlaceIsFoundWhereverThereIsOne compares with the oracle on fleets of up
// to 4 nodes and 12 devices, some of which are held: for one set, anywhere or in
// one domain, the core finds a place exactly if there is one.
func TestAPlaceIsFoundWhereverThereIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := New(Defaults()), time.Unix(1_700_000_000, 0)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.SetPool("p", levels...))
		must(s.SetQueue(trees()[6], Backfill))
		boxes, specs := map[string]*box{}, map[string]fleet.Spec{}
		for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
			spec := drawNode(t, i)
			spec.Capacity["h100"] = penstock.Amount(rapid.IntRange(0, 3).Draw(t, "devices")) * 1000
			must(s.SetNode("p", spec))
			specs[spec.Name] = spec
			b := &box{spec.Capacity["cpu"], make([]penstock.Amount, spec.Capacity["h100"]/1000)}
			for k := range b.devices {
				b.devices[k] = 1000
			}
			boxes[spec.Name] = b
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "held") {
			share := penstock.Amount(rapid.SampledFrom([]int{400, 500, 1000}).Draw(t, "share"))
			must(s.Submit(Job{ID: penstock.UID(fmt.Sprint(i)), Queue: "free", QueuedAt: now, Sets: []Set{{Name: "w", Count: 1, Each: penstock.Resources{"cpu": 1000, "h100": share}}}}))
		}
		s.Cycle(now)
		for _, r := range s.Running() {
			task, each := r.Placement.Tasks[0], s.jobs[r.Job].spec.Sets[0].Each
			k, err := strconv.Atoi(strings.TrimPrefix(task.Devices[0], "h100-"))
			must(err)
			boxes[task.Node].cpu -= each["cpu"]
			boxes[task.Node].devices[k] -= each["h100"]
		}
		domains := map[string][]box{}
		for name, b := range boxes {
			domains[""] = append(domains[""], *b)
			domains[specs[name].Topology[0]] = append(domains[specs[name].Topology[0]], *b)
		}
		want := Set{Name: "w", Count: rapid.IntRange(1, 4).Draw(t, "count"), Each: penstock.Resources{
			"cpu":  penstock.Amount(rapid.IntRange(0, 3).Draw(t, "cpu")) * 1000,
			"h100": penstock.Amount(rapid.SampledFrom([]int{0, 300, 500, 700, 1000, 2000}).Draw(t, "h100")),
		}}
		possible := false
		together := rapid.SampledFrom([]fleet.Mode{fleet.Anywhere, fleet.Preferred, fleet.Required}).Draw(t, "mode")
		for name, boxes := range domains {
			if (name == "") == (together != fleet.Required) {
				possible = possible || fitsAny(copyBoxes(boxes), want.Each, want.Count)
			}
		}
		must(s.Submit(Job{ID: "probe", Queue: "free", QueuedAt: now, Sets: []Set{want}, Together: fleet.Topology{Level: "block", Mode: together}}))
		s.Cycle(now)
		if placed := s.jobs["probe"].phase == running; placed != possible {
			t.Fatalf("placed: %v, possible: %v; %+v on %+v; %v", placed, possible, want, domains, s.Why("probe"))
		}
	})
}

func copyBoxes(boxes []box) []box {
	out := make([]box, len(boxes))
	for i, b := range boxes {
		out[i] = box{b.cpu, append([]penstock.Amount(nil), b.devices...)}
	}
	return out
}

// TestWhoHasTheRightFindsItsVictims: within one queue, a job gets its place
// exactly if it would have one with all lower priorities gone; of those whom it
// evicts none could have stayed.
func TestWhoHasTheRightFindsItsVictims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Defaults()
		p.Preemption.MinRuntime, p.Preemption.Most = 0, 1_000_000
		s, now := New(p), time.Unix(1_700_000_000, 0)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.SetPool("p", levels...))
		must(s.SetQueue(trees()[6], Backfill))
		for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
			must(s.SetNode("p", drawNode(t, i)))
		}
		draw := func(id string) Job {
			j := drawJob(t, penstock.UID(id), now)
			j.Queue, j.Pools, j.Sets = "free", nil, j.Sets[:1]
			return j
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "running") {
			must(s.Submit(draw(fmt.Sprint(i))))
		}
		s.Cycle(now)
		for _, id := range sortedJobs(s) {
			if s.jobs[id].phase == pending {
				must(s.Finished(id))
			}
		}
		now = now.Add(time.Hour)
		probe := draw("probe")
		must(s.Submit(probe))
		d, victims := s.desks[0], []*job{}
		var lower []*job
		for _, r := range d.running {
			if r.spec.Priority < probe.Priority && !r.spec.Keeps {
				lower = append(lower, r)
			}
		}
		fits := func(without []*job) (yes bool) {
			s.without(without, func() {
				tasks, _ := d.pool.Place(&s.jobs["probe"].shape.gang, fleet.Short)
				for i := range tasks {
					tasks[i].Give(fleet.Short)
				}
				yes = tasks != nil
			})
			return yes
		}
		free, possible := fits(nil), fits(lower) && s.jobs["probe"].shape.foreign == ""
		for _, decision := range s.Cycle(now) {
			if decision.Verdict == Evict {
				victims = append(victims, s.jobs[decision.Job])
			}
		}
		if got := s.jobs["probe"].phase != pending; got != possible {
			t.Fatalf("a place: %v, possible: %v, for %+v: %v", got, possible, probe, s.Why("probe"))
		}
		if free && len(victims) > 0 {
			t.Fatalf("%d jobs give way although there was room", len(victims))
		}
		for i := range victims {
			rest := append(append([]*job(nil), victims[:i]...), victims[i+1:]...)
			for k := range s.jobs["probe"].tasks {
				s.jobs["probe"].tasks[k].Break()
			}
			spare := fits(rest)
			for k := range s.jobs["probe"].tasks {
				s.jobs["probe"].tasks[k].Promise()
			}
			if spare {
				t.Fatalf("%s gives way and could have stayed", victims[i].spec.ID)
			}
		}
	})
}
