package cycle

import (
	"slices"

	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// grant promises a job its place, and tells the victims, who hold some of it, to
// go. What it was promised nobody else gets, whenever which of them goes.
func (s *State) grant(j *job, d *desk, tasks []fleet.Task, victims []*job) {
	s.leave(j)
	j.unset(s)
	j.phase, j.desk, j.tasks, j.since = promised, d, tasks, s.now
	j.line.queue.Take(quota.Soon, j.shape.gang.Total)
	for i := range tasks {
		tasks[i].Promise()
	}
	s.granted.push(j)
	d.starts++
	for _, v := range victims {
		v.phase, v.giveWayTo = stopping, j
		j.owed++
		v.line.queue.Give(quota.Soon, v.shape.gang.Total)
		v.line.tokens.spend(s.policy.Preemption, s.now)
		s.out = append(s.out, Decision{Verdict: Evict, Job: v.spec.ID, For: j.spec.ID})
		s.shared(v.line)
	}
	s.shared(j.line)
	s.out = append(s.out, Decision{Verdict: Promise, Job: j.spec.ID, Placement: j.placement()})
}

// redeem starts the jobs whose place is free now, and gives up those whose node
// is gone, or for whom the others didn't go in time.
func (s *State) redeem() {
	if s.granted.empty() {
		return
	}
	for _, j := range slices.SortedFunc(slices.Values(s.granted.items), func(a, b *job) int {
		if a.before(b) {
			return -1
		}
		return 1
	}) {
		late := s.now.Sub(j.since) >= s.policy.Preemption.Patience
		gone := slices.ContainsFunc(j.tasks, func(t fleet.Task) bool { return t.Node.Gone() })
		if !gone && s.claim(j) {
			continue
		}
		if gone || late {
			s.renege(j)
			s.join(j)
		}
	}
}

// claim starts a job on what it was promised, if all of it is free.
func (s *State) claim(j *job) bool {
	if _, _, short := j.line.queue.Short(quota.Now, j.shape.gang.Total); short {
		return false
	}
	for i := range j.tasks {
		j.tasks[i].Break()
	}
	for i := range j.tasks {
		if t := &j.tasks[i]; t.Fits() {
			t.Take(fleet.Short)
			continue
		}
		for k := range i {
			j.tasks[k].Give(fleet.Short)
		}
		for k := range j.tasks {
			j.tasks[k].Promise()
		}
		return false
	}
	s.granted.remove(j.index)
	s.start(j, j.desk, j.tasks)
	return true
}

// renege takes a promise back. Who was told to go for it still goes, and until
// the last one has, the job has nobody else go.
func (s *State) renege(j *job) {
	for i := range j.tasks {
		j.tasks[i].Break()
		j.tasks[i].Node.Forget()
	}
	s.granted.remove(j.index)
	j.line.queue.Give(quota.Soon, j.shape.gang.Total)
	d := j.desk
	j.desk, j.tasks = nil, nil
	s.release(d)
	j.line.root().loose = true
}
