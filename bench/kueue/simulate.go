package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// result is what one configuration took.
type result struct {
	workloads, cycles, evictions int
	cpu                          float64
	end                          time.Duration
	waited                       map[string]time.Duration // sum, by class
	count                        map[string]int
}

func (r *result) wait(class string) float64 {
	return r.waited[class].Seconds() / float64(max(1, r.count[class]))
}

// workload is one of them, with when it came and its present start.
type workload struct {
	job    cycle.Job
	class  *class
	starts int // how often it was started: an end that belongs to an earlier one is void
	first  bool
}

// ending is when a started workload is done.
type ending struct {
	at     time.Time
	of     *workload
	starts int
}

type endings []ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(a, b int) bool { return e[a].at.Before(e[b].at) }
func (e endings) Swap(a, b int)      { e[a], e[b] = e[b], e[a] }
func (e *endings) Push(x any)        { *e = append(*e, x.(ending)) }
func (e *endings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulate runs a configuration until all is done.
func simulate(c config) (*result, error) {
	s, err := c.state()
	if err != nil {
		return nil, err
	}
	arrivals, byID := c.workloads()
	r := &result{workloads: len(arrivals), waited: map[string]time.Duration{}, count: map[string]int{}}
	var running endings
	runtime.GC()
	from := cpu()
	for len(arrivals) > 0 || len(running) > 0 {
		now := next(arrivals, running)
		for len(running) > 0 && !running[0].at.After(now) {
			e := heap.Pop(&running).(ending)
			if e.starts != e.of.starts {
				continue
			}
			if err := s.Finished(e.of.job.ID); err != nil {
				return nil, err
			}
			r.end = now.Sub(epoch)
		}
		for len(arrivals) > 0 && !arrivals[0].job.QueuedAt.After(now) {
			if err := s.Submit(arrivals[0].job); err != nil {
				return nil, err
			}
			arrivals = arrivals[1:]
		}
		if err := r.decide(s, now, byID, &running); err != nil {
			return nil, err
		}
	}
	r.cpu = cpu() - from
	if n := s.Pending(); n > 0 {
		return nil, fmt.Errorf("%d of %d workloads wait for ever", n, r.workloads)
	}
	return r, nil
}

func next(arrivals []*workload, running endings) time.Time {
	switch {
	case len(arrivals) == 0:
		return running[0].at
	case len(running) == 0 || arrivals[0].job.QueuedAt.Before(running[0].at):
		return arrivals[0].job.QueuedAt
	}
	return running[0].at
}

// decide runs cycles at one moment, until nobody is evicted any more: who is has
// gone at once here.
func (r *result) decide(s *cycle.State, now time.Time, byID map[penstock.UID]*workload, running *endings) error {
	for again := true; again; {
		again = false
		r.cycles++
		for _, d := range s.Cycle(now) {
			w := byID[d.Job]
			switch d.Verdict {
			case cycle.Start:
				w.starts++
				if !w.first {
					w.first = true
					r.count[w.class.name]++
					r.waited[w.class.name] += now.Sub(w.job.QueuedAt)
				}
				heap.Push(running, ending{now.Add(w.class.runtime), w, w.starts})
			case cycle.Evict:
				again = true
				r.evictions++
				w.starts++
				if err := s.Requeued(d.Job); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// workloads lists all by the time when they come.
func (c config) workloads() ([]*workload, map[penstock.UID]*workload) {
	var all []*workload
	byID := map[penstock.UID]*workload{}
	for cohort := range c.cohorts {
		for q := range c.queues {
			queue := fmt.Sprintf("cohort-%02d-%03d", cohort, q)
			for k := range c.classes {
				class := &c.classes[k]
				for i := range class.count {
					w := &workload{class: class, job: cycle.Job{
						ID: penstock.UID(fmt.Sprintf("%s-%d-%03d", queue, k, i)), Queue: queue, Priority: class.priority,
						QueuedAt: epoch.Add(time.Duration(i+1) * class.interval),
						Together: fleet.Topology{Level: "rack", Mode: class.rack},
						Sets:     []cycle.Set{{Name: "main", Count: class.pods, Each: penstock.Resources{penstock.CPU: class.each}}},
					}}
					all = append(all, w)
					byID[w.job.ID] = w
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b *workload) int {
		return cmp.Or(a.job.QueuedAt.Compare(b.job.QueuedAt), cmp.Compare(a.job.ID, b.job.ID))
	})
	return all, byID
}
