package cycle

import (
	"cmp"
	"slices"

	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// makeRoom evicts until the job has a place on the pool: node by node where that
// costs least, or, for a gang that must stand together, in the domain where all
// of it costs least.
func (p *purge) makeRoom() bool {
	gang := &p.j.shape.gang
	for range rounds {
		tasks, lack := p.attempt()
		if tasks != nil {
			return true
		}
		set := &gang.Sets[lack.Set]
		var bids []bid
		if level := lack.Level; level != "" {
			bids = p.cheapestDomain(set, level)
		} else {
			bids = p.bids(p.d.pool.Nodes(), set, gang.Size-lack.Placed)
		}
		if len(bids) == 0 {
			return false
		}
		for _, b := range bids {
			for _, v := range b.victims {
				if !slices.Contains(p.victims, v) && p.candidate(v) {
					p.evict(v)
				}
			}
		}
		if !p.within(p.j, p.victims) && len(gang.Sets) == 1 && len(p.victims) > rounds {
			return false
		}
	}
	return false
}

// bids is for the nodes where it costs least, at most count of them, who has to
// go so that there is room for one more task of a set.
func (p *purge) bids(nodes []*fleet.Node, set *fleet.Set, count int) []bid {
	var all []bid
	for _, n := range nodes {
		var over *bid
		if count == 1 && len(all) == 1 {
			over = &all[0] // only a better one is of use
		}
		b, ok := p.bidOn(n, set, over)
		switch {
		case !ok:
		case over != nil:
			all[0] = b
		default:
			all = append(all, b)
		}
	}
	slices.SortFunc(all, bid.compare)
	return all[:min(len(all), count)]
}

// bidOn is who has to go from one node so that one more task has room there. Not
// ok is that it can't be had, or isn't better than another bid.
func (p *purge) bidOn(n *fleet.Node, set *fleet.Set, over *bid) (bid, bool) {
	if over != nil && !p.mayBeat(n, over) {
		return bid{}, false
	}
	var offers []bid
	for _, v := range p.guests[n.Number()] {
		if p.candidate(v) {
			offers = append(offers, p.offer(v))
		}
	}
	if len(offers) == 0 {
		return bid{}, false
	}
	slices.SortFunc(offers, bid.compare)
	b := bid{node: n, priority: offers[0].priority, price: offers[0].price, victims: offers[0].victims}
	face, ok := p.face(p.j, p.d), false
	before := n.Count(&set.Want, 1<<20, face)
	mark := 0
	for i, o := range offers {
		if i > 0 {
			b = b.plus(o)
		}
		give(o.victims[0], n)
		mark = i + 1
		if ok = n.Count(&set.Want, 1<<20, face) > before; ok {
			break
		}
	}
	for _, o := range offers[:mark] {
		take(o.victims[0], n)
	}
	return b, ok && (over == nil || b.compare(*over) < 0)
}

// mayBeat says whether the cheapest who could go from a node, and no other, would
// cost less than another bid. Most nodes of a crowd are told apart by that.
func (p *purge) mayBeat(n *fleet.Node, over *bid) bool {
	for _, v := range p.guests[n.Number()] {
		c := cmp.Or(cmp.Compare(v.spec.Priority, over.priority), cmp.Compare(p.price(v), over.price))
		if (c < 0 || c == 0 && len(over.victims) > 1) && p.candidate(v) {
			return true
		}
	}
	return false
}

func give(v *job, n *fleet.Node) {
	for i := range v.tasks {
		if v.tasks[i].Node == n {
			v.tasks[i].Give(fleet.Short)
		}
	}
}

func take(v *job, n *fleet.Node) {
	for i := range v.tasks {
		if v.tasks[i].Node == n {
			v.tasks[i].Take(fleet.Short)
		}
	}
}

// cheapestDomain is the bids of that domain of a level in which room for the
// whole set costs least.
func (p *purge) cheapestDomain(set *fleet.Set, level string) []bid {
	var best []bid
	var least bid
	for _, nodes := range p.d.pool.Domains(level) {
		found, sum, ok := p.clearDomain(nodes, set)
		if ok && (best == nil || sum.compare(least) < 0) {
			best, least = found, sum
		}
	}
	return best
}

// clearDomain evicts from a domain until it has room for the set, tells who had
// to go, and gives everything back.
func (p *purge) clearDomain(nodes []*fleet.Node, set *fleet.Set) (found []bid, sum bid, ok bool) {
	mark := len(p.victims)
	defer func() { p.restore(mark) }()
	face := p.face(p.j, p.d)
	for range rounds {
		room := 0
		for _, n := range nodes {
			room += n.Count(&set.Want, set.Count, face)
		}
		if room >= set.Count {
			return found, sum, len(found) > 0
		}
		bids := p.bids(nodes, set, set.Count-room)
		if len(bids) == 0 {
			return nil, sum, false
		}
		for _, b := range bids {
			for _, v := range b.victims {
				if slices.Contains(p.victims, v) {
					continue
				}
				p.evict(v)
				o := p.offer(v)
				found = append(found, o)
				if sum.victims == nil {
					sum = bid{node: nodes[0], priority: o.priority}
				}
				sum = sum.plus(o)
			}
		}
	}
	return nil, sum, false
}
