package replay

import (
	"cmp"
	"slices"
)

// By is what the oracle counts as short.
type By int

// Time is the remaining time: SRTF. Service is remaining time by GPUs: SRSF.
const (
	Time By = iota
	Service
)

// Shortest is the preemptive oracle that Muri and Tiresias compare with: whenever
// a job comes or ends, all are sorted by what is left of them and placed anew,
// the shortest first, on the first nodes that fit; who doesn't fit is passed over.
// A job of up to a node's GPUs takes one node, a larger one whole nodes and the
// rest on one more. It follows shortest_first_sim_jobs and ms_yarn_placement of
// Muri's simulator (SIGCOMM'22).
type Shortest struct {
	by    By
	nodes []Node
	jobs  []*Job // that have come and not ended, as they were last sorted
	moved bool   // since the last Decide
}

// NewShortest makes the oracle for a fleet.
func NewShortest(by By, nodes []Node) *Shortest { return &Shortest{by: by, nodes: nodes} }

// Tell implements Scheduler.
func (s *Shortest) Tell(e Event) error {
	switch e.Kind {
	case Arrived:
		s.jobs = append(s.jobs, e.Job)
		s.moved = true
	case Finished:
		s.jobs = slices.DeleteFunc(s.jobs, func(j *Job) bool { return j == e.Job })
		s.moved = true
	}
	return nil
}

// Decide implements Scheduler.
func (s *Shortest) Decide(v View) ([]Decision, error) {
	if !s.moved {
		return nil, nil
	}
	s.moved = false
	left := make(map[*Job]float64, len(s.jobs))
	for _, j := range s.jobs {
		left[j] = float64(v.Left(j.ID))
		if s.by == Service {
			left[j] *= float64(j.GPUs)
		}
	}
	slices.SortStableFunc(s.jobs, func(a, b *Job) int { return cmp.Compare(left[a], left[b]) })
	free := make([]int, len(s.nodes))
	for i, n := range s.nodes {
		free[i] = n.GPUs
	}
	var stops, starts []Decision
	for _, j := range s.jobs {
		at, now := s.fit(j.GPUs, free), v.At(j.ID)
		if slices.Equal(at, now) {
			continue
		}
		if now != nil {
			stops = append(stops, Decision{Verb: Stop, Job: j.ID})
		}
		if at != nil {
			starts = append(starts, Decision{Verb: Start, Job: j.ID, At: at})
		}
	}
	return append(stops, starts...), nil
}

// fit takes GPUs of the first nodes that fit, or none. Nodes are alike.
func (s *Shortest) fit(want int, free []int) []Share {
	var at []Share
	for i := 0; i < len(free) && want >= s.nodes[i].GPUs; i++ {
		if free[i] == s.nodes[i].GPUs {
			at = append(at, Share{i, free[i]})
			want -= free[i]
		}
	}
	for i := 0; i < len(free) && want > 0; i++ {
		if free[i] >= want && !slices.ContainsFunc(at, func(s Share) bool { return s.Node == i }) {
			at = append(at, Share{i, want})
			want = 0
		}
	}
	if want > 0 {
		return nil
	}
	for _, t := range at {
		free[t.Node] -= t.GPUs
	}
	return at
}
