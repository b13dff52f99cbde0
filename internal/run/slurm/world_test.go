package slurm_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

// patience is for a machine that does much else.
const patience = 90 * time.Second

// built is the agent, built once for all tests.
var built struct {
	once sync.Once
	path string
	err  error
}

// agentProgram builds penstock-agent where it outlives the test that asks first.
func agentProgram(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		var dir string
		if dir, built.err = os.MkdirTemp("", "penstock-agent-"); built.err != nil {
			return
		}
		built.path = filepath.Join(dir, "penstock-agent")
		var program []byte
		if program, built.err = os.ReadFile(runtest.BuildAgent(t)); built.err == nil && !runtest.Race {
			built.err = os.WriteFile(built.path, program, 0o700)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	if runtest.Race { // the wrapper names a program that goes with its test
		return runtest.BuildAgent(t)
	}
	return built.path
}

// world is one attempt on a cluster.
type world struct {
	*runtest.Server
	t       *testing.T
	cluster *slurmtest.Cluster
	run.Executor
	options slurm.Options
	attempt penstock.UID
	scratch string
}

// begin makes an executor with a folder of its own, and one attempt. What runs
// of it ends with the test.
func begin(t *testing.T, c *slurmtest.Cluster, o slurm.Options) *world {
	t.Helper()
	if o.AgentPath == "" {
		o.AgentPath = agentProgram(t)
	}
	o.Dir, o.Conf = t.TempDir(), c.Conf
	w := &world{
		Server: runtest.NewServer(t), t: t, cluster: c, Executor: open(t, o), options: o,
		attempt: penstock.UID(fmt.Sprintf("%d-%s", os.Getpid(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))), scratch: t.TempDir(),
	}
	t.Cleanup(w.clear)
	return w
}

// clear ends what a test left.
func (w *world) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = w.Stop(ctx, w.attempt, 0)
	w.Fence()
	for w.Forget(ctx, w.attempt) != nil {
		if ctx.Err() != nil {
			w.t.Errorf("the attempt can't be forgotten; its job log:\n%s", w.jobLog())
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gang makes orders for one task on each of nodes, which may be named twice. The
// command is a shell script.
func (w *world) gang(script string, want penstock.Resources, nodes ...string) []v1.Order {
	local := map[string]int{}
	var orders []v1.Order
	for rank, node := range nodes {
		orders = append(orders, v1.Order{
			Server: w.Contact(), Project: "vision", Job: "train", JobUID: "job-1", Attempt: w.attempt, Number: 1, Set: "worker",
			Index: rank, Rank: rank, LocalRank: local[node], WorldSize: len(nodes), Node: node,
			Command: []string{"/bin/sh", "-c", script}, Env: map[string]string{"SCRATCH": w.scratch},
			Resources: want, Grace: v1.Duration(2 * time.Second),
		})
		local[node]++
	}
	w.Keep(orders)
	return orders
}

func (w *world) start(orders []v1.Order) {
	w.t.Helper()
	if err := w.Start(w.t.Context(), orders); err != nil {
		w.t.Fatalf("start: %v", err)
	}
}

func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			seen, err := w.Observe(context.Background())
			w.t.Fatalf("%s did not happen in %s; observed %+v (%v); log of the job:\n%s", what, patience, seen, err, w.jobLog())
		}
	}
}

func (w *world) jobLog() string {
	text, _ := os.ReadFile(filepath.Join(w.options.Dir, string(w.attempt), "job.log"))
	return string(text)
}

// states observes, and wants an answer.
func (w *world) states() []run.Observation {
	w.t.Helper()
	seen, err := w.Observe(context.WithoutCancel(w.t.Context()))
	if err != nil {
		w.t.Fatalf("observe: %v", err)
	}
	return slices.DeleteFunc(seen, func(o run.Observation) bool { return o.Attempt != w.attempt })
}

// all waits until every task is in that state, and gives them.
func (w *world) all(state run.State, tasks int) []run.Observation {
	w.t.Helper()
	var seen []run.Observation
	w.await("that all are "+string(state), func() bool {
		seen = w.states()
		return len(seen) == tasks && !slices.ContainsFunc(seen, func(o run.Observation) bool { return o.State != state })
	})
	return seen
}

// why waits until the end of each task is told with these words: Slurm may know
// it a little later than the task's folder.
func (w *world) why(tasks int, words string) {
	w.t.Helper()
	w.await("that the end is told as "+words, func() bool {
		seen := w.states()
		return len(seen) == tasks && !slices.ContainsFunc(seen, func(o run.Observation) bool { return !strings.Contains(o.Detail, words) })
	})
}

// saw waits until a command has written a file into $SCRATCH, and gives it.
func (w *world) saw(name string) string {
	w.t.Helper()
	var text []byte
	w.await("the file "+name, func() bool {
		text, _ = os.ReadFile(filepath.Join(w.scratch, name))
		return strings.HasSuffix(string(text), "\n")
	})
	return strings.TrimSuffix(string(text), "\n")
}

func (w *world) tell(name string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.scratch, name), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// exits counts the tasks that reported exit code 0.
func (w *world) exits(tasks int) int {
	n := 0
	for rank := range tasks {
		for _, r := range w.Reports(rank) {
			if r.Exited != nil && r.Exited.Code == 0 && !r.Exited.StartFailed {
				n++
			}
		}
	}
	return n
}

func (w *world) log(rank int) string {
	w.t.Helper()
	r, err := w.Logs(w.t.Context(), w.attempt, rank, run.LogOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// job is the id of the attempt's job.
func (w *world) job() string {
	w.t.Helper()
	id := ""
	w.await("that the job is there", func() bool {
		for line := range strings.Lines(w.cluster.Run(w.t, "squeue", "--noheader", "--all", "--states=all", "--format=%A %k")) {
			if job, rest, _ := strings.Cut(line, " "); id == "" && strings.Contains(rest, "attempt="+string(w.attempt)+" ") {
				id = job
			}
		}
		return id != ""
	})
	return id
}

// untilTold is shell that goes on until the test tells it.
func untilTold(name string) string {
	return fmt.Sprintf("while [ ! -e $SCRATCH/%s ]; do sleep 0.05; done; ", name)
}
