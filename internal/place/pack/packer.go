package pack

import (
	"fmt"
	"math"
	"slices"

	"github.com/penstock/penstock"
)

// Packer is a fleet under one policy. It isn't safe for concurrent use.
type Packer struct {
	policy   Policy
	nodes    []Node
	versions []uint32 // of each node: one more with each change
	tables   map[Shape]*table
	cells    int
	scoring  Scoring
}

// Scoring says what a Packer remembers.
type Scoring uint8

// Cached is what to use; Fresh scores every node for each choice, to test
// Cached against.
const (
	Cached Scoring = iota
	Fresh
)

// maxCells bounds the memory of the cache: beyond it all tables are dropped.
const maxCells = 1 << 24

// table is the scores of all nodes for one shape.
type table struct {
	scored []uint32 // the version of the node that was scored, plus one
	scores []Score  // Value is -Inf where it doesn't fit
}

// New makes a Packer of copies of the nodes, in this order.
func New(nodes []Node, policy Policy, scoring Scoring) (*Packer, error) {
	p := &Packer{policy: policy, nodes: slices.Clone(nodes), versions: make([]uint32, len(nodes)), tables: map[Shape]*table{}, scoring: scoring}
	for i := range p.nodes {
		n := &p.nodes[i]
		if len(n.Left) > MaxDevices || n.Type >= MaxTypes {
			return nil, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("node %d has %d devices of type %d; a node has at most %d, of types below %d",
				i, len(n.Left), n.Type, MaxDevices, MaxTypes)}
		}
		n.Left = slices.Clone(n.Left)
	}
	return p, nil
}

// Len is how many nodes there are.
func (p *Packer) Len() int { return len(p.nodes) }

// Node is what a node has left now. The caller doesn't change it.
func (p *Packer) Node(i int) *Node { return &p.nodes[i] }

// Set replaces what a node has left: it came back, shrank, or lost a device.
func (p *Packer) Set(i int, n Node) {
	n.Left = slices.Clone(n.Left)
	p.nodes[i] = n
	p.versions[i]++
}

// Retune replaces the policy, for instance after new shapes were learned.
func (p *Packer) Retune(policy Policy) {
	p.policy = policy
	p.forget()
}

func (p *Packer) forget() {
	clear(p.tables)
	p.cells = 0
}

// Choose is the best place for the request among the nodes that allowed says
// yes to; nil allows all. Nothing is taken. False is: it fits nowhere there.
func (p *Packer) Choose(r Request, allowed func(node int) bool) (Place, bool) {
	if !r.Valid() {
		return Place{}, false
	}
	t := p.table(&r)
	best := -1
	for i := range t.scores {
		s := &t.scores[i]
		if t.scored[i] != p.versions[i]+1 {
			p.score(t, i, &r)
		}
		if s.Value == math.Inf(-1) || best >= 0 && !s.above(&t.scores[best]) {
			continue
		}
		if r.Memory <= p.nodes[i].Memory && (allowed == nil || allowed(i)) {
			best = i
		}
	}
	if best < 0 {
		return Place{}, false
	}
	return Place{best, t.scores[best].Devices}, true
}

func (s *Score) above(o *Score) bool {
	return s.Value > o.Value || s.Value == o.Value && s.Tie > o.Tie
}

func (p *Packer) table(r *Request) *table {
	key := r.Shape()
	if _, drawn := p.policy.(Random); drawn || p.scoring == Fresh {
		p.forget()
	}
	t := p.tables[key]
	if t == nil {
		if p.cells += len(p.nodes); p.cells > maxCells {
			p.forget()
			p.cells = len(p.nodes)
		}
		t = &table{make([]uint32, len(p.nodes)), make([]Score, len(p.nodes))}
		p.tables[key] = t
	}
	return t
}

func (p *Packer) score(t *table, i int, r *Request) {
	t.scored[i] = p.versions[i] + 1
	if n := &p.nodes[i]; n.hosts(r) {
		t.scores[i] = p.policy.Score(n, r)
		return
	}
	t.scores[i] = Score{Value: math.Inf(-1)}
}

// Take gives the request what the place names. It changes nothing and is an
// error where the place has no room for it.
func (p *Packer) Take(at Place, r Request) error {
	if at.Node < 0 || at.Node >= len(p.nodes) || !r.Valid() || at.Devices.Count() != r.Count {
		return noRoom(at, r)
	}
	n := &p.nodes[at.Node]
	if r.CPU > n.CPU || r.Memory > n.Memory || r.Count > 0 && !r.Types.Has(n.Type) {
		return noRoom(at, r)
	}
	if at.Devices>>len(n.Left) != 0 {
		return noRoom(at, r)
	}
	for i, left := range n.Left {
		if at.Devices.Has(i) && left < r.Milli {
			return noRoom(at, r)
		}
	}
	p.move(at, &r, 1)
	return nil
}

func noRoom(at Place, r Request) error {
	return &penstock.Error{Code: penstock.Conflict,
		Msg:  fmt.Sprintf("node %d has no room on devices %b for %d mCPU, %d of memory and %d × %d/1000 devices", at.Node, at.Devices, r.CPU, r.Memory, r.Count, r.Milli),
		Hint: "choose again: the node changed since the place was chosen"}
}

// Give takes back what Take gave: the same place and request.
func (p *Packer) Give(at Place, r Request) { p.move(at, &r, -1) }

func (p *Packer) move(at Place, r *Request, sign int32) {
	n := &p.nodes[at.Node]
	n.CPU -= int64(sign) * r.CPU
	n.Memory -= int64(sign) * r.Memory
	n.Held[r.Kind()] += sign
	for i := range n.Left {
		if at.Devices.Has(i) {
			n.Left[i] -= sign * r.Milli
		}
	}
	p.versions[at.Node]++
}
