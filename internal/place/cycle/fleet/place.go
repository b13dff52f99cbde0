package fleet

import (
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// NodeLevel is the narrowest level of topology in every pool: a node itself.
const NodeLevel = "node"

// Mode is how much a gang cares for topology.
type Mode int

// Anywhere is not at all. Preferred takes the narrowest domain that is wide
// enough, from the level up, and else the fewest domains. Required takes one
// domain of the level, or waits.
const (
	Anywhere Mode = iota
	Preferred
	Required
)

// Topology is how close to each other tasks must be: in one domain of Level.
type Topology struct {
	Level string
	Mode  Mode
}

// Set is a number of like tasks.
type Set struct {
	Name     string
	Count    int
	Want     Want
	Topology Topology
}

// Gang is sets of tasks that are placed whole or not at all.
type Gang struct {
	Sets     []Set
	Together Topology   // for all sets
	Total    vector.Sum // of all tasks
	Size     int        // how many tasks
}

// Shortage is where placing a gang came to its end.
type Shortage struct {
	Set    int    // which set had a task for which there was no room
	Placed int    // how many of the gang's tasks had been placed, at best
	Level  string // of the domains that were too small; empty if none was asked for
	Widest int    // how many of the tasks the widest of those had room for

	// Resource is the first that one more task wants more of than any node has
	// left; with Total, that the whole gang wants more of than the pool has left.
	// Want is 0 where no single resource is to blame.
	Resource         int
	Want, Most, Free penstock.Amount // wanted; left on the best node; left in all
	Total            bool
}

// Place takes room for the whole gang and tells where, or takes nothing and
// tells what is short. The caller gives tasks back to undo it.
func (p *Pool) Place(g *Gang, face Face) ([]Task, Shortage) {
	for _, sum := range g.Total {
		if sum.Amount > p.room.At(sum.ID) {
			return nil, Shortage{Set: g.first(sum.ID), Resource: sum.ID, Want: sum.Amount, Free: p.room.At(sum.ID), Total: true}
		}
	}
	t := trial{pool: p, gang: g, face: face, tasks: make([]Task, 0, g.Size)}
	for _, area := range t.areas([][]*Node{p.nodes}, -1, g.Together, g.Sets) {
		if t.sets(area) {
			return t.tasks, Shortage{}
		}
	}
	return nil, t.short
}

// Offers says whether the pool has as much left, in all, as the gang wants:
// without that there is no place for it.
func (p *Pool) Offers(g *Gang) bool {
	for _, sum := range g.Total {
		if sum.Amount > p.room.At(sum.ID) {
			return false
		}
	}
	return true
}

// first is the first set that wants any of a resource.
func (g *Gang) first(id int) int {
	for i, s := range g.Sets {
		if slices.ContainsFunc(s.Want.Sum, func(t vector.Term) bool { return t.ID == id }) {
			return i
		}
	}
	return 0
}

type trial struct {
	pool  *Pool
	gang  *Gang
	face  Face
	tasks []Task
	short Shortage
}

// area is where to place tasks: in each list of nodes as many as there is room
// for, before the next one.
type area struct {
	steps [][]*Node
	level int // -1 is the pool
}

func (t *trial) undo(to int) {
	for len(t.tasks) > to {
		last := len(t.tasks) - 1
		t.tasks[last].Give(t.face)
		t.tasks = t.tasks[:last]
	}
}

// sets places every set in the area.
func (t *trial) sets(a area) bool {
	for i := range t.gang.Sets {
		if !t.set(a, i) {
			t.undo(0)
			return false
		}
	}
	return true
}

// set places one set in the first area within the area that takes it whole.
func (t *trial) set(within area, i int) bool {
	mark := len(t.tasks)
	set := &t.gang.Sets[i]
	for _, a := range t.areas(within.steps, within.level, set.Topology, t.gang.Sets[i:i+1]) {
		if t.fill(a, i) {
			return true
		}
		t.undo(mark)
	}
	return false
}

func (t *trial) fill(a area, i int) bool {
	set, step := &t.gang.Sets[i], 0
	for index := range set.Count {
		node, at := t.pool.fleet.choose(a.steps[step], &set.Want, t.face)
		for node == nil && step+1 < len(a.steps) {
			step++
			node, at = t.pool.fleet.choose(a.steps[step], &set.Want, t.face)
		}
		if node == nil {
			if len(t.tasks) >= t.short.Placed {
				t.short = Shortage{Placed: len(t.tasks), Set: i}
				t.blame(&set.Want)
			}
			return false
		}
		task := Task{Set: i, Index: index, Node: node, Devices: node.pick(&set.Want, at, t.face), want: &set.Want}
		task.Take(t.face)
		t.tasks = append(t.tasks, task)
	}
	return true
}

// blame finds the first resource that no node has enough of for one more task.
func (t *trial) blame(w *Want) {
	for _, term := range w.Sum {
		most := penstock.Amount(0)
		for _, n := range t.pool.nodes {
			most = max(most, n.usable(term))
		}
		if term.Amount > most {
			t.short.Resource, t.short.Want, t.short.Most, t.short.Free = term.ID, term.Amount, most, t.pool.room.At(term.ID)
			return
		}
	}
}

// areas lists where the sets may go within an area, best first. Domains that
// have too little room for any one of the sets aren't tried at all.
func (t *trial) areas(within [][]*Node, level int, want Topology, sets []Set) []area {
	at := t.pool.level(want.Level)
	switch {
	case want.Mode == Anywhere || at >= 0 && at <= level:
		return []area{{within, level}}
	case at < 0 && want.Mode == Required:
		t.narrow(want.Level, 0, sets)
		return nil
	case at < 0:
		return []area{{within, level}}
	}
	nodes := within[0]
	if len(within) > 1 {
		nodes = slices.Concat(within...)
	}
	found, all := t.domains(nodes, at, sets)
	for l := at - 1; want.Mode == Preferred && l > level; l-- {
		wider, _ := t.domains(nodes, l, sets)
		found = append(found, wider...)
	}
	if want.Mode == Preferred {
		found = append(found, fewest(all, nodes, at, level))
	}
	if len(found) == 0 {
		widest := 0
		for _, d := range all {
			widest = max(widest, d.rank)
		}
		t.narrow(want.Level, widest, sets)
	}
	return found
}

// level is the index of a level in the path of every node, or -1.
func (p *Pool) level(name string) int {
	if name == NodeLevel {
		return len(p.levels)
	}
	return slices.Index(p.levels, name)
}

// narrow notes that no domain was wide enough.
func (t *trial) narrow(level string, widest int, sets []Set) {
	if t.short.Placed == 0 {
		t.short.Level, t.short.Widest = level, widest
		t.short.Set = slices.IndexFunc(t.gang.Sets, func(s Set) bool { return s.Name == sets[0].Name })
	}
}

// domains counts how many tasks of each set every domain of a level has room
// for. Wide enough ones come tightest first, so that wide ones stay whole; all
// are in the order of their first node.
func (t *trial) domains(nodes []*Node, level int, sets []Set) (found []area, all []*Domain) {
	for i := range sets {
		set := &sets[i]
		for _, n := range nodes {
			d := n.path[level]
			if d == nil {
				continue
			}
			if !d.seen {
				d.seen, d.lacks, d.tally, d.rank = true, false, 0, 0
				all = append(all, d)
			}
			d.tally += n.Count(&set.Want, set.Count, t.face)
		}
		for _, d := range all {
			d.lacks = d.lacks || d.tally < set.Count
			d.rank, d.tally = d.rank+d.tally, 0
		}
	}
	slices.SortStableFunc(all, func(a, b *Domain) int { return a.rank - b.rank })
	for _, d := range all {
		d.seen = false
		if !d.lacks {
			found = append(found, area{[][]*Node{d.nodes}, level})
		}
	}
	return found, all
}

// fewest goes through the widest domains first, and through the nodes that are
// in none last.
func fewest(all []*Domain, nodes []*Node, at, level int) area {
	widest := slices.Clone(all)
	slices.SortStableFunc(widest, func(a, b *Domain) int { return b.rank - a.rank })
	a := area{level: level}
	for _, d := range widest {
		a.steps = append(a.steps, d.nodes)
	}
	rest := slices.DeleteFunc(slices.Clone(nodes), func(n *Node) bool { return n.path[at] != nil })
	return area{append(a.steps, rest), a.level}
}

// Ever says whether the gang would fit if nothing else ran on the pool, and
// what is short if not.
func (p *Pool) Ever(g *Gang) (Shortage, bool) {
	for i := range g.Sets {
		if s := &g.Sets[i]; !p.holdsEmpty(s, g.Together) || !p.holdsEmpty(s, s.Topology) {
			return p.emptied(g)
		}
	}
	for _, sum := range g.Total {
		if sum.Amount > p.capacity.At(sum.ID) {
			return p.emptied(g)
		}
	}
	if len(g.Sets) == 1 && (g.Together.Mode != Required || g.Sets[0].Topology.Mode != Required) {
		return Shortage{}, true // what was counted is exact for one set in one domain
	}
	return p.emptied(g)
}

// holdsEmpty counts until it is sure that the set fits by itself.
func (p *Pool) holdsEmpty(s *Set, t Topology) bool {
	at := p.level(t.Level)
	if t.Mode != Required {
		left := s.Count
		for _, n := range p.nodes {
			if left -= n.countEmpty(&s.Want, left); left <= 0 {
				return true
			}
		}
		return false
	}
	if at < 0 {
		return false
	}
	enough := false
	for _, n := range p.nodes {
		d := n.path[at]
		if d == nil || enough || d.nodes[0] != n {
			continue // each domain once
		}
		left := s.Count
		for _, m := range d.nodes {
			left -= m.countEmpty(&s.Want, left)
		}
		enough = left <= 0
	}
	return enough
}

// emptied tries the gang on the pool as if nothing ran there.
func (p *Pool) emptied(g *Gang) (Shortage, bool) {
	restore := make([]func(), len(p.nodes))
	for i, n := range p.nodes {
		restore[i] = n.empty()
	}
	tasks, short := p.Place(g, Short)
	for i := range tasks {
		tasks[i].Give(Short)
	}
	for _, back := range restore {
		back()
	}
	return short, tasks != nil
}

// Domains lists the nodes of every domain of a level, by the domain's first node.
func (p *Pool) Domains(level string) [][]*Node {
	at := p.level(level)
	if at < 0 {
		return nil
	}
	var all [][]*Node
	for _, n := range p.nodes {
		if d := n.path[at]; d != nil && d.nodes[0] == n {
			all = append(all, d.nodes)
		}
	}
	return all
}
