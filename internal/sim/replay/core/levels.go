package core

import (
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/sim/replay"
)

// Levels are how much service, in GPU-time, takes a job down one priority each,
// rising: least attained service first, in steps, as in Tiresias (NSDI'19). The
// jobs of a level stand in the order of arrival. A job that comes to the next
// level gives way, saves, and queues again there. None is one level: the order
// of arrival.
type Levels []time.Duration

// Steps makes levels at first, and at factor times as much each, up to most.
func Steps(first time.Duration, factor int, most time.Duration) Levels {
	var l Levels
	for at := first; at <= most; at *= time.Duration(factor) {
		l = append(l, at)
	}
	return l
}

// of is the level that so much service comes to.
func (l Levels) of(service time.Duration) int {
	at, found := slices.BinarySearch(l, service)
	if found {
		at++
	}
	return at
}

// demote stops who has come to another level.
func (s *Scheduler) demote(v replay.View) []replay.Decision {
	var out []replay.Decision
	for _, j := range s.runs {
		if at := s.levels.of(time.Duration(penstock.Amount(v.Held(j.ID)).Times(j.GPUs))); at > s.level[j.ID] {
			s.level[j.ID] = at
			out = append(out, replay.Decision{Verb: replay.Stop, Job: j.ID})
		}
	}
	return out
}

// ended forgets that a job runs.
func (s *Scheduler) ended(j *replay.Job) {
	if i := slices.Index(s.runs, j); i >= 0 {
		s.runs = slices.Delete(s.runs, i, i+1)
	}
}
