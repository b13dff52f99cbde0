package slurm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
)

// Observe implements run.Executor. Where Slurm doesn't answer, it gives what the
// shared folder tells of tasks that have ended, and an error.
func (e *Executor) Observe(ctx context.Context) ([]run.Observation, error) {
	all, err := e.attempts()
	if err != nil {
		return nil, err
	}
	var out []run.Observation
	var errs []error
	for _, attempt := range all {
		dir, err := e.attemptDir(attempt)
		if err != nil {
			return nil, err
		}
		g, err := readGang(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && g.Job == "" {
			continue // not started, as far as anybody knows
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		seen, err := e.observe(ctx, attempt, dir, g)
		out = append(out, seen...)
		// One silence is enough to tell of.
		if err != nil && len(errs) == 0 {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// observe looks at the tasks of one attempt. With an error it gives those that
// are known to be gone.
func (e *Executor) observe(ctx context.Context, attempt penstock.UID, dir string, g gang) ([]run.Observation, error) {
	after := g.At
	if after.IsZero() {
		after = time.Now() // it elected itself, and its submission was not recorded
	}
	look := sync.OnceValues(func() ([]entry, error) { return e.queue.since(ctx, after) })
	var out []run.Observation
	var silence error
	for rank, task := range g.Tasks {
		f := rankFolder(dir, rank)
		o := run.Observation{Attempt: attempt, Rank: rank, Node: nodeOf(f)}
		job, why, err := e.fate(ctx, dir, g.Job, task.Component, exists(string(f), overFile), look)
		switch {
		case err != nil:
			silence = err
			continue
		case job != nil:
			o.State, o.Detail = state(f, *job)
		default:
			o.State, o.Detail = gone(dir, f, why)
		}
		out = append(out, o)
	}
	return out, silence
}

// fate gives the job that a task belongs to, or nil once the task has ended, and
// why if that is known. over says that the task's own shell has told of its end;
// then Slurm need not answer. What it says of a job's end is kept: it forgets.
func (e *Executor) fate(ctx context.Context, dir, job string, component int, over bool, look func() ([]entry, error)) (*entry, string, error) {
	file := filepath.Join(dir, fmt.Sprintf("ended-%d", component))
	if why, err := os.ReadFile(file); err == nil || job == "" {
		return nil, string(why), nil
	}
	entries, err := look()
	if err != nil {
		if over {
			err = nil
		}
		return nil, "", err
	}
	at := slices.IndexFunc(entries, func(e entry) bool { return e.job == job && e.component == component })
	if at >= 0 && !entries[at].over() {
		if over {
			return nil, "", nil
		}
		return &entries[at], "", nil
	}
	why := ""
	if at >= 0 {
		why = e.ending(ctx, entries[at])
	} else {
		why = e.vanished(ctx, job)
	}
	if err := replace(file, []byte(why), 0o600); err != nil {
		return nil, "", fmt.Errorf("write attempt folder: %w", err)
	}
	return nil, why, nil
}

func exists(parts ...string) bool {
	_, err := os.Lstat(filepath.Join(parts...))
	return err == nil
}

func nodeOf(f agent.Folder) string {
	b, _ := os.ReadFile(filepath.Join(string(f), nodeFile)) // it may have none yet
	return strings.TrimSpace(string(b))
}

// state is that of a task whose job is not over.
func state(f agent.Folder, job entry) (run.State, string) {
	if job.waits() {
		return run.Pending, waiting(job)
	}
	if _, err := f.Agent(); err != nil {
		return run.Pending, "its node starts it"
	}
	return run.Running, ""
}

// gone tells of a task that has ended. Whatever a dead agent left on this
// machine dies first; on its node that is Slurm's to see to.
func gone(dir string, f agent.Folder, why string) (run.State, string) {
	if id, err := f.Agent(); err == nil && here(id) {
		if err := f.Kill(); err != nil {
			return run.Running, "its agent is gone, but " + err.Error()
		}
	}
	said, left := f.Left()
	switch {
	case left:
	case f.Begun():
		said = "the agent was killed before it could deliver its last report"
	default:
		said = strings.TrimSpace("the agent was gone before it began. " + strings.TrimSpace(f.Complaint()+" "+complaint(dir)))
	}
	if why == "" || left && strings.HasPrefix(why, "COMPLETED") {
		return run.Gone, said
	}
	return run.Gone, why + "; " + said
}

// here reports whether an agent was one of this machine.
func here(id agent.Identity) bool {
	own, err := agent.Identify(os.Getpid())
	return err == nil && own.Boot == id.Boot
}

// complaint is the end of what the batch script and srun wrote, in one line.
func complaint(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, jobLog))
	return strings.Join(strings.Fields(string(b[max(0, len(b)-1000):])), " ")
}
