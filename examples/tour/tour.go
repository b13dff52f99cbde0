package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// pace is how much is done.
type pace struct {
	Steps, Every int // of the training, and between its checkpoints
	Requests     int
	// Retrain is how long the retraining is waited for, before it is stopped.
	Retrain time.Duration
}

var (
	full = pace{Steps: 800, Every: 50, Requests: 300, Retrain: 3 * time.Minute}
	fast = pace{Steps: 80, Every: 10, Requests: 120, Retrain: 45 * time.Second}
)

// after is what becomes of the server.
type after int

const (
	stop after = iota
	keep
)

// options are what a tour works with.
type options struct {
	Root     string // the repository
	Dir      string // for data, logs and the report
	Out      io.Writer
	Terminal bool // Out is one
	Pace     pace
	After    after
}

// project is the tour's tenant, as project.yaml names it.
const project = "tour"

// tour is the state that the steps share.
type tour struct {
	options
	narrator
	server *server
	api    *client.Client // looks, and changes nothing
	tokens map[string]string
	shop   shop
	report report

	dataset penstock.Digest // of go's version
	version penstock.Digest // of tiny-go's first version
}

// step is one part of the tour.
type step struct {
	title string
	do    func(*tour, context.Context) error
}

func steps() []step {
	return []step{
		{"Land: a project, who works in it, and what they may not", (*tour).land},
		{"Data: prepared, counted, and the same again", (*tour).data},
		{"Train: a gang of two, one worker killed, resumed whole", (*tour).train},
		{"Register: a version, and all that it came from", (*tour).register},
		{"Gate: numbers first, then somebody else's yes", (*tour).gate},
		{"Serve: an OpenAI API, metered to the token", (*tour).serve},
		{"Cost: every second, to the billionth", (*tour).cost},
		{"Watch: drift, an alert, retraining", (*tour).watch},
		{"Leave: what goes, what stays and why", (*tour).leave},
	}
}

// run takes the tour. Whatever happens, nothing that it started is left behind,
// unless that was asked for.
func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	t := &tour{options: o, narrator: narrator{out: o.Out}, tokens: map[string]string{}}
	if err := t.prepare(); err != nil {
		return err
	}
	if t.server, err = startServer(ctx, o); err != nil {
		return err
	}
	t.api = t.server.client()
	defer func() {
		if o.After == keep && err == nil {
			return
		}
		err = errors.Join(err, t.clear(context.WithoutCancel(ctx)), t.server.stop())
	}()
	for i, s := range steps() {
		t.begin(i+1, s.title)
		since := time.Now()
		if err := errors.Join(s.do(t, ctx), t.verdict()); err != nil {
			t.diagnose(ctx)
			return fmt.Errorf("step %d, %s: %w\n      the server's log is %s", i+1, s.title, err, t.server.log)
		}
		t.report.Steps = append(t.report.Steps, told{i + 1, s.title, t.facts, time.Since(since)})
	}
	t.report.Took = time.Since(began)
	path := filepath.Join(o.Dir, "report.html")
	if err := t.report.write(path); err != nil {
		return err
	}
	t.farewell(path)
	return nil
}

// prepare checks what the tour needs, and lays out a copy of the manifests to
// edit, as a user would.
func (t *tour) prepare() error {
	var err error
	if t.Root, err = filepath.Abs(t.Root); err != nil {
		return err
	}
	if t.Dir, err = filepath.Abs(t.Dir); err != nil {
		return err
	}
	if err := missing(t.Root); err != nil {
		return err
	}
	if runtime.NumCPU() < 2 {
		return &penstock.Error{Code: penstock.Unsupported, Msg: "the tour's gang needs 2 CPUs, and this machine has 1"}
	}
	if err := release(t.Dir); err != nil {
		return err
	}
	return t.copyManifests()
}

// missing says what of the tour's needs isn't there.
func missing(root string) error {
	for _, need := range []struct{ path, hint string }{
		{"bin/penstock", "make build"},
		{"bin/penstock-agent", "make build"},
		{"bin/penstock-llama", "make build"},
		{".build/llama/lib/libllama.so", "hack/llama/install.sh"},
		{"examples/tour/train.yaml", "start the tour in the repository, or give -root"},
	} {
		if _, err := os.Stat(filepath.Join(root, need.path)); err != nil {
			return &penstock.Error{Code: penstock.NotFound, Msg: need.path + " is missing: " + need.hint}
		}
	}
	return torch()
}

// diagnose shows why work stands where it does, before it is cleared away.
func (t *tour) diagnose(ctx context.Context) {
	jobs, _, err := t.api.List(ctx, penstock.KindJob, client.ListOptions{Project: project})
	for _, o := range jobs {
		if o.Metadata.Phase != penstock.PhaseSucceeded && err == nil {
			_, err = t.do(ctx, root, "explain", o.Metadata.Name)
		}
		if err == nil && o.Metadata.Phase != penstock.PhaseSucceeded {
			_, _ = t.do(ctx, root, "logs", "--tail", "10", o.Metadata.Name) // it may have none
		}
	}
}

// clear ends all work of the project: agents would go on without a server.
func (t *tour) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	_, err := t.api.Delete(ctx, v1.DeleteRequest{Refs: []penstock.Ref{{Kind: penstock.KindProject, Name: project}}})
	if code := penstock.CodeOf(err); err != nil && code != penstock.NotFound {
		return fmt.Errorf("clear up: %w", err)
	}
	return t.until(ctx, "all work has ended", func() (bool, error) {
		live, _, err := t.api.List(ctx, penstock.KindAttempt, client.ListOptions{Phases: []penstock.Phase{
			penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping,
		}})
		return len(live) == 0, err
	})
}

// until asks again until the answer is yes, an error, or ctx ends.
func (t *tour) until(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := ask()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func ref(kind penstock.Kind, name string) penstock.Ref {
	return penstock.Ref{Kind: kind, Project: project, Name: name}
}

func (t *tour) farewell(path string) {
	fmt.Fprintf(t.out, "\nThe whole way took %s. The report: %s\n", t.report.Took.Round(time.Second), path)
	if t.After != keep {
		fmt.Fprintf(t.out, "Everything has ended. DEMO_KEEP=1 make demo leaves the server up, to look further.\n")
		return
	}
	fmt.Fprintf(t.out, `
The server goes on, as process %d. Look further:
  %s        the web page; log in with the token in %s
  export PENSTOCK_CONTEXT=%[3]s PENSTOCK_PROJECT=%s
  bin/penstock top
  bin/penstock model show tiny-go@production
  bin/penstock explain train
  bin/penstock cost --by job
  bin/penstock delete project/%[4]s        ends all its work; then kill %[1]d
`, t.server.cmd.Process.Pid, t.api.Base, t.server.context, project)
}
