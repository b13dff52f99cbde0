package replay

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/penstock/penstock"
)

// run is the state of one replay.
type run struct {
	nodes     []Node
	free      []int // GPUs of each node
	scheduler Scheduler
	options   Options

	now     time.Duration
	events  queue
	tasks   []task
	left    int // jobs that haven't ended
	waiting int
	running int
	busy    int  // GPUs
	ticking bool // a tick is in the queue
	idle    int  // ticks in a row at which nothing ran and nothing was still to come
	result  Result
}

// task is a job and where it stands.
type task struct {
	job    *Job
	waits  bool
	at     []Share       // running
	done   time.Duration // work that is safe
	since  time.Duration // of this start
	ready  time.Duration // when it works on, after the restart
	epoch  int           // of starts: events of an earlier one are void
	record Record
}

// worked is how much work is done, safe or not.
func (t *task) worked(now time.Duration) time.Duration {
	if t.at == nil {
		return t.done
	}
	return t.done + max(0, now-t.ready)
}

// The bounds past which a scheduler is said never to come to an end.
const (
	mostRounds = 10_000 // decisions of one moment
	mostIdle   = 10_000 // ticks for nothing
)

// moment tells the scheduler all that happens at the next moment, and does what
// it decides.
func (r *run) moment() error {
	r.now = r.events[0].at
	ask := false
	for len(r.events) > 0 && r.events[0].at == r.now {
		e := heap.Pop(&r.events).(event)
		happened, err := r.happen(e)
		if err != nil {
			return err
		}
		ask = ask || happened
	}
	if !ask {
		return nil
	}
	if err := r.decide(); err != nil {
		return err
	}
	r.result.book(r.now, r.busy)
	if r.idle > mostIdle {
		return r.stuck()
	}
	if r.options.Every > 0 && r.waiting > 0 && !r.ticking {
		r.ticking = true
		r.push(event{at: r.now + r.options.Every, kind: tick})
	}
	return nil
}

// happen does one event, and says whether the scheduler has to be asked.
func (r *run) happen(e event) (ask bool, err error) {
	if e.kind == tick {
		r.ticking = false
		if r.idle++; r.running > 0 || r.waiting < r.left {
			r.idle = 0
		}
		return true, nil
	}
	t := &r.tasks[e.job]
	switch {
	case e.kind == Arrived:
		t.waits = true
		r.waiting++
	case t.epoch != e.epoch || t.at == nil:
		return false, nil // it was stopped since
	case e.kind == Saved:
		r.plan(e.job)
		return false, r.tell(Saved, t.job)
	default:
		r.leave(t)
		t.done = t.job.Duration
		t.record.Ended = r.now
		t.record.Lost += t.ready - t.since
		r.left--
	}
	return true, r.tell(e.kind, t.job)
}

func (r *run) tell(k Kind, j *Job) error { return r.scheduler.Tell(Event{k, r.now, j}) }

func (r *run) decide() error {
	for range mostRounds {
		r.result.Cycles++
		decisions, err := r.scheduler.Decide(View{r.now, r})
		if err != nil {
			return err
		}
		again := false
		for _, d := range decisions {
			if err := r.do(d); err != nil {
				return err
			}
			again = again || d.Verb == Stop
		}
		if !again {
			return nil
		}
	}
	return &penstock.Error{Code: penstock.Internal, Msg: fmt.Sprintf("at %s the scheduler still stopped jobs after %d decisions", r.now, mostRounds)}
}

func (r *run) do(d Decision) error {
	if d.Job < 0 || d.Job >= len(r.tasks) {
		return &penstock.Error{Code: penstock.Internal, Msg: fmt.Sprintf("the scheduler decided on job %d of %d", d.Job, len(r.tasks))}
	}
	if d.Verb == Stop {
		return r.stop(&r.tasks[d.Job])
	}
	return r.start(d)
}

func (r *run) start(d Decision) error {
	t := &r.tasks[d.Job]
	if !t.waits {
		return r.wrong(t, "started, and doesn't wait")
	}
	total := 0
	for _, s := range d.At {
		if s.Node < 0 || s.Node >= len(r.free) || s.GPUs < 1 || s.GPUs > r.free[s.Node] {
			return r.wrong(t, "started on %d GPUs of node %d, which hasn't so many free", s.GPUs, s.Node)
		}
		r.free[s.Node] -= s.GPUs
		total += s.GPUs
	}
	if total != t.job.GPUs {
		return r.wrong(t, "started on %d GPUs; it wants %d", total, t.job.GPUs)
	}
	r.busy += total
	r.waiting--
	r.running++
	t.waits, t.at, t.since, t.ready = false, d.At, r.now, r.now
	if t.epoch++; t.epoch == 1 {
		t.record.Started = r.now
	} else {
		t.ready += t.job.Restart
	}
	end := t.ready + t.job.Duration - t.done
	if end < r.now {
		return r.wrong(t, "started, and would end after more than the 292 years that a replay can last")
	}
	r.push(event{at: end, kind: Finished, job: d.Job, epoch: t.epoch})
	r.plan(d.Job)
	return nil
}

// plan puts the job's next checkpoint into the queue, if it comes to that.
func (r *run) plan(id int) {
	t := &r.tasks[id]
	every := t.job.Checkpoint
	if every == 0 {
		return
	}
	if next := t.worked(r.now)/every*every + every; next < t.job.Duration {
		r.push(event{at: t.ready + next - t.done, kind: Saved, job: id, epoch: t.epoch})
	}
}

// stop lets a job give way: what it did since the last checkpoint is lost, and
// so was the restart.
func (r *run) stop(t *task) error {
	if t.at == nil {
		return r.wrong(t, "stopped, and doesn't run")
	}
	worked := t.worked(r.now)
	safe := worked
	if t.job.Checkpoint > 0 {
		safe = worked / t.job.Checkpoint * t.job.Checkpoint
	}
	t.record.Lost += worked - safe + min(t.ready, r.now) - t.since
	t.record.Stops++
	r.leave(t)
	t.done, t.waits = safe, true
	r.waiting++
	return r.tell(Stopped, t.job)
}

// leave gives a job's GPUs back.
func (r *run) leave(t *task) {
	for _, s := range t.at {
		r.free[s.Node] += s.GPUs
	}
	r.busy -= t.job.GPUs
	r.running--
	t.record.Held += r.now - t.since
	t.at = nil
}

func (r *run) wrong(t *task, format string, args ...any) error {
	return &penstock.Error{Code: penstock.Internal, Where: t.job.Where, Msg: fmt.Sprintf("at %s job %s was %s", r.now, t.job.Name, fmt.Sprintf(format, args...))}
}

// stuck is that jobs wait and nothing will ever happen again.
func (r *run) stuck() error {
	for i := range r.tasks {
		if t := &r.tasks[i]; t.waits {
			return &penstock.Error{Code: penstock.Unavailable, Where: t.job.Where, Hint: "look at the quota of its queue",
				Msg: fmt.Sprintf("%d jobs wait for ever, job %s of queue %s with %d GPUs first: %d of %d GPUs are free", r.waiting, t.job.Name, t.job.Queue, t.job.GPUs, r.result.GPUs-r.busy, r.result.GPUs)}
		}
	}
	return &penstock.Error{Code: penstock.Internal, Msg: fmt.Sprintf("%d jobs are neither waiting nor ended", r.left)}
}

// event is an Event to come.
type event struct {
	at    time.Duration
	kind  Kind
	job   int
	epoch int
}

func (r *run) push(e event) { heap.Push(&r.events, e) }

// queue is a container/heap of events, the next one first.
type queue []event

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.at != b.at:
		return a.at < b.at
	case a.kind != b.kind:
		return a.kind < b.kind
	}
	return a.job < b.job
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push adds an event.
func (q *queue) Push(e any) { *q = append(*q, e.(event)) }

// Pop takes the last of the slice, which is the next event.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}
