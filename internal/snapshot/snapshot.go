// Package snapshot is an immutable picture of queues and fleet at one moment,
// and a View on it in which a planner can try things and take them back.
//
// A State is plain data: production builds it from the store, the simulator from
// a trace, and explain edits a copy of it. Nothing here knows a clock.
package snapshot

import (
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// State is the picture. It isn't changed once a View was made of it.
type State struct {
	Now      time.Time
	Pools    []Pool // in order of name
	Projects map[string]Project
	Queue    []Job // queued jobs, in any order
	Running  []Running
}

// Pool is capacity that jobs can be placed on.
type Pool struct {
	Name  string
	Nodes []v1.Node
}

// Project is what admission needs to know of a tenant.
type Project struct {
	Quota v1.Quota
	// Closed are reasons that hold all new work back: an expired project, a
	// budget that is used up.
	Closed []penstock.Reason
}

// Job is a gang that waits, or runs.
type Job struct {
	UID      penstock.UID
	Ref      penstock.Ref
	Priority int
	QueuedAt time.Time
	Pool     string // the only pool allowed; empty is any
	Sets     []Set
	// Endless work (a served model) gives its devices back only when told to.
	Endless bool
	// Held are reasons of its own that keep it from starting now: an unmet
	// dependency, a pause before a retry.
	Held []penstock.Reason
	// Until is when it must have ended; zero is unknown.
	Until time.Time
}

// Set is a number of like tasks.
type Set struct {
	Name  string
	Count int
	Each  penstock.Resources
}

// Total is what the whole gang takes.
func (j Job) Total() penstock.Resources {
	total := penstock.Resources{}
	for _, s := range j.Sets {
		total = total.Plus(s.Each.Times(s.Count))
	}
	return total
}

// Running is a gang that holds devices.
type Running struct {
	Job   Job
	Pool  string
	Tasks []v1.PlacedTask
	Since time.Time
}

// Clone is a copy whose queue, projects and pools can be edited without
// touching s.
func (s *State) Clone() *State {
	c := *s
	c.Pools = slices.Clone(s.Pools)
	c.Queue = slices.Clone(s.Queue)
	c.Running = slices.Clone(s.Running)
	c.Projects = maps.Clone(s.Projects)
	return &c
}

// Slot names a node of a pool.
type Slot struct{ Pool, Node string }

// View is what is free in a State, with the placements that were tried on top.
// It is not safe for concurrent use.
type View struct {
	state  *State
	free   map[Slot]penstock.Resources
	device map[Slot]map[string]penstock.Amount
	using  map[string]penstock.Resources
	undo   []placement
}

type placement struct {
	project, pool string
	tasks         []v1.PlacedTask
}

// View makes a View in which all that runs holds what it was given.
func (s *State) View() *View {
	v := &View{
		state: s, free: map[Slot]penstock.Resources{},
		device: map[Slot]map[string]penstock.Amount{}, using: map[string]penstock.Resources{},
	}
	for _, p := range s.Pools {
		for _, n := range p.Nodes {
			slot := Slot{p.Name, n.Name}
			v.free[slot] = maps.Clone(n.Capacity)
			v.device[slot] = map[string]penstock.Amount{}
			for _, d := range n.Devices {
				v.device[slot][d.ID] = 1000
			}
		}
	}
	for _, r := range s.Running {
		v.apply(placement{r.Job.Ref.Project, r.Pool, r.Tasks}, -1)
	}
	return v
}

// Free is what a node has left; the caller doesn't change it.
func (v *View) Free(at Slot) penstock.Resources { return v.free[at] }

// DeviceFree is what one device has left, in thousandths.
func (v *View) DeviceFree(at Slot, id string) penstock.Amount { return v.device[at][id] }

// Using is what a project holds.
func (v *View) Using(project string) penstock.Resources { return v.using[project] }

// Place gives tasks of a project's gang what they name.
func (v *View) Place(project, pool string, tasks []v1.PlacedTask) {
	p := placement{project, pool, tasks}
	v.apply(p, -1)
	v.undo = append(v.undo, p)
}

// Checkpoint marks the present state for Rollback.
func (v *View) Checkpoint() int { return len(v.undo) }

// Rollback takes back every Place since the mark, newest first.
func (v *View) Rollback(mark int) {
	for len(v.undo) > mark {
		last := len(v.undo) - 1
		v.apply(v.undo[last], +1)
		v.undo = v.undo[:last]
	}
}

// apply moves the amounts of a placement: sign -1 takes them, +1 gives them
// back. What a vanished node or device held is only counted for the project.
func (v *View) apply(p placement, sign int) {
	if v.using[p.project] == nil {
		v.using[p.project] = penstock.Resources{}
	}
	for _, t := range p.tasks {
		at := Slot{p.pool, t.Node}
		for name, amount := range t.Resources {
			v.using[p.project][name] += -penstock.Amount(sign) * amount
			if v.free[at] != nil {
				v.free[at][name] += penstock.Amount(sign) * amount
			}
		}
		for _, share := range DeviceShares(t) {
			if left, ok := v.device[at][share.ID]; ok {
				v.device[at][share.ID] = left + penstock.Amount(sign)*share.Amount
			}
		}
	}
}

// Share is how much of one device a task holds, in thousandths.
type Share struct {
	ID     string
	Amount penstock.Amount
}

// DeviceShares spreads a task's accelerator amount over the devices that it
// names: whole devices first, a fraction on the last one.
func DeviceShares(t v1.PlacedTask) []Share {
	var left penstock.Amount
	for name, amount := range t.Resources {
		if name.Accelerator() {
			left += amount
		}
	}
	shares := make([]Share, 0, len(t.Devices))
	for _, id := range t.Devices {
		a := min(left, 1000)
		shares = append(shares, Share{id, a})
		left -= a
	}
	return shares
}
