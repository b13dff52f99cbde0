package cycle

import (
	"slices"
	"time"

	"github.com/penstock/penstock"
)

// Verdict is what becomes of a job.
type Verdict int

// Start: it runs, where Placement says. Evict: it runs no more, for the sake of
// For; it holds what it has until somebody says that it has gone. Promise: its
// place, where Placement says, is being freed by the jobs that are evicted for
// it. Wait: it can't start yet, for the Reason.
const (
	Start Verdict = iota
	Evict
	Promise
	Wait
)

// Decision is what a Cycle decided of one job.
type Decision struct {
	Verdict   Verdict
	Job       penstock.UID
	Placement *Placement   // Start, Promise
	For       penstock.UID // Evict
	Jobs      int          // Wait: for how many jobs, all alike, this one stands

	why   *block
	state *State
	of    *job
}

// Reason is why a job waits; empty for any other Verdict. It's asked before the
// State changes again.
func (d Decision) Reason() penstock.Reason {
	if d.Verdict != Wait {
		return penstock.Reason{}
	}
	return d.state.reason(d.of, *d.why)
}

// Placement is where a gang runs.
type Placement struct {
	Pool  string
	Tasks []Placed // by the job's sets, then by index
}

// Placed is one task's place.
type Placed struct {
	Set     string
	Index   int // within the set
	Node    string
	Devices []string // by ID
}

// Running is a job that holds something.
type Running struct {
	Job       penstock.UID
	Queue     string
	Placement *Placement
	Since     time.Time
	GivesWay  bool // it was told to stop
}

// placement is where the job's tasks are, in the order of its own sets.
func (j *job) placement() *Placement {
	p := &Placement{Pool: j.desk.pool.Name(), Tasks: make([]Placed, len(j.tasks))}
	for i, t := range j.tasks {
		placed := Placed{Set: j.shape.gang.Sets[t.Set].Name, Index: t.Index, Node: t.Node.Name()}
		for _, d := range t.Devices {
			placed.Devices = append(placed.Devices, d.ID)
		}
		p.Tasks[i] = placed
	}
	if len(j.spec.Sets) > 1 {
		at := func(t Placed) int {
			return slices.IndexFunc(j.spec.Sets, func(s Set) bool { return s.Name == t.Set })
		}
		slices.SortStableFunc(p.Tasks, func(a, b Placed) int { return at(a) - at(b) })
	}
	return p
}

// Running lists who holds something, by ID.
func (s *State) Running() []Running {
	var all []Running
	for _, l := range s.order {
		for _, j := range l.running {
			all = append(all, Running{j.spec.ID, j.spec.Queue, j.placement(), j.since, j.phase == stopping})
		}
	}
	slices.SortFunc(all, func(a, b Running) int { return compare(string(a.Job), string(b.Job)) })
	return all
}

// Pending is how many jobs wait, those to which a place was promised included.
func (s *State) Pending() int {
	n := len(s.jobs)
	for _, l := range s.order {
		n -= len(l.running)
	}
	return n
}
