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
	Pools    []Pool // each name once; in any order, as are Queue and Running
	Projects map[string]Project
	Queue    []Job
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
	rooms map[Slot]*room
	using map[string]penstock.Resources
	undo  []placement
}

// room is what one node has left.
type room struct {
	free    penstock.Resources
	devices map[string]*device // by ID
}

type device struct {
	kind penstock.Resource
	free penstock.Amount // of the 1000 that a device is
}

type placement struct {
	project, pool string
	tasks         []v1.PlacedTask
}

// View makes a View in which all that runs holds what it was given.
func (s *State) View() *View {
	v := &View{rooms: map[Slot]*room{}, using: map[string]penstock.Resources{}}
	for _, p := range s.Pools {
		for _, n := range p.Nodes {
			r := &room{maps.Clone(n.Capacity), make(map[string]*device, len(n.Devices))}
			for _, d := range n.Devices {
				r.devices[d.ID] = &device{d.Type, 1000}
			}
			v.rooms[Slot{p.Name, n.Name}] = r
		}
	}
	for _, r := range s.Running {
		v.apply(placement{r.Job.Ref.Project, r.Pool, r.Tasks}, -1)
	}
	return v
}

// Free is what a node has left, nil for an unknown one; the caller doesn't
// change it. Below 0 is what runs there beyond a capacity that has shrunk.
func (v *View) Free(at Slot) penstock.Resources {
	if r := v.rooms[at]; r != nil {
		return r.free
	}
	return nil
}

// DeviceFree is what one device has left, in thousandths; 0 for an unknown one.
func (v *View) DeviceFree(at Slot, id string) penstock.Amount {
	if r := v.rooms[at]; r != nil && r.devices[id] != nil {
		return r.devices[id].free
	}
	return 0
}

// Using is what a project holds; the caller doesn't change it.
func (v *View) Using(project string) penstock.Resources { return v.using[project] }

// Place gives tasks of a project's gang what they name. The View keeps tasks,
// and the caller changes them no more.
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
// back. What is held of a vanished node counts for the project alone.
func (v *View) apply(p placement, sign penstock.Amount) {
	using := v.using[p.project]
	if using == nil {
		using = penstock.Resources{}
		v.using[p.project] = using
	}
	for _, t := range p.tasks {
		for name, amount := range t.Resources {
			using[name] -= sign * amount
		}
		if r := v.rooms[Slot{p.pool, t.Node}]; r != nil {
			r.apply(t, sign)
		}
	}
}

// apply moves one task's amounts. The devices that a task names carry the
// resource of their own type: whole ones as long as the amount lasts, and the
// fraction on the last. A vanished device counts for the node alone.
func (r *room) apply(t v1.PlacedTask, sign penstock.Amount) {
	for name, amount := range t.Resources {
		if r.free == nil {
			r.free = penstock.Resources{} // a node without any capacity
		}
		r.free[name] += sign * amount
		if !name.Accelerator() {
			continue
		}
		for _, id := range t.Devices {
			if d := r.devices[id]; d != nil && d.kind == name {
				share := min(amount, 1000)
				d.free += sign * share
				amount -= share
			}
		}
	}
}
