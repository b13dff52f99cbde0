// Package replay runs a trace of jobs against a scheduler in virtual time: a
// discrete-event engine that tells the scheduler what happens, does what it
// decides, and keeps the books. There is no clock and no randomness in it: the
// same trace and scheduler give the same result.
//
// The engine believes nothing: a decision that would give a node's GPUs away
// twice, split a gang, or start what doesn't wait ends the replay with an error.
package replay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
)

// Job is one job of a trace. All times count from the trace's beginning.
type Job struct {
	// ID is its place in the order of arrival, from 0: the index in a trace.
	ID int
	// Name is what the trace calls it, Where its file and line.
	Name, Where string
	Queue       string
	GPUs        int
	Arrive      time.Duration
	// Duration is how long it works, alone and unbroken.
	Duration time.Duration
	// Restart is what each start but the first costs it before it works on.
	Restart time.Duration
	// Checkpoint is after how much work it saves. One that is stopped between two
	// checkpoints does that work again. With 0 it saves when it is told to stop,
	// and loses nothing.
	Checkpoint time.Duration
}

// Node is a machine and its GPUs. It is known by its index.
type Node struct{ GPUs int }

// Nodes is so many nodes of so many GPUs each.
func Nodes(count, each int) []Node { return slices.Repeat([]Node{{each}}, count) }

// Kind is what an Event is about.
type Kind int

// Finished, Stopped, Arrived and Saved: a job ended; it gave way and waits again;
// it joined its queue; its work is safe up to now.
const (
	Finished Kind = iota
	Stopped
	Arrived
	Saved
	tick // the engine's own: it's time to ask
)

// Event is what a Scheduler is told.
type Event struct {
	Kind Kind
	At   time.Duration
	Job  *Job
}

// Verb is what a Decision does.
type Verb int

// Start lets a waiting job run. Stop lets a running job give way, at once.
const (
	Start Verb = iota
	Stop
)

// Share is so many GPUs of one node.
type Share struct{ Node, GPUs int }

// Decision is what a Scheduler wants done with a job. At are its GPUs, for Start.
type Decision struct {
	Verb Verb
	Job  int
	At   []Share
}

// Scheduler decides who runs.
type Scheduler interface {
	// Tell says what happened. All that happens at one moment is told before the
	// next Decide: ends, then stops, then arrivals, each by job.
	Tell(Event) error
	// Decide says what to do now. It's done in the order given; who stopped may
	// start again in the same breath, elsewhere. After a Stop it's asked again.
	Decide(View) ([]Decision, error)
}

// Options are what a replay may be told beside trace, fleet and scheduler.
type Options struct {
	// Every asks the scheduler at least so often while a job waits, though nothing
	// happened, as a server's loop does. 0 is never.
	Every time.Duration
}

// View is what a scheduler may look at when it decides. Left is what only an
// oracle knows.
type View struct {
	Now time.Duration
	run *run
}

// Left is how much work of a job is still to be done.
func (v View) Left(job int) time.Duration {
	t := &v.run.tasks[job]
	return t.job.Duration - t.worked(v.Now)
}

// Held is for how long a job has held its GPUs, in all.
func (v View) Held(job int) time.Duration {
	t := &v.run.tasks[job]
	if t.at == nil {
		return t.record.Held
	}
	return t.record.Held + v.Now - t.since
}

// At is what a job runs on; nil if it doesn't. The caller doesn't change it.
func (v View) At(job int) []Share { return v.run.tasks[job].at }

// Run replays a trace until its last job has ended. It's an error if the
// scheduler decides what can't be done, or lets a job wait for ever.
func Run(jobs []Job, nodes []Node, s Scheduler, o Options) (*Result, error) {
	r := &run{nodes: nodes, scheduler: s, options: o, tasks: make([]task, len(jobs)), free: make([]int, len(nodes))}
	for i, n := range nodes {
		r.free[i] = n.GPUs
		r.result.GPUs += n.GPUs
	}
	for i := range jobs {
		if err := r.admit(i, &jobs[i]); err != nil {
			return nil, err
		}
	}
	r.left = len(jobs)
	for len(r.events) > 0 && r.left > 0 {
		if err := r.moment(); err != nil {
			return nil, err
		}
	}
	if r.left > 0 {
		return nil, r.stuck()
	}
	r.result.Records = make([]Record, len(jobs))
	for i := range r.tasks {
		r.result.Records[i] = r.tasks[i].record
	}
	return &r.result, nil
}

// Sort puts jobs in the order of arrival, ties as they come, counts arrivals from
// the first one, and numbers the jobs.
func Sort(jobs []Job) {
	slices.SortStableFunc(jobs, func(a, b Job) int { return cmp.Compare(a.Arrive, b.Arrive) })
	for i := len(jobs) - 1; i >= 0; i-- {
		jobs[i].ID = i
		jobs[i].Arrive -= jobs[0].Arrive
	}
}

func (r *run) admit(i int, j *Job) error {
	invalid := func(format string, args ...any) error {
		return &penstock.Error{Code: penstock.Invalid, Where: j.Where, Msg: fmt.Sprintf("job %s %s", j.Name, fmt.Sprintf(format, args...))}
	}
	switch {
	case j.ID != i:
		return invalid("has number %d at place %d", j.ID, i)
	case j.GPUs < 1 || j.GPUs > r.result.GPUs:
		return invalid("wants %d GPUs; the fleet has %d", j.GPUs, r.result.GPUs)
	case j.Arrive < 0 || j.Duration <= 0 || j.Restart < 0 || j.Checkpoint < 0:
		return invalid("has a time that can't be: arrives %s, works %s, restart %s, checkpoint %s", j.Arrive, j.Duration, j.Restart, j.Checkpoint)
	}
	r.tasks[i] = task{job: j, record: Record{Job: j}}
	r.push(event{at: j.Arrive, kind: Arrived, job: i})
	return nil
}
