package cycle

import (
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// Cycle decides what happens now, and counts it as done. It speaks of a job that
// waits when why it waits is another reason than before; Why tells at any time.
// A time before that of the last Cycle counts as that one.
func (s *State) Cycle(now time.Time) []Decision {
	// 1. Time passes: shares decay, who waited long enough is taken up again, and
	// jobs for which others gave way start on what those left.
	s.pass(now)
	s.redeem()
	// 2. Whom room or quota that came back could help is taken up, and what was
	// kept on pools where something changed is given free.
	s.loosen()
	// 3. In turn: within the nominal quota before borrowing, the smaller share
	// before the larger, then priority, then age.
	for b := s.turn(); b != nil; b = s.turn() {
		j := b.head()
		// 4. Nominate: does the quota allow it, and on whose?
		if why, tier := s.admit(j); why.gate != open {
			// 5. If lent quota holds it back, who borrowed gives it back.
			if s.preempt(j) {
				continue
			}
			s.wait(b, why)
			continue
		} else if tier == borrowed && b.in == inAwake {
			s.postpone(b)
			continue
		}
		// 6. Place the gang, whole, beside what is kept for others.
		d, tasks, why := s.place(j)
		if tasks != nil {
			s.start(j, d, tasks)
			continue
		}
		// 7. No room: let others give way, if that starts it.
		if s.preempt(j) {
			continue
		}
		// 8. Or keep room for it, if it's the first of its pool.
		s.reserve(j)
		s.wait(b, why)
	}
	// 9. What was decided.
	return s.end()
}

func (s *State) pass(now time.Time) {
	s.out = nil
	s.cycles++
	if now.After(s.now) {
		s.now = now
	}
	s.tree.Advance(s.now)
	s.ring()
}

func (s *State) loosen() {
	for _, d := range s.desks {
		if d.loose {
			d.loose = false
			s.fireIf(&d.freed, func(b *bucket) bool { return s.roomMayHelp(b, d) })
		}
	}
	for _, l := range s.order {
		if l.loose {
			l.loose = false
			s.fireIf(&l.freed, s.quotaMayHelp)
		}
	}
	s.cycling = true
	for _, d := range s.desks {
		d.asked = 0
		if d.dirty {
			s.suspend(d)
		}
		d.dirty = false
	}
}

// roomMayHelp says whether room that came back can change why a bucket waits. In
// a crowd most want more than there is, and stay parked; but somebody must be
// the first for whom room is kept.
func (s *State) roomMayHelp(b *bucket, d *desk) bool {
	return b.why.gate != noRoom || d.hold == nil || d.pool.Offers(&b.shape.gang) || s.mayPreempt(b.head())
}

// quotaMayHelp says the same of quota that came back.
func (s *State) quotaMayHelp(b *bucket) bool {
	q, total := b.line.queue, b.shape.gang.Total
	for _, book := range []quota.Book{quota.Now, quota.Soon} {
		if _, _, short := q.Short(book, total); short {
			return b.why.gate != overQuota || s.mayPreempt(b.head())
		}
	}
	return true
}

// turn is next, until nobody is left who could start; who waited behind what is
// no longer kept gets a turn too.
func (s *State) turn() *bucket {
	if b := s.next(); b != nil {
		return b
	}
	for _, d := range s.desks {
		if d.before != nil && d.hold == nil {
			s.lapse(d)
		}
	}
	return s.next()
}

func (s *State) end() []Decision {
	s.cycling = false
	out := s.out
	s.out = nil
	return out
}

// wait parks the first of a bucket, and with it all who are alike, until
// something happens that could change the answer.
func (s *State) wait(b *bucket, why block) {
	if b.why.gate != why.gate {
		s.out = append(s.out, Decision{Verdict: Wait, Job: b.head().spec.ID, Jobs: len(b.jobs.items), why: &why, state: s, of: b.head()})
	}
	b.why = why
	s.arm(b.head())
	switch why.gate {
	case overQuota:
		s.park(b, &b.line.root().freed)
		return
	case noPool, foreign:
		s.park(b, &s.unknown)
		return
	}
	on := make([]*trigger, 0, 8)
	for _, d := range s.allowed(b.shape) {
		if m := b.shape.memo(d); m.never && m.checked == d.pool.Version()+1 {
			on = append(on, &d.changed)
			continue
		}
		on = append(on, &d.freed, &d.behind)
	}
	if why.gate == passed {
		on = append(on, &b.line.unparked)
	}
	if b.line.strict == Strict && !slices.Contains(b.line.blocked, b) {
		b.line.blocked = append(b.line.blocked, b)
	}
	s.park(b, on...)
}

// tier is on whose quota a job would run.
type tier int

const (
	nominal tier = iota
	borrowed
)

// admit asks the quota, as it is and as it will be when those that were told to
// stop have gone.
func (s *State) admit(j *job) (block, tier) {
	if j.shape.foreign != "" {
		return block{gate: foreign}, nominal
	}
	if len(s.allowed(j.shape)) == 0 {
		return block{gate: noPool}, nominal
	}
	q, total := j.line.queue, j.shape.gang.Total
	for _, b := range []quota.Book{quota.Now, quota.Soon} {
		if id, by, short := q.Short(b, total); short {
			return s.overQuota(j, b, id, by), nominal
		}
	}
	if q.Borrows(quota.Soon, total) {
		return block{}, borrowed
	}
	return block{}, nominal
}

func (s *State) overQuota(j *job, b quota.Book, id int, by penstock.Amount) block {
	at, taken, limit := j.line.queue.Tight(b, id)
	want := amountOf(j.shape.gang.Total, id)
	return block{
		gate: overQuota, queue: at, id: id, short: by, have: taken, limit: limit, want: want,
		never: want > j.line.queue.Limit(id),
	}
}

// place tries the pools that the job may use, in order. What is short is told of
// the pool that came closest.
func (s *State) place(j *job) (*desk, []fleet.Task, block) {
	var why block
	for _, d := range s.allowed(j.shape) {
		tasks, no := s.placeOn(j, d)
		if tasks != nil {
			return d, tasks, block{}
		}
		if why.gate == open || no.closer(why) {
			why = no
		}
	}
	return nil, nil, why
}

// placeOn tries one pool. A shape that found no room in a cycle finds none in the
// rest of it, so most jobs of a crowd are answered without a trial.
func (s *State) placeOn(j *job, d *desk) ([]fleet.Task, block) {
	m := j.shape.memo(d)
	if m.never && m.checked == d.pool.Version()+1 {
		return nil, block{gate: tooLarge, desk: d, lack: m.neverLack}
	}
	if first := j.line.inFront(j, d); first != nil {
		return nil, block{gate: passed, desk: d, of: first.spec.ID}
	}
	if m.short == d.rooms && m.cycle == s.cycles {
		return nil, block{gate: noRoom, desk: d, lack: m.lack}
	}
	face := s.face(j, d)
	if face == fleet.Long && m.long == d.rooms && m.holds == d.holds {
		return nil, d.hold.behind(d)
	}
	tasks, lack := d.pool.Place(&j.shape.gang, face)
	switch {
	case tasks != nil:
		return tasks, block{}
	case face == fleet.Long:
		m.long, m.holds = d.rooms, d.holds
		if tasks, lack = d.pool.Place(&j.shape.gang, fleet.Short); tasks != nil {
			for i := range tasks {
				tasks[i].Give(fleet.Short)
			}
			return nil, d.hold.behind(d)
		}
	}
	m.short, m.lack, m.cycle = d.rooms, lack, s.cycles
	if m.checked != d.pool.Version()+1 {
		short, ever := d.pool.Ever(&j.shape.gang)
		m.never, m.checked, m.neverLack = !ever, d.pool.Version()+1, short
	}
	if m.never {
		return nil, block{gate: tooLarge, desk: d, lack: m.neverLack}
	}
	return nil, block{gate: noRoom, desk: d, lack: lack}
}

// inFront is who of a strict line waits before the job for room on the pool.
func (l *line) inFront(j *job, d *desk) *job {
	if l.strict != Strict {
		return nil
	}
	var first *job
	for _, b := range l.blocked {
		if b.in == parked && !b.jobs.empty() && b.head() != j && b.head().before(j) && b.why.gate.capacity() && b.wants(d) && (first == nil || b.head().before(first)) {
			first = b.head()
		}
	}
	return first
}

func (b *bucket) wants(d *desk) bool {
	m := b.shape.memo(d)
	for _, name := range b.shape.pools {
		if name == d.pool.Name() {
			return !m.never
		}
	}
	return len(b.shape.pools) == 0 && !m.never
}

// face is whether the job would still run when what is kept of the pool begins.
func (s *State) face(j *job, d *desk) fleet.Face {
	if d.hold == nil || d.hold.of == j {
		return fleet.Short
	}
	if j.spec.Limit > 0 && !j.spec.Endless && d.hold.known && !s.now.Add(j.spec.Limit).After(d.hold.start) {
		return fleet.Short
	}
	return fleet.Long
}
