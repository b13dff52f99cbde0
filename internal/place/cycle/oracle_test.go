package cycle

import (
	"fmt"
	"slices"
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

// world is a small fleet, with what is left of its nodes as the oracle sees it:
// all of them under "", and those of each block.
type world struct {
	s       *State
	now     time.Time
	domains map[string][]box
}

func (w *world) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld has one queue without limits and up to 4 nodes.
func newWorld(t *rapid.T, p Policy) (*world, map[string]fleet.Spec) {
	w := &world{s: New(p), now: time.Unix(1_700_000_000, 0), domains: map[string][]box{}}
	w.must(t, w.s.SetPool("p", levels...))
	w.must(t, w.s.SetQueue(trees()[6], Backfill))
	specs := map[string]fleet.Spec{}
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		spec := drawNode(t, i)
		spec.Capacity["h100"] = penstock.Amount(rapid.IntRange(0, 3).Draw(t, "devices")) * 1000
		w.must(t, w.s.SetNode("p", spec))
		specs[spec.Name] = spec
	}
	return w, specs
}

// hold lets a few jobs of one device, or part of one, run.
func (w *world) hold(t *rapid.T, specs map[string]fleet.Spec) {
	for i := range rapid.IntRange(0, 4).Draw(t, "held") {
		share := penstock.Amount(rapid.SampledFrom([]int{400, 500, 1000}).Draw(t, "share"))
		set := Set{Name: "w", Count: 1, Each: penstock.Resources{"cpu": 1000, "h100": share}}
		w.must(t, w.s.Submit(Job{ID: penstock.UID(fmt.Sprint(i)), Queue: "free", QueuedAt: w.now, Sets: []Set{set}}))
	}
	w.s.Cycle(w.now)
	boxes := map[string]*box{}
	for name, spec := range specs {
		boxes[name] = &box{spec.Capacity["cpu"], slices.Repeat([]penstock.Amount{1000}, int(spec.Capacity["h100"]/1000))}
	}
	for _, r := range w.s.Running() {
		task, each := r.Placement.Tasks[0], w.s.jobs[r.Job].spec.Sets[0].Each
		k, err := strconv.Atoi(strings.TrimPrefix(task.Devices[0], "h100-"))
		w.must(t, err)
		boxes[task.Node].cpu -= each["cpu"]
		boxes[task.Node].devices[k] -= each["h100"]
	}
	for name, b := range boxes {
		w.domains[""] = append(w.domains[""], *b)
		w.domains[specs[name].Topology[0]] = append(w.domains[specs[name].Topology[0]], *b)
	}
}

// TestAPlaceIsFoundWhereverThereIsOne compares with the oracle on fleets of up
// to 4 nodes and 12 devices, some of which are held: for one set, anywhere or in
// one domain, the core finds a place exactly if there is one.
func TestAPlaceIsFoundWhereverThereIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, specs := newWorld(t, Defaults())
		w.hold(t, specs)
		want := Set{Name: "w", Count: rapid.IntRange(1, 4).Draw(t, "count"), Each: penstock.Resources{
			"cpu":  penstock.Amount(rapid.IntRange(0, 3).Draw(t, "cpu")) * 1000,
			"h100": penstock.Amount(rapid.SampledFrom([]int{0, 300, 500, 700, 1000, 2000}).Draw(t, "h100")),
		}}
		possible := false
		together := rapid.SampledFrom([]fleet.Mode{fleet.Anywhere, fleet.Preferred, fleet.Required}).Draw(t, "mode")
		for name, boxes := range w.domains {
			if (name == "") == (together != fleet.Required) {
				possible = possible || fitsAny(copyBoxes(boxes), want.Each, want.Count)
			}
		}
		w.must(t, w.s.Submit(Job{ID: "probe", Queue: "free", QueuedAt: w.now, Sets: []Set{want}, Together: fleet.Topology{Level: "block", Mode: together}}))
		w.s.Cycle(w.now)
		if placed := w.s.jobs["probe"].phase == running; placed != possible {
			t.Fatalf("placed: %v, possible: %v; %+v on %+v; %v", placed, possible, want, w.domains, w.s.Why("probe"))
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

// populate lets a few jobs run, and adds the probe, of one set each, an hour later.
func (w *world) populate(t *rapid.T) (probe *job) {
	draw := func(id string) {
		j := drawJob(t, penstock.UID(id), w.now)
		j.Queue, j.Pools, j.Sets = "free", nil, j.Sets[:1]
		w.must(t, w.s.Submit(j))
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "running") {
		draw(fmt.Sprint(i))
	}
	w.s.Cycle(w.now)
	for _, id := range sortedJobs(w.s) {
		if w.s.jobs[id].phase == pending {
			w.must(t, w.s.Finished(id))
		}
	}
	w.now = w.now.Add(time.Hour)
	draw("probe")
	return w.s.jobs["probe"]
}

// fits says whether the probe has a place while some jobs hold nothing, and it
// was promised nothing.
func (w *world) fits(probe *job, without []*job) (yes bool) {
	for k := range probe.tasks {
		probe.tasks[k].Break()
	}
	w.s.without(without, func() {
		tasks, _ := w.s.desks[0].pool.Place(&probe.shape.gang, fleet.Short)
		for i := range tasks {
			tasks[i].Give(fleet.Short)
		}
		yes = tasks != nil
	})
	for k := range probe.tasks {
		probe.tasks[k].Promise()
	}
	return yes && probe.shape.foreign == ""
}

// TestWhoHasTheRightFindsItsVictims: within one queue, a job gets its place
// exactly if it would have one with all lower priorities gone; of those whom it
// evicts none could have stayed.
func TestWhoHasTheRightFindsItsVictims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Defaults()
		p.Preemption.MinRuntime, p.Preemption.Most = 0, 1_000_000
		w, _ := newWorld(t, p)
		probe := w.populate(t)
		var lower, victims []*job
		for _, r := range w.s.desks[0].running {
			if r.spec.Priority < probe.spec.Priority && !r.spec.Keeps {
				lower = append(lower, r)
			}
		}
		free, possible := w.fits(probe, nil), w.fits(probe, lower)
		for _, decision := range w.s.Cycle(w.now) {
			if decision.Verdict == Evict {
				victims = append(victims, w.s.jobs[decision.Job])
			}
		}
		if got := probe.phase != pending; got != possible {
			t.Fatalf("a place: %v, possible: %v, for %+v: %v", got, possible, probe.spec, w.s.Why("probe"))
		}
		if free && len(victims) > 0 {
			t.Fatalf("%d jobs give way although there was room", len(victims))
		}
		for i, v := range victims {
			if w.fits(probe, slices.Delete(slices.Clone(victims), i, i+1)) {
				t.Fatalf("%s gives way and could have stayed", v.spec.ID)
			}
		}
	})
}
