package cycle

import (
	"cmp"
	"slices"
	"time"

	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// preempt makes running jobs give way to a job, if that starts it, and promises
// it the place. Nobody is told to go before the whole of it was tried: on the
// set that is told in the end, every one by right, and with the job placed.
//
// Of several ways it takes the one whose victims have the lowest priority, then
// the least price (work lost since it was last safe, and restarts), and then the
// fewest; none of them could stay.
func (s *State) preempt(j *job) bool {
	j.retry = time.Time{}
	if !s.mayPreempt(j) {
		return false
	}
	for _, d := range s.allowed(j.shape) {
		m := j.shape.memo(d)
		if m.never && m.checked == d.pool.Version()+1 || j.line.inFront(j, d) != nil {
			continue
		}
		s.search++
		p := &purge{State: s, j: j, d: d}
		if tasks := p.find(); tasks != nil {
			s.grant(j, d, tasks, p.victims)
			return true
		}
	}
	return false
}

// mayPreempt says whether there is anybody at all who might give way for a job.
func (s *State) mayPreempt(j *job) bool {
	if s.policy.Preemption.Most <= 0 || j.shape.foreign != "" || j.owed > 0 {
		return false
	}
	s.search++
	p := purge{State: s, j: j}
	return p.anybody()
}

// purge is a search for whom to evict for one job on one pool. While it goes on,
// the victims hold nothing in the pool, and count as gone in the quota.
type purge struct {
	*State
	j       *job
	d       *desk
	victims []*job
	spent   map[*line]int // evictions of lines in this search
}

// rounds bounds how often a search makes room and tries again.
const rounds = 64

// find finds victims and a place, or leaves everything as it was. With a place
// the victims hold again what they held, and the place is only named.
func (p *purge) find() []fleet.Task {
	if !p.makeRoom() || !p.makeQuota() || len(p.victims) == 0 {
		p.restore(0)
		return nil
	}
	p.spare()
	chosen := slices.Clone(p.victims)
	p.restore(0)
	if !p.within(p.j, chosen) || !p.lawful(chosen) {
		p.restore(0)
		return nil
	}
	tasks := p.try()
	p.restore(0)
	p.victims = chosen
	return tasks
}

// try places the job where the victims were, and names the place.
func (p *purge) try() []fleet.Task {
	if _, _, short := p.j.line.queue.Short(quota.Soon, p.j.shape.gang.Total); short {
		return nil
	}
	tasks, _ := p.attempt()
	return tasks
}

func (p *purge) attempt() ([]fleet.Task, fleet.Shortage) {
	face := p.face(p.j, p.d)
	tasks, lack := p.d.pool.Place(&p.j.shape.gang, face)
	for i := range tasks {
		tasks[i].Give(face)
	}
	return tasks, lack
}

// evict lets a victim hold nothing.
func (p *purge) evict(v *job) {
	p.victims = append(p.victims, v)
	if p.spent == nil {
		p.spent = map[*line]int{}
	}
	p.spent[v.line]++
	v.line.queue.Give(quota.Soon, v.shape.gang.Total)
	if v.desk == p.d {
		for i := range v.tasks {
			v.tasks[i].Give(fleet.Short)
		}
	}
	p.State.search++ // what was found by right is void
}

// restore gives the victims after the first n back what they held.
func (p *purge) restore(n int) {
	for len(p.victims) > n {
		v := p.victims[len(p.victims)-1]
		p.victims = p.victims[:len(p.victims)-1]
		p.takeBack(v)
	}
}

func (p *purge) takeBack(v *job) {
	p.spent[v.line]--
	v.line.queue.Take(quota.Soon, v.shape.gang.Total)
	if v.desk == p.d {
		for i := range v.tasks {
			v.tasks[i].Take(fleet.Short)
		}
	}
	p.State.search++ // what was found by right is void
}

// candidate says whether a running job may be evicted next.
func (p *purge) candidate(v *job) bool {
	if !p.mayGo(v, p.j) {
		return false
	}
	r := p.right(v.line)
	if r == none || !p.entitled(p.j, v, r) || slices.Contains(p.victims, v) {
		return false
	}
	ripe := v.since.Add(p.policy.Preemption.MinRuntime)
	p.later(ripe)
	return !ripe.After(p.now)
}

// right is rightOn for the present set of victims, within the rate of evictions.
func (p *purge) right(l *line) right {
	if l.searched != p.State.search {
		r := p.rightOn(p.j, l)
		if r != none && l.tokens.left(p.policy.Preemption, p.now) <= p.spent[l] {
			p.later(l.tokens.renewed(p.policy.Preemption, p.now))
			r = none
		}
		l.right, l.searched = r, p.State.search
	}
	return l.right
}

// lawful evicts the chosen one by one, each by right as it is then: what the set
// was while it was sought doesn't count.
func (p *purge) lawful(chosen []*job) bool {
	for _, v := range chosen {
		if !p.candidate(v) {
			return false
		}
		p.evict(v)
	}
	return true
}

// spare lets those stay, dearest first, without whom it works as well.
func (p *purge) spare() {
	if len(p.victims) < 2 {
		return
	}
	dearest := slices.Clone(p.victims)
	slices.SortFunc(dearest, func(a, b *job) int { return p.offer(b).compare(p.offer(a)) })
	for _, v := range dearest[:min(len(dearest), rounds)] {
		at := slices.Index(p.victims, v)
		p.victims = slices.Delete(p.victims, at, at+1)
		p.takeBack(v)
		if p.try() == nil {
			p.evict(v)
		}
	}
}

// bid is a way to gain something: who has to go for it, and what that costs.
type bid struct {
	victims  []*job
	priority int // the highest of theirs
	price    int64
	node     *fleet.Node
}

func (p *purge) offer(v *job) bid {
	return bid{[]*job{v}, v.spec.Priority, p.price(v), nil}
}

func (b bid) plus(o bid) bid {
	return bid{append(b.victims, o.victims...), max(b.priority, o.priority), b.price + o.price, b.node}
}

func (b bid) compare(o bid) int {
	c := cmp.Or(cmp.Compare(b.priority, o.priority), cmp.Compare(b.price, o.price), cmp.Compare(len(b.victims), len(o.victims)))
	if c == 0 && b.node != nil {
		c = cmp.Compare(b.node.Name(), o.node.Name())
	}
	if v, w := b.victims[0], o.victims[0]; c == 0 && v != w {
		c = 1
		if w.before(v) {
			c = -1 // whose turn came last goes first
		}
	}
	return c
}

// makeQuota evicts the cheapest until the quota allows the job.
func (p *purge) makeQuota() bool {
	for {
		id, _, short := p.j.line.queue.Short(quota.Soon, p.j.shape.gang.Total)
		if !short {
			return true
		}
		var best bid
		for _, l := range p.j.line.root().members {
			if len(l.running) == 0 || p.right(l) == none {
				continue
			}
			for _, v := range l.running {
				held := amountOf(v.shape.gang.Total, id)
				if held == 0 || !p.candidate(v) {
					continue
				}
				if o := p.offer(v); best.victims == nil || o.compare(best) < 0 {
					best = o
				}
			}
		}
		if best.victims == nil {
			return false
		}
		p.evict(best.victims[0])
	}
}
