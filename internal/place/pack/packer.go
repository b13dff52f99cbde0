package pack

import (
	"fmt"
	"math"
	"slices"

	"github.com/penstock/penstock"
)

// Packer is a fleet under one policy. It isn't safe for concurrent use.
type Packer struct {
	policy  Policy
	follow  follower // the policy, if it follows the fleet; or nil
	scoring Scoring  // as New was told
	fresh   bool     // nothing is remembered: for a test, or a Random policy
	nodes   []Node
	states  *states
	tables  map[Shape]*table
	cells   int
}

// Scoring says what a Packer remembers.
type Scoring uint8

// Cached is what to use; Fresh scores every node for each choice, to test
// Cached against. A Random policy is always scored afresh.
const (
	Cached Scoring = iota
	Fresh
)

// maxCells bounds the memory of the cache, to some 500 MB: a table that would
// go beyond takes the place of all others.
const maxCells = 1 << 24

// table is the scores of one shape on nodes, by their states.
type table struct {
	generation []uint32 // of the state that was scored
	scores     []Score  // Value is -Inf where the shape doesn't fit
}

// follower is a policy whose scores depend on the whole fleet.
type follower interface {
	Policy
	start(nodes []Node)
	// moved is called after each change of a node, and says whether scores that
	// were given before hold no more.
	moved(i int, n *Node) (stale bool)
}

// New makes a Packer of copies of the nodes, in this order. A policy that
// follows the fleet (Headroom) belongs to one Packer only.
func New(nodes []Node, policy Policy, scoring Scoring) (*Packer, error) {
	p := &Packer{nodes: slices.Clone(nodes), tables: map[Shape]*table{}, scoring: scoring}
	for i := range p.nodes {
		n := &p.nodes[i]
		if err := n.check(i); err != nil {
			return nil, err
		}
		n.Left = slices.Clone(n.Left)
	}
	p.states = newStates(p.nodes)
	p.Retune(policy)
	return p, nil
}

func (n *Node) check(i int) error {
	if len(n.Left) > MaxDevices || n.Type >= MaxTypes {
		return &penstock.Error{Code: penstock.Unsupported,
			Msg: fmt.Sprintf("node %d has %d devices of type %d; a node has at most %d, of types below %d", i, len(n.Left), n.Type, MaxDevices, MaxTypes)}
	}
	for d, left := range n.Left {
		if left < 0 || left > Whole {
			return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("device %d of node %d has %d/1000 left, which isn't 0 to 1000", d, i, left)}
		}
	}
	return nil
}

// Len is how many nodes there are.
func (p *Packer) Len() int { return len(p.nodes) }

// Node is what a node has left now. The caller doesn't change it.
func (p *Packer) Node(i int) *Node { return &p.nodes[i] }

// Set replaces what a node has left: it came back, shrank, or lost a device.
func (p *Packer) Set(i int, n Node) error {
	if err := n.check(i); err != nil {
		return err
	}
	n.Left = slices.Clone(n.Left)
	p.nodes[i] = n
	p.moved(i)
	return nil
}

// Retune replaces the policy, for instance after new shapes were learned.
func (p *Packer) Retune(policy Policy) {
	p.policy = policy
	_, random := policy.(Random)
	p.fresh = random || p.scoring == Fresh
	if p.follow, _ = policy.(follower); p.follow != nil {
		p.follow.start(p.nodes)
	}
	p.forget()
}

func (p *Packer) forget() {
	clear(p.tables)
	p.cells = 0
}

func (p *Packer) moved(i int) {
	p.states.moved(i, &p.nodes[i])
	if p.follow != nil && p.follow.moved(i, &p.nodes[i]) {
		p.forget()
	}
}

// Choose is the best place for the request among the nodes that allowed says
// yes to; nil allows all. Nothing is taken. False is: it fits nowhere there.
func (p *Packer) Choose(r Request, allowed func(node int) bool) (Place, bool) {
	if !r.Valid() {
		return Place{}, false
	}
	t, best := p.table(&r), -1
	top := Score{Value: math.Inf(-1)}
	for i := range p.nodes {
		s := p.score(t, i, &r)
		if s.above(&top) && r.Memory <= p.nodes[i].Memory && (allowed == nil || allowed(i)) {
			best, top = i, *s
		}
	}
	return Place{max(best, 0), top.Devices}, best >= 0
}

func (s *Score) above(o *Score) bool {
	return s.Value > o.Value || s.Value == o.Value && s.Tie > o.Tie
}

// score is what the shape's table says of the node; it is filled on the way.
func (p *Packer) score(t *table, i int, r *Request) *Score {
	id := p.states.of[i]
	s, now := &t.scores[id], p.states.all[id].generation
	if t.generation[id] == now && !p.fresh {
		return s
	}
	t.generation[id] = now
	*s = Score{Value: math.Inf(-1), Tie: math.Inf(-1)}
	if n := &p.nodes[i]; n.hosts(r) {
		*s = p.policy.Score(n, r)
	}
	return s
}

// table has a cell for each state that there can be: as many as nodes.
func (p *Packer) table(r *Request) *table {
	t := p.tables[r.Shape()]
	if t == nil {
		size := len(p.nodes)
		if p.cells += size; p.cells > maxCells {
			p.forget()
			p.cells = size
		}
		t = &table{make([]uint32, size), make([]Score, size)}
		p.tables[r.Shape()] = t
	}
	return t
}

// Take gives the request what the place names. It changes nothing and is an
// error where the place has no room for it.
func (p *Packer) Take(at Place, r Request) error {
	if at.Node < 0 || at.Node >= len(p.nodes) || !p.nodes[at.Node].holds(at.Devices, &r) {
		return &penstock.Error{Code: penstock.Conflict,
			Msg: fmt.Sprintf("node %d has no room on devices %b for %d/1000 CPU, %d of memory and %d × %d/1000 devices",
				at.Node, at.Devices, r.CPU, r.Memory, r.Count, r.Milli),
			Hint: "choose again: the node changed since the place was chosen"}
	}
	p.move(at, &r, 1)
	return nil
}

// holds says whether these very devices, and the rest of the node, have room.
func (n *Node) holds(d Devices, r *Request) bool {
	if !r.Valid() || !n.Fits(r) || d.Count() != r.Count || d>>len(n.Left) != 0 {
		return false
	}
	for i, left := range n.Left {
		if d.Has(i) && left < r.Milli {
			return false
		}
	}
	return true
}

// Give takes back what Take gave: the same place and request, once.
func (p *Packer) Give(at Place, r Request) { p.move(at, &r, -1) }

func (p *Packer) move(at Place, r *Request, sign int32) {
	n := &p.nodes[at.Node]
	n.CPU -= int64(sign) * r.CPU
	n.Memory -= int64(sign) * r.Memory
	n.Held[r.Kind()] += sign
	take(n, r, at.Devices, sign)
	p.moved(at.Node)
}

// take moves only what the devices lose.
func take(n *Node, r *Request, d Devices, sign int32) {
	for i := range n.Left {
		if d.Has(i) {
			n.Left[i] -= sign * r.Milli
		}
	}
}
