// Package cycle is the scheduler's core: a State of fleet, queues and jobs that
// events change step by step, and one deterministic Cycle that decides, on all
// that is known, which jobs start, which must give way, and why the others wait.
//
// There is no clock, no file and no randomness in it: time is an argument, and
// the same events give the same decisions, in whatever order those of one moment
// were told. Nothing is decided by the order of a map.
//
// A Cycle costs about as much as what changed since the last one. Jobs that are
// alike in all that matters stand in one line (a bucket); when the first can't
// start, all are parked, and only an event that could help wakes them.
//
// Whoever runs the decisions tells of it by events: a job that was started
// counts as running from the decision on; if it couldn't be started, Requeued
// says so. A job that must give way holds what it has until Requeued or Finished.
package cycle

import (
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// Policy is what can be chosen of a State, once.
type Policy struct {
	// Packing rates nodes.
	Packing fleet.Packing
	// HalfLife is after what time what a queue borrowed counts half against it.
	HalfLife time.Duration
	// HoldAfter is how long a job waits before room is kept for it although
	// nobody knows when it will be there. Where it's known, room is kept at once.
	HoldAfter time.Duration
	// Age bounds starvation: who waited longer goes before all priorities of its
	// tier. 0 is never.
	Age time.Duration
	// Preemption is whether, and how, running jobs give way.
	Preemption Preemption
}

// Preemption bounds what running jobs suffer for others.
type Preemption struct {
	// MinRuntime is how long a job runs before it may have to give way.
	MinRuntime time.Duration
	// Most is how much may be evicted for what is requested, in thousandths, of
	// the resource of which it is most. 0 is no preemption at all.
	Most int
	// Evictions is how many jobs of one queue may be evicted in Every; 0 is any
	// number.
	Evictions int
	Every     time.Duration
	// Patience is how long what was freed is kept for whom it was freed, if the
	// evicted don't go.
	Patience time.Duration
	// Restart is what it costs a job to start again, beside the work that it
	// lost, if it doesn't say so itself.
	Restart time.Duration
}

// Defaults is a policy for mixed work on a shared fleet.
func Defaults() Policy {
	return Policy{
		Packing: fleet.Fullest, HalfLife: 24 * time.Hour, HoldAfter: 2 * time.Minute, Age: 24 * time.Hour,
		Preemption: Preemption{
			MinRuntime: 5 * time.Minute, Most: 4000, Every: time.Minute,
			Patience: 10 * time.Minute, Restart: time.Minute,
		},
	}
}

// State is what is known of fleet, queues and jobs. It isn't safe for concurrent
// use. Its memory is bounded by what it knows: nothing is kept of jobs that are
// gone.
type State struct {
	policy Policy
	now    time.Time
	table  *vector.Table
	fleet  *fleet.Fleet
	tree   *quota.Tree

	desks   []*desk // one for each pool, in the order of the fleet
	lines   map[string]*line
	order   []*line // those of lines, by name
	jobs    map[penstock.UID]*job
	shapes  map[string]*shape
	foreign []*shape // that name a resource which nobody has
	guests  [][]*job // who holds something of a node, by its number
	timers  heap[*timer]
	granted heap[*job] // who was promised a place, and waits for others to go

	ready     heap[*line] // with somebody to take up within the nominal quota
	borrowers heap[*line] // roots of trees with somebody who would borrow
	cycling   bool
	cycles    uint64
	search    uint64  // which search, and with which victims: see line.right
	unknown   trigger // a pool, or a resource, that nobody had before
	out       []Decision
}

// New makes an empty State.
func New(p Policy) *State {
	table := vector.NewTable()
	s := &State{
		policy: p, table: table, fleet: fleet.New(table, p.Packing), tree: quota.NewTree(table, p.HalfLife),
		lines: map[string]*line{}, jobs: map[penstock.UID]*job{}, shapes: map[string]*shape{},
	}
	s.timers = heap[*timer]{less: func(a, b *timer) bool {
		return a.at.Before(b.at) || a.at.Equal(b.at) && a.job.spec.ID < b.job.spec.ID
	}, place: func(t *timer, at int) { t.index = at }}
	s.granted = heap[*job]{less: func(a, b *job) bool { return a.before(b) }, place: func(j *job, at int) { j.index = at }}
	s.ready = heap[*line]{less: func(a, b *line) bool { return a.awake.top().head().before(b.awake.top().head()) }, place: func(l *line, at int) { l.readyAt = at }}
	s.borrowers = heap[*line]{less: func(a, b *line) bool { return a.first().before(b.first()) }, place: func(l *line, at int) { l.borrowAt = at }}
	return s
}

// desk is what a State knows of one pool beside its nodes.
type desk struct {
	pool    *fleet.Pool
	running []*job  // in no order
	freed   trigger // room came back
	behind  trigger // what is kept for others changed
	changed trigger // nodes changed
	rooms   uint64  // how often room came back
	holds   uint64  // how often what is kept changed
	starts  uint64  // how many jobs were started, or promised a place

	hold, before *hold // what is kept, and was when the cycle began
	asked        int   // how often this cycle sought a hold
	dirty        bool  // somebody who may use the pool is to be taken up
	loose        bool  // room came back since the last cycle
}

// trigger is an event that buckets wait for.
type trigger struct{ waiting []*bucket }
