package cycle

import (
	"math"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/quota"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// tokens counts the evictions of a queue's jobs in one window of time.
type tokens struct {
	window int64
	spent  int
}

func (t *tokens) left(p Preemption, now time.Time) int {
	if p.Evictions <= 0 || p.Every <= 0 {
		return math.MaxInt
	}
	if now.UnixNano()/int64(p.Every) != t.window {
		return p.Evictions
	}
	return p.Evictions - t.spent
}

// renewed is when the next window begins.
func (t *tokens) renewed(p Preemption, now time.Time) time.Time {
	return time.Unix(0, (now.UnixNano()/int64(p.Every)+1)*int64(p.Every))
}

func (t *tokens) spend(p Preemption, now time.Time) {
	if p.Evictions <= 0 || p.Every <= 0 {
		return
	}
	if w := now.UnixNano() / int64(p.Every); w != t.window {
		t.window, t.spent = w, 0
	}
	t.spent++
}

// right is that of a job to have running jobs of a line give way.
type right int

// none is no right. lower: they are of the job's own queue, and of less
// priority. reclaim: their queue borrows what is the job's nominal quota. fairer:
// both borrow, and even then the job's queue would have no more than theirs.
const (
	none right = iota
	lower
	reclaim
	fairer
)

// rightOn says by what right, if any, the job may have work of a line give way,
// beside all that was already told to.
func (s *State) rightOn(j *job, l *line) right {
	if l == j.line {
		return lower
	}
	mine, theirs := fork(j.line, l)
	if mine == nil || theirs == nil {
		return none
	}
	total := j.shape.gang.Total
	for at := l; ; at = at.parent {
		if !at.queue.Over(quota.Soon, total) {
			return none // what is theirs isn't taken
		}
		if at == theirs {
			break
		}
	}
	if !mine.queue.Borrows(quota.Soon, total) {
		return reclaim
	}
	j.line.queue.Take(quota.Soon, total)
	more := mine.queue.Borrowed() >= theirs.queue.Borrowed()
	j.line.queue.Give(quota.Soon, total)
	if more {
		return none // and so it would be the more, with any of theirs gone
	}
	return fairer
}

// census is what is known of all that runs of a line: nobody has run for longer
// than since oldest, and nobody has a lower priority.
type census struct {
	oldest time.Time
	lowest int
	stale  bool // somebody left, so that the bounds may be too wide
}

func (l *line) enlist(j *job) {
	if c := &l.census; len(l.running) == 0 {
		*c = census{oldest: j.since, lowest: j.spec.Priority}
	} else {
		c.lowest = min(c.lowest, j.spec.Priority)
		if j.since.Before(c.oldest) {
			c.oldest = j.since
		}
	}
	l.running = append(l.running, j)
}

// bounds brings the census up to date.
func (l *line) bounds() census {
	if l.census.stale {
		c := census{oldest: l.running[0].since, lowest: l.running[0].spec.Priority}
		for _, j := range l.running {
			c.lowest = min(c.lowest, j.spec.Priority)
			if j.since.Before(c.oldest) {
				c.oldest = j.since
			}
		}
		l.census = c
	}
	return l.census
}

// anybody finds, line by line, by what right the job may have others give way,
// and whether there is any line of which it may.
func (p *purge) anybody() bool {
	found := false
	for _, l := range p.j.line.root().members {
		if len(l.running) == 0 {
			continue
		}
		c := l.bounds()
		if l == p.j.line && c.lowest >= p.j.spec.Priority {
			l.right, l.searched = none, p.State.search
			continue
		}
		r := p.right(l)
		if ripe := c.oldest.Add(p.policy.Preemption.MinRuntime); ripe.After(p.now) {
			if r != none {
				p.later(ripe)
			}
			l.right = none
			continue
		}
		found = r != none || found
	}
	return found
}

// later has the job taken up again when somebody may give way who may not yet.
func (p *purge) later(at time.Time) {
	if at.After(p.now) && (p.j.retry.IsZero() || at.Before(p.j.retry)) {
		p.j.retry = at
	}
}

// fork is the two lines, just below the one that both are below, on the way to
// each; nil if they share none.
func fork(a, b *line) (mine, theirs *line) {
	for x := a; x.parent != nil; x = x.parent {
		for y := b; y.parent != nil; y = y.parent {
			if x.parent == y.parent && x != y {
				return x, y
			}
		}
	}
	return nil, nil
}

// mayGo says whether a running job may give way for another at all.
func (s *State) mayGo(v, j *job) bool {
	return v.phase == running && !v.spec.Keeps && v != j
}

// fair says, of a victim whose queue borrows as the job's does, whether the job's
// queue would still have no larger share than the victim's has without it. Such
// an exchange makes the larger of the two shares smaller, so it can't go round
// in a circle.
func (s *State) fair(j, v *job) bool {
	mine, theirs := fork(j.line, v.line)
	j.line.queue.Take(quota.Soon, j.shape.gang.Total)
	v.line.queue.Give(quota.Soon, v.shape.gang.Total)
	ok := mine.queue.Borrowed() <= theirs.queue.Borrowed()
	v.line.queue.Take(quota.Soon, v.shape.gang.Total)
	j.line.queue.Give(quota.Soon, j.shape.gang.Total)
	return ok
}

// entitled says whether the job has the right to have this one give way.
func (s *State) entitled(j, v *job, r right) bool {
	switch r {
	case lower:
		return v.spec.Priority < j.spec.Priority
	case reclaim:
		return true
	case fairer:
		return s.fair(j, v)
	}
	return false
}

// price is what it costs that a job gives way: the work that it does again since
// it was last safe, and its restart, in thousandths of device-seconds (of
// CPU-seconds if it has no device).
func (s *State) price(v *job) int64 {
	restart := v.spec.Restart
	if restart == 0 {
		restart = s.policy.Preemption.Restart
	}
	lost := (s.now.Sub(v.saved) + restart) / time.Second
	return int64(v.shape.heft.Times(int(max(1, lost))))
}

// heft is what a gang of some sum weighs: its devices, or its CPU if it has none.
func (s *State) heft(sum vector.Sum) penstock.Amount {
	var devices, cpu penstock.Amount
	for _, t := range sum {
		switch name := s.table.Name(t.ID); {
		case name.Accelerator():
			devices = devices.Add(t.Amount)
		case name == penstock.CPU:
			cpu = t.Amount
		}
	}
	if devices == 0 {
		return cpu
	}
	return devices
}

// within says whether so much may be evicted for the job, by the policy's ratio,
// in every resource that the job wants.
func (s *State) within(j *job, victims []*job) bool {
	for _, want := range j.shape.gang.Total {
		var evicted penstock.Amount
		for _, v := range victims {
			evicted = evicted.Add(amountOf(v.shape.gang.Total, want.ID))
		}
		if evicted.Times(1000) > want.Amount.Times(s.policy.Preemption.Most) {
			return false
		}
	}
	return true
}
