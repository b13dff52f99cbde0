package cycle

import (
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// hold is room that a pool keeps for the first job that found none there: an
// EASY reservation (Lifka, JSSPP'95). Others may pass as long as they have ended
// by its start, or leave on its nodes what it needs then.
type hold struct {
	of    *job
	id    penstock.UID
	start time.Time
	known bool // else nobody knows when it can start
	nodes []*fleet.Node

	made            time.Time
	version, starts uint64 // of the pool's nodes, and of starts there, as of when it was made or suspended
}

// fresh is how long a hold may be kept as it was found, although room that came
// back since might make it earlier, or leave more for others.
const fresh = time.Minute

// tries bounds how many jobs of one cycle are asked for when a pool could have
// them: those for whom nothing is kept yet may be many.
const tries = 4

// outlook is when a pool could have a job.
type outlook struct {
	desk  *desk
	gone  []*job // who has ended by then
	start time.Time
	known bool
}

func (o *outlook) sooner(than *outlook) bool {
	return than == nil || o.known && !than.known || o.known == than.known && o.start.Before(than.start)
}

// reserve keeps room for the job on the pool where it can start first, if it's
// the first there that found none.
func (s *State) reserve(j *job) {
	if s.reinstate(j) {
		return
	}
	var best *outlook
	for _, d := range s.allowed(j.shape) {
		m := j.shape.memo(d)
		if d.hold != nil || d.asked >= tries || m.never && m.checked == d.pool.Version()+1 {
			continue
		}
		d.asked++
		if o := s.outlook(j, d); o != nil && o.sooner(best) {
			best = o
		}
	}
	if best != nil {
		s.hold(j, best)
	}
}

// outlook finds when the pool will have room for the job, as running jobs end.
// Where that isn't known, those that will end some day are counted as gone once
// the job has waited HoldAfter; before, nothing is kept for it.
func (s *State) outlook(j *job, d *desk) *outlook {
	known, open := s.ending(d)
	if n := s.fewestGone(j, d, known); n >= 0 {
		o := &outlook{d, known[:n], s.now, true}
		if n > 0 {
			if end, _ := known[n-1].until(); end.After(s.now) {
				o.start = end
			}
		}
		return o
	}
	if s.now.Sub(j.spec.QueuedAt) < s.policy.HoldAfter {
		return nil
	}
	return &outlook{desk: d, gone: append(known, open...)}
}

// hold keeps, on the nodes where the job will start, what it needs then.
func (s *State) hold(j *job, o *outlook) {
	d := o.desk
	h := &hold{of: j, id: j.spec.ID, start: o.start, known: o.known, made: s.now, version: d.pool.Version()}
	s.without(o.gone, func() {
		tasks, _ := d.pool.Place(&j.shape.gang, fleet.Short)
		if tasks != nil {
			d.before.free()
		}
		seen := make(map[*fleet.Node]bool, len(tasks))
		for _, t := range tasks {
			if !seen[t.Node] {
				seen[t.Node] = true
				h.nodes = append(h.nodes, t.Node)
				t.Node.Keep()
			}
		}
		for i := range tasks {
			tasks[i].Give(fleet.Short)
		}
	})
	if len(h.nodes) == 0 {
		return // even then it wouldn't fit: it waits for endless work
	}
	d.hold = h
	if !h.same(d.before) {
		d.holds++
		s.fire(&d.behind)
	}
	d.before = nil
}

func (h *hold) same(o *hold) bool {
	return o != nil && h.of == o.of && h.known == o.known && h.start.Equal(o.start) && slices.Equal(h.nodes, o.nodes)
}

// suspend lets all who may use the pool be taken up in their turn, as if nothing
// were kept there. Then reserve makes it kept again, for whom it is due.
func (s *State) suspend(d *desk) {
	h := d.hold
	if h == nil {
		return
	}
	d.hold, d.before = nil, h
	h.starts = d.starts
	if h.of.bucket != nil { // else it's no longer pending
		s.wake(h.of.bucket)
	}
}

// reinstate keeps what was kept for the job before this cycle, if that is still
// right: it may be earlier than that by now, and it's no later. To seek anew
// costs more than all else in a cycle.
func (s *State) reinstate(j *job) bool {
	for _, d := range s.allowed(j.shape) {
		h := d.before
		if h != nil && h.of == j && h.version == d.pool.Version() && h.starts == d.starts && (!h.known || h.start.After(s.now)) && s.now.Sub(h.made) < fresh {
			d.hold, d.before = h, nil
			return true
		}
	}
	return false
}

// free ends what a hold keeps on its nodes.
func (h *hold) free() {
	if h != nil {
		for _, n := range h.nodes {
			n.Unkeep()
		}
	}
}

// lapse gives free, for good, what a pool keeps or kept before this cycle, and has
// all who wait behind it taken up.
func (s *State) lapse(d *desk) {
	d.hold.free()
	d.before.free()
	d.hold, d.before = nil, nil
	d.holds++
	s.fire(&d.behind)
}

// forgo ends what is kept for a job that leaves the queue: all who wait for the
// pool are taken up, so that the first of them is the next for whom it's kept.
func (s *State) forgo(j *job) {
	for _, d := range s.allowed(j.shape) {
		if d.hold != nil && d.hold.of == j || d.before != nil && d.before.of == j {
			s.lapse(d)
		}
	}
}

// behind is why somebody waits who would need what is kept.
func (h *hold) behind(d *desk) block {
	return block{gate: behindHold, desk: d, of: h.id, at: h.start, known: h.known}
}

// ending lists who runs on a pool and has an end, by it, and who ends some day.
func (s *State) ending(d *desk) (known, open []*job) {
	for _, r := range d.running {
		if _, ok := r.until(); ok || r.phase == stopping {
			known = append(known, r)
		} else if !r.spec.Endless {
			open = append(open, r)
		}
	}
	byEnd := func(a, b *job) int {
		x, _ := a.until()
		y, _ := b.until()
		if c := x.Compare(y); c != 0 {
			return c
		}
		return compare(string(a.spec.ID), string(b.spec.ID))
	}
	slices.SortFunc(known, byEnd)
	slices.SortFunc(open, byEnd)
	return known, open
}

// fewestGone is how many of those that end must have ended before the job finds
// room, or -1. Room only grows as they end, so halving finds it.
func (s *State) fewestGone(j *job, d *desk, ending []*job) int {
	fits := func(n int) (yes bool) {
		s.without(ending[:n], func() {
			tasks, _ := d.pool.Place(&j.shape.gang, fleet.Short)
			for i := range tasks {
				tasks[i].Give(fleet.Short)
			}
			yes = tasks != nil
		})
		return yes
	}
	low, high := 0, len(ending)
	if high == 0 || !fits(high) {
		return -1
	}
	for low < high {
		if mid := (low + high) / 2; fits(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if !fits(low) { // a gang of several sets may fit in less and not in more
		return -1
	}
	return low
}

// without does something while some jobs hold nothing.
func (s *State) without(gone []*job, do func()) {
	for _, r := range gone {
		for i := range r.tasks {
			r.tasks[i].Give(fleet.Short)
		}
	}
	do()
	for _, r := range gone {
		for i := range r.tasks {
			r.tasks[i].Take(fleet.Short)
		}
	}
}
