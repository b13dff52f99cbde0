package cycle

import "time"

// timer is when a pending job has waited so long that it counts for more.
type timer struct {
	at    time.Time
	job   *job
	index int // in State.timers, or -1
}

// arm sets the job's timer to the next time at which waiting changes something.
func (s *State) arm(j *job) {
	at := j.retry
	for _, after := range []time.Duration{s.policy.HoldAfter, s.policy.Age} {
		if t := j.spec.QueuedAt.Add(after); after > 0 && t.After(s.now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if at.IsZero() {
		j.unset(s)
		return
	}
	switch {
	case j.timer == nil:
		j.timer = &timer{at: at, job: j}
		s.timers.push(j.timer)
	case !j.timer.at.Equal(at):
		j.timer.at = at
		s.timers.fix(j.timer.index)
	}
}

func (j *job) unset(s *State) {
	if j.timer != nil {
		s.timers.remove(j.timer.index)
		j.timer = nil
	}
}

// ring takes up again who has waited long enough for something. Who has waited
// for Age goes, from then on, before all priorities.
func (s *State) ring() {
	for !s.timers.empty() && !s.timers.top().at.After(s.now) {
		j := s.timers.top().job
		j.unset(s)
		if j.phase != pending {
			continue
		}
		if s.policy.Age > 0 && !j.aged && s.now.Sub(j.spec.QueuedAt) >= s.policy.Age {
			s.leave(j)
			j.aged = true
			s.join(j)
		}
		s.wake(j.bucket)
	}
}
