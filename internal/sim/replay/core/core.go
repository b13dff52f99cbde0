// Package core lets the production scheduler run a replay: it tells
// internal/place/cycle what happens to the jobs of a trace, and hands on what it
// decides. No second scheduler is in it, and the scheduler is told nothing that
// it wouldn't know in production: not how long a job will work.
package core

import (
	"fmt"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
	"github.com/penstock/penstock/internal/sim/replay"
)

// gpu is the only resource that traces speak of, pool the only pool.
const (
	gpu  penstock.Resource = "gpu"
	pool                   = "trace"
)

// epoch is the moment that a trace's beginning counts as.
var epoch = time.Unix(1_000_000_000, 0).UTC()

// Queue is a queue of the fleet. All of them are side by side.
type Queue struct {
	Name    string
	Nominal int     // GPUs
	Borrows Borrows // of what the others leave idle
	Passing cycle.Passing
}

// Borrows is what a queue may hold beyond its nominal quota.
type Borrows int

// Nothing and Everything are the ends of that.
const (
	Nothing Borrows = iota
	Everything
)

// Scheduler is the production scheduler in a replay. It implements
// replay.Scheduler.
type Scheduler struct {
	state  *cycle.State
	width  int // GPUs of the largest node
	levels Levels
	jobs   []*replay.Job // that have come
	level  []int         // of each of jobs
	runs   []*replay.Job // with levels
}

// New makes a scheduler for a fleet and queues that share it.
func New(p cycle.Policy, nodes []replay.Node, queues []Queue, levels Levels) (*Scheduler, error) {
	s := &Scheduler{state: cycle.New(p), levels: levels}
	if err := s.state.SetPool(pool); err != nil {
		return nil, err
	}
	for i, n := range nodes {
		s.width = max(s.width, n.GPUs)
		err := s.state.SetNode(pool, fleet.Spec{Name: nodeName(i), Capacity: penstock.Resources{gpu: whole(n.GPUs)}})
		if err != nil {
			return nil, err
		}
	}
	if err := s.state.SetQueue(quota.Spec{Name: "all"}, cycle.Backfill); err != nil {
		return nil, err
	}
	for _, q := range queues {
		spec := quota.Spec{Name: q.Name, Parent: "all", Nominal: penstock.Resources{gpu: whole(q.Nominal)}}
		if q.Borrows == Everything {
			spec.Borrow = penstock.Resources{gpu: quota.Unlimited}
		}
		if err := s.state.SetQueue(spec, q.Passing); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func whole(gpus int) penstock.Amount { return penstock.Amount(1000).Times(gpus) }

// Names sort as the numbers in them do.
func nodeName(i int) string                    { return fmt.Sprintf("node-%05d", i) }
func jobName(i int) penstock.UID               { return penstock.UID(fmt.Sprintf("job-%07d", i)) }
func number(name string, cut int) (int, error) { return strconv.Atoi(name[cut:]) }

// Tell implements replay.Scheduler.
func (s *Scheduler) Tell(e replay.Event) error {
	id := jobName(e.Job.ID)
	switch e.Kind {
	case replay.Arrived:
		s.jobs, s.level = append(s.jobs, e.Job), append(s.level, 0)
		return s.submit(e.Job)
	case replay.Finished:
		s.ended(e.Job)
		return s.state.Finished(id)
	case replay.Stopped:
		s.ended(e.Job)
		if s.levels == nil {
			return s.state.Requeued(id)
		}
		if err := s.state.Finished(id); err != nil {
			return err
		}
		return s.submit(e.Job) // at what may be another level
	}
	return s.state.Saved(id, epoch.Add(e.At))
}

func (s *Scheduler) submit(j *replay.Job) error {
	return s.state.Submit(cycle.Job{
		ID: jobName(j.ID), Queue: j.Queue, Priority: -s.level[j.ID], QueuedAt: epoch.Add(j.Arrive), Restart: j.Restart, Sets: s.sets(j.GPUs),
	})
}

// sets is a job as a gang: on one node, or on whole nodes and the rest on one.
func (s *Scheduler) sets(gpus int) []cycle.Set {
	var sets []cycle.Set
	if n := gpus / s.width; n > 0 {
		sets = append(sets, cycle.Set{Name: "whole", Count: n, Each: penstock.Resources{gpu: whole(s.width)}})
	}
	if rest := gpus % s.width; rest > 0 {
		sets = append(sets, cycle.Set{Name: "rest", Count: 1, Each: penstock.Resources{gpu: whole(rest)}})
	}
	return sets
}

// Decide implements replay.Scheduler.
func (s *Scheduler) Decide(v replay.View) ([]replay.Decision, error) {
	if out := s.demote(v); out != nil {
		return out, nil // it's asked again
	}
	var out []replay.Decision
	for _, d := range s.state.Cycle(epoch.Add(v.Now)) {
		if d.Verdict != cycle.Start && d.Verdict != cycle.Evict {
			continue
		}
		id, err := number(string(d.Job), len("job-"))
		if err != nil {
			return nil, err
		}
		r := replay.Decision{Verb: replay.Stop, Job: id}
		if d.Verdict == cycle.Start {
			r.Verb = replay.Start
			if r.At, err = shares(d.Placement); err != nil {
				return nil, err
			}
		}
		if r.Verb == replay.Start && s.levels != nil {
			s.runs = append(s.runs, s.jobs[id])
		}
		out = append(out, r)
	}
	return out, nil
}

func shares(p *cycle.Placement) ([]replay.Share, error) {
	at := make([]replay.Share, len(p.Tasks))
	for i, t := range p.Tasks {
		n, err := number(t.Node, len("node-"))
		if err != nil {
			return nil, err
		}
		at[i] = replay.Share{Node: n, GPUs: len(t.Devices)}
	}
	return at, nil
}
