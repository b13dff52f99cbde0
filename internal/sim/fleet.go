// Package sim is a virtual fleet: an executor whose tasks are goroutines that
// behave as their job's parameters say, and the invariants that must hold of any
// installation at any moment. The tests of the control loops run on it, in
// virtual time, with faults.
package sim

import (
	"context"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// The parameters of a job that tell its tasks how to behave.
const (
	// RunFor is how long each task runs, as a Go duration.
	RunFor = "run_for"
	// ExitCode is what each task ends with; 0 if it isn't given.
	ExitCode = "exit_code"
	// FailFirst is how many attempts end with exit code 1 before one succeeds.
	FailFirst = "fail_first"
	// NeedsPeers makes a task end with exit code 1 as soon as another task of its
	// gang is killed, as collective libraries do, if it is "true".
	NeedsPeers = "needs_peers"
)

// Report hands an agent's reports to the server; it fails while that is away.
type Report func(ctx context.Context, attempt penstock.UID, reports []v1.Report) (int64, error)

// Fleet is a run.Executor. Its zero value isn't usable; New makes one.
type Fleet struct {
	// Work, where set, gives what a task reports between its start and its end.
	// It is set before the first Start.
	Work func(v1.Order) []v1.Report

	nodes  []v1.Node
	report Report

	mu      sync.Mutex
	tasks   map[taskKey]*task
	started map[penstock.UID]bool
	wg      sync.WaitGroup
	// Overlaps are jobs that were seen running in two attempts at once.
	overlaps []string
}

var _ run.Executor = (*Fleet)(nil)

type taskKey struct {
	attempt penstock.UID
	rank    int
}

type task struct {
	order  v1.Order
	cancel context.CancelCauseFunc
	gone   bool
	detail string
	seq    int64
}

// New makes a fleet of nodes whose agents speak through report. Close it before
// a synctest bubble ends.
func New(nodes []v1.Node, report Report) *Fleet {
	return &Fleet{nodes: nodes, report: report, tasks: map[taskKey]*task{}, started: map[penstock.UID]bool{}}
}

// Start runs a goroutine for each order, once for each attempt.
func (f *Fleet) Start(_ context.Context, gang []v1.Order) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	attempt := gang[0].Attempt
	if f.started[attempt] {
		return nil
	}
	f.started[attempt] = true
	for _, t := range f.tasks {
		if t.order.JobUID == gang[0].JobUID && t.order.Attempt != attempt && !t.gone {
			f.overlaps = append(f.overlaps, gang[0].Job+" attempts "+strconv.Itoa(t.order.Number)+" and "+strconv.Itoa(gang[0].Number))
		}
	}
	for _, o := range gang {
		ctx, cancel := context.WithCancelCause(context.Background())
		t := &task{order: o, cancel: cancel}
		f.tasks[taskKey{attempt, o.Rank}] = t
		f.wg.Go(func() { f.live(ctx, t) })
	}
	return nil
}

// The causes for which a task's life ends early.
type ending string

func (e ending) Error() string { return string(e) }

const (
	terminated ending = "SIGTERM"
	killed     ending = "SIGKILL"
	agentDead  ending = "the agent was killed"
	bereft     ending = "a peer is gone"
)

// live is the life of one task and its agent.
func (f *Fleet) live(ctx context.Context, t *task) {
	exit := v1.Exited{}
	if f.tell(t, v1.Report{Started: &v1.Started{PID: 1, Limits: "none: simulated"}}) {
		if f.Work != nil {
			for _, r := range f.Work(t.order) {
				f.tell(t, r)
			}
		}
		select {
		case <-time.After(behaviour(t.order, RunFor)):
			exit.Code = exitCode(t.order)
		case <-ctx.Done():
			switch cause, _ := context.Cause(ctx).(ending); cause {
			case agentDead:
				f.leave(t, string(agentDead))
				return
			case bereft:
				exit.Code = 1
			default:
				exit.Code, exit.Signal = -1, string(cause)
			}
		}
		f.tell(t, v1.Report{Exited: &exit})
	}
	f.leave(t, "the agent ended")
}

func (f *Fleet) leave(t *task, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.gone, t.detail = true, detail
}

// tell delivers a report, however long that takes, and reports false once the
// task is fenced or killed together with its agent.
func (f *Fleet) tell(t *task, r v1.Report) bool {
	t.seq++
	r.Seq, r.Rank = t.seq, t.order.Rank
	for {
		r.At = time.Now().UTC()
		taken, err := f.report(context.Background(), t.order.Attempt, []v1.Report{r})
		switch {
		case err == nil && taken >= r.Seq:
			return true
		case penstock.CodeOf(err) == penstock.Fenced:
			return false
		}
		time.Sleep(time.Second)
	}
}

func behaviour(o v1.Order, name string) time.Duration {
	d, err := time.ParseDuration(o.Parameters[name])
	switch {
	case o.Serve != nil:
		return math.MaxInt64 // a served model doesn't end by itself
	case err != nil:
		return time.Second
	}
	return d
}

func exitCode(o v1.Order) int {
	if n, err := strconv.Atoi(o.Parameters[FailFirst]); err == nil && o.Number <= n {
		return 1
	}
	n, _ := strconv.Atoi(o.Parameters[ExitCode]) // 0 where it isn't given
	return n
}

// Stop ends an attempt's tasks at once, as obedient tasks do.
func (f *Fleet) Stop(_ context.Context, attempt penstock.UID, _ time.Duration) error {
	return f.end(attempt, -1, terminated)
}

// Kill ends one task from outside, as an operating system or a spot market does.
func (f *Fleet) Kill(attempt penstock.UID, rank int) error { return f.end(attempt, rank, killed) }

// KillAgent ends one task's agent, and the task with it, without a word.
func (f *Fleet) KillAgent(attempt penstock.UID, rank int) error {
	return f.end(attempt, rank, agentDead)
}

func (f *Fleet) end(attempt penstock.UID, rank int, cause ending) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, t := range f.tasks {
		switch {
		case key.attempt != attempt:
		case rank < 0 || key.rank == rank:
			t.cancel(cause)
		case t.order.Parameters[NeedsPeers] == "true":
			t.cancel(bereft)
		}
	}
	return nil
}

// Observe tells which tasks live.
func (f *Fleet) Observe(context.Context) ([]run.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make([]run.Observation, 0, len(f.tasks))
	for key, t := range f.tasks {
		o := run.Observation{Attempt: key.attempt, Rank: key.rank, State: run.Running, Detail: t.detail}
		if t.gone {
			o.State = run.Gone
		}
		seen = append(seen, o)
	}
	return seen, nil
}

// Forget drops what is known of an attempt that has ended.
func (f *Fleet) Forget(_ context.Context, attempt penstock.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, t := range f.tasks {
		if key.attempt == attempt && !t.gone {
			return &penstock.Error{Code: penstock.Busy, Msg: "a task still runs"}
		}
	}
	for key := range f.tasks {
		if key.attempt == attempt {
			delete(f.tasks, key)
		}
	}
	return nil
}

// Logs has nothing to show: goroutines write nothing.
func (f *Fleet) Logs(context.Context, penstock.UID, int, run.LogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("")), nil
}

// Nodes are those that the fleet was made with.
func (f *Fleet) Nodes(context.Context) ([]v1.Node, error) { return f.nodes, nil }

// Live lists the attempts that have a living task.
func (f *Fleet) Live() []penstock.UID {
	f.mu.Lock()
	defer f.mu.Unlock()
	var live []penstock.UID
	for key, t := range f.tasks {
		if !t.gone && !slices.Contains(live, key.attempt) {
			live = append(live, key.attempt)
		}
	}
	slices.Sort(live)
	return live
}

// Overlaps are the jobs that ever ran in two attempts at once: there must be none.
func (f *Fleet) Overlaps() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.overlaps)
}

// Close kills what is left and waits for its end.
func (f *Fleet) Close() {
	for _, attempt := range f.Live() {
		_ = f.end(attempt, -1, agentDead) // it never fails
	}
	f.wg.Wait()
}
