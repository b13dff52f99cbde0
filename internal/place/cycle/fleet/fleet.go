// Package fleet is what there is to place work on: pools of nodes with devices
// of identity, in a tree of topology domains, and what each has left. It places
// one gang at a time, whole or not at all, on the nodes that a packing policy
// rates best.
//
// Amounts are dense and whole. What a node has used, what was promised on it and
// what it has are kept apart and are never below 0; what is left is derived, so
// a node that shrinks under running work has nothing left, and no credit.
//
// Decisions depend on names and never on the order in which nodes were told.
package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
	"github.com/penstock/penstock/internal/place/pack"
)

// Most is the largest amount that a node may have of anything: sums over any
// fleet stay exact.
const Most penstock.Amount = 1 << 52

// Packing makes the policy that rates nodes, for a fleet of a scale.
type Packing func(pack.Scale) pack.Policy

// Fullest packs onto the node that has least left afterwards.
func Fullest(s pack.Scale) pack.Policy { return pack.BestFit{Scale: s} }

// Fleet is all pools. It isn't safe for concurrent use.
type Fleet struct {
	table   *vector.Table
	packing Packing
	policy  pack.Policy // nil until it is needed after a change of scale
	scores  map[pack.Shape]*scores
	pools   []*Pool // by name
	kinds   map[int]uint8
	spare   []int // numbers of nodes that are gone
	numbers int
}

// New makes an empty Fleet.
func New(table *vector.Table, packing Packing) *Fleet {
	return &Fleet{table: table, packing: packing, scores: map[pack.Shape]*scores{}, kinds: map[int]uint8{}}
}

// Find is the pool of a name, or nil.
func (f *Fleet) Find(name string) *Pool {
	i, found := slices.BinarySearchFunc(f.pools, name, func(p *Pool, n string) int { return cmp.Compare(p.name, n) })
	if !found {
		return nil
	}
	return f.pools[i]
}

// Pool is nodes of one kind in one place.
type Pool struct {
	fleet    *Fleet
	name     string
	levels   []string // of topology, widest first; nodes themselves are a level below
	nodes    []*Node  // by name
	domains  map[string]*Domain
	lost     map[string]*Node // removed while somebody held something of them
	capacity vector.Vector
	room     vector.Vector
	version  uint64
}

// Domain is the nodes that share one value of a topology level.
type Domain struct {
	path  string
	nodes []*Node // by name

	tally, rank int // while areas are sought
	seen, lacks bool
}

// SetPool declares a pool with its levels of topology, widest first. The levels
// of a pool that has nodes can't change: remove those first.
func (f *Fleet) SetPool(name string, levels []string) (*Pool, error) {
	if p := f.Find(name); p != nil {
		if !slices.Equal(p.levels, levels) && len(p.nodes) > 0 {
			return nil, &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("pool %s has %d nodes with levels %v", name, len(p.nodes), p.levels), Hint: "remove its nodes first"}
		}
		p.levels = slices.Clone(levels)
		return p, nil
	}
	for i, level := range levels {
		if level == "" || level == NodeLevel || slices.Contains(levels[:i], level) {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("pool %s: level %q is empty, reserved or there twice", name, level)}
		}
	}
	p := &Pool{fleet: f, name: name, levels: slices.Clone(levels), domains: map[string]*Domain{}, lost: map[string]*Node{}}
	i, _ := slices.BinarySearchFunc(f.pools, name, func(p *Pool, n string) int { return cmp.Compare(p.name, n) })
	f.pools = slices.Insert(f.pools, i, p)
	return p, nil
}

// Name is the pool's.
func (p *Pool) Name() string { return p.name }

// Nodes lists the nodes by name. The caller doesn't change the list.
func (p *Pool) Nodes() []*Node { return p.nodes }

// Version grows whenever a node is added, changed or removed.
func (p *Pool) Version() uint64 { return p.version }

// Find is the node of a name, or nil.
func (p *Pool) Find(name string) *Node {
	i, found := slices.BinarySearchFunc(p.nodes, name, byName)
	if !found {
		return nil
	}
	return p.nodes[i]
}

func byName(n *Node, name string) int { return cmp.Compare(n.name, name) }

// SetNode adds a node, or changes what it has and where it stands. What runs
// there goes on, on the devices that are still there.
func (p *Pool) SetNode(s Spec) error {
	if err := p.check(s); err != nil {
		return err
	}
	n := p.Find(s.Name)
	if n == nil {
		if n = p.lost[s.Name]; n == nil {
			n = &Node{name: s.Name, number: p.fleet.number()}
		}
		delete(p.lost, s.Name)
		n.pool, n.home = p, p
		i, _ := slices.BinarySearchFunc(p.nodes, s.Name, byName)
		p.nodes = slices.Insert(p.nodes, i, n)
	}
	p.leave(n)
	n.equip(s)
	p.enter(n, s.Topology)
	p.changed()
	return nil
}

// RemoveNode takes a node away. If it comes back while somebody still holds
// something of it, that is still held.
func (p *Pool) RemoveNode(name string) error {
	i, found := slices.BinarySearchFunc(p.nodes, name, byName)
	if !found {
		return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("pool %s has no node %s", p.name, name)}
	}
	n := p.nodes[i]
	p.nodes = slices.Delete(p.nodes, i, i+1)
	p.leave(n)
	n.pool = nil
	p.lost[name] = n
	p.forget(n)
	p.changed()
	return nil
}

// forget drops a lost node of which nobody holds anything any more.
func (p *Pool) forget(n *Node) {
	if n.pool == nil && n.tasks == 0 && p.lost[n.name] == n {
		delete(p.lost, n.name)
		p.fleet.spare = append(p.fleet.spare, n.number)
	}
}

func (p *Pool) changed() {
	p.version++
	p.fleet.policy = nil
	clear(p.fleet.scores)
}

// number gives a node the smallest number that is free: state kept beside the
// fleet is a slice by it.
func (f *Fleet) number() int {
	if last := len(f.spare) - 1; last >= 0 {
		n := f.spare[last]
		f.spare = f.spare[:last]
		return n
	}
	f.numbers++
	return f.numbers - 1
}

// Numbers is more than the number of any node.
func (f *Fleet) Numbers() int { return f.numbers }

// leave takes a node out of the pool's sums and domains.
func (p *Pool) leave(n *Node) {
	for id := range n.capacity {
		p.capacity.Add(id, -n.capacity[id])
		p.room.Add(id, -n.room.At(id))
	}
	for _, d := range n.path {
		if d == nil {
			continue
		}
		d.nodes = slices.DeleteFunc(d.nodes, func(o *Node) bool { return o == n })
		if len(d.nodes) == 0 {
			delete(p.domains, d.path)
		}
	}
	n.path = nil
}

// enter is the opposite. A node that doesn't say where it stands at a level
// shares no domain there, nor below.
func (p *Pool) enter(n *Node, topology []string) {
	for id := range n.capacity {
		p.capacity.Add(id, n.capacity[id])
		p.room.Add(id, n.room.At(id))
	}
	path := ""
	for i := range p.levels {
		if i >= len(topology) || topology[i] == "" {
			break
		}
		path += topology[i] + "\x00"
		d := p.domains[path]
		if d == nil {
			d = &Domain{path: path}
			p.domains[path] = d
		}
		at, _ := slices.BinarySearchFunc(d.nodes, n.name, byName)
		d.nodes = slices.Insert(d.nodes, at, n)
		n.path = append(n.path, d)
	}
	for len(n.path) < len(p.levels) {
		n.path = append(n.path, nil)
	}
	n.path = append(n.path, &Domain{path: path + "\x01" + n.name, nodes: []*Node{n}})
}
