package slurm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
)

// overdue is how long after the end of its grace an agent may take to store what
// is left and to tell of it, before Slurm ends the job.
const overdue = time.Minute

// toldFile is, in a task's folder, the end that its agent was told of last.
const toldFile = "told"

// stopping is a task that is to end, and when.
type stopping struct {
	folder agent.Folder
	end    time.Time
}

// untold reports whether an agent is there that doesn't know of the end. One
// that comes later finds it in its folder.
func (s stopping) untold() bool {
	if _, err := s.folder.Agent(); err != nil {
		return false
	}
	told, err := os.ReadFile(filepath.Join(string(s.folder), toldFile))
	return err != nil || string(told) != s.end.Format(time.RFC3339Nano)
}

func (s stopping) tell() error {
	return replace(filepath.Join(string(s.folder), toldFile), []byte(s.end.Format(time.RFC3339Nano)), 0o600)
}

// Stop implements run.Executor. Slurm sends its signal to all processes of the
// tasks, not to the agents alone; so an agent is told once of each earlier end,
// however often Stop is called.
func (e *Executor) Stop(ctx context.Context, attempt penstock.UID, grace time.Duration) error {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return err
	}
	e.stopping.Lock()
	defer e.stopping.Unlock()
	g, err := readGang(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The batch script starts nothing any more.
	if err := replace(filepath.Join(dir, stopFile), nil, 0o600); err != nil {
		return fmt.Errorf("write attempt folder: %w", err)
	}
	var live []stopping
	for rank := range g.Tasks {
		f := rankFolder(dir, rank)
		if exists(string(f), overFile) {
			continue
		}
		end, err := f.StopBy(time.Now().Add(grace))
		if err != nil {
			return err
		}
		live = append(live, stopping{f, end})
	}
	if len(live) == 0 {
		return nil
	}
	return e.end(ctx, attempt, g.Job, live)
}

// end makes Slurm end the jobs of an attempt: those that wait at once, and those
// that run by telling their agents. Where an agent is long overdue, Slurm's own
// TERM and KILL follow.
func (e *Executor) end(ctx context.Context, attempt penstock.UID, job string, live []stopping) error {
	entries, err := e.queue.since(ctx, time.Now())
	if err != nil {
		return err
	}
	var untold []stopping
	late := true
	for _, s := range live {
		late = late && time.Since(s.end) > overdue
		if s.untold() {
			untold = append(untold, s)
		}
	}
	for _, entry := range entries {
		uid, ours := attemptOf(entry.comment)
		if entry.component > 0 || entry.over() || entry.job != job && (!ours || uid != attempt) {
			continue
		}
		args := []string{entry.job}
		if !entry.waits() && !late {
			if len(untold) == 0 {
				continue
			}
			args = []string{"--signal=TERM", entry.job}
		}
		if _, err := e.commands.run(ctx, "scancel", args...); err != nil {
			return unavailable("whether it ends job "+entry.job, err)
		}
	}
	for _, s := range untold {
		if err := s.tell(); err != nil {
			return fmt.Errorf("write task folder: %w", err)
		}
	}
	return nil
}
