// Package pack chooses the node and the devices for one task after another, so
// that what is left of the fleet stays useful for the tasks to come.
//
// A Packer is a fleet under one Policy. Choose names the best place for a
// Request and takes nothing; Take and Give move what a place holds. Scores are
// remembered per shape of request and state of a node: nodes in the same state
// share a score, and only states that are new are scored. It is a cache that
// never shows in an answer.
//
// Everything here is a pure function of its arguments. Nodes have a place in
// the fleet's order, and that order decides between equal scores: who wants an
// answer that doesn't depend on how nodes were listed sorts them first. All
// amounts are whole numbers, compared and never assumed to fit, so that no
// request, however absurd, overflows or overcommits.
package pack

import "math/bits"

// MaxTypes and MaxDevices bound the dense sets of types and of devices.
const (
	MaxTypes   = 64 // accelerator types of a fleet
	MaxDevices = 64 // devices of a node
)

// Whole is one whole device, in the thousandths that shares are counted in.
const Whole = 1000

// Types is a set of accelerator types by index, 0 to MaxTypes-1. The empty set
// means any type.
type Types uint64

// Has says whether a device of the type will do.
func (t Types) Has(kind uint8) bool { return t == 0 || t>>kind&1 == 1 }

// Devices is a set of a node's devices by index, 0 to MaxDevices-1.
type Devices uint64

// Has says whether the device is in the set.
func (d Devices) Has(i int) bool { return d>>i&1 == 1 }

// Count is how many devices are in the set.
func (d Devices) Count() int { return bits.OnesCount64(uint64(d)) }

// Node is what one node has left, and what sort of tasks it holds.
type Node struct {
	CPU    int64        // thousandths of a core
	Memory int64        // in whatever unit requests use too
	Type   uint8        // of all its devices; 0 to MaxTypes-1
	Left   []int32      // thousandths left of each device, 0 to Whole; nil for a node without
	Held   [Kinds]int32 // how many tasks of each kind it holds
}

// Kind sorts tasks by the devices that they take: Share, or 1, 2, 4, 8 and more.
type Kind uint8

// The kinds. A count between is of the kind below: 3 is Two.
const (
	Share Kind = iota
	One
	Two
	Four
	Eight
	CPUOnly
	Kinds = int(CPUOnly) + 1
)

// Request is what one task asks for.
type Request struct {
	CPU    int64 // thousandths of a core
	Memory int64 // in whatever unit nodes use too
	Count  int   // devices; 0 for none
	Milli  int32 // thousandths of each device: 1 to Whole; Whole wherever Count is above 1
	Types  Types // that will do; it binds only who asks for devices
}

// Valid says whether the request is one that some node could hold: nothing
// negative, shares of one device only, at most MaxDevices of them.
func (r *Request) Valid() bool {
	switch {
	case r.CPU < 0 || r.Memory < 0 || r.Count < 0 || r.Count > MaxDevices:
		return false
	case r.Count == 0:
		return r.Milli == 0
	case r.Count == 1:
		return r.Milli >= 1 && r.Milli <= Whole
	}
	return r.Milli == Whole
}

// Kind is the request's kind.
func (r *Request) Kind() Kind {
	switch {
	case r.Count == 0:
		return CPUOnly
	case r.Milli < Whole:
		return Share
	case r.Count >= 8:
		return Eight
	}
	return Kind(bits.Len(uint(r.Count)))
}

// GPU is all that the request takes of devices, in thousandths.
func (r *Request) GPU() int64 { return int64(r.Milli) * int64(r.Count) }

// Place is where a request goes: a node by its index in the fleet's order, and
// as many of its devices as the request counts.
type Place struct {
	Node    int
	Devices Devices
}

// Score rates a node for a request. Higher is better: Value first, Tie among
// equal values, and then the fleet's order. Devices are those that the request
// would take there.
type Score struct {
	Value, Tie float64
	Devices    Devices
}

// Policy rates nodes, one by one. Score is called only with a request that
// fits the node, and depends on nothing but its arguments and what the policy
// was made of: that is what lets a Packer remember it. It doesn't see memory,
// which decides only whether a request fits, and of the tasks that a node holds
// only which kinds there are.
type Policy interface {
	Name() string
	Score(n *Node, r *Request) Score
}

// Fits says whether the node has room for the request.
func (n *Node) Fits(r *Request) bool { return r.Memory <= n.Memory && n.hosts(r) }

// hosts is Fits without memory.
func (n *Node) hosts(r *Request) bool {
	if r.CPU > n.CPU || r.Count > len(n.Left) {
		return false
	}
	if r.Count == 0 {
		return true
	}
	if !r.Types.Has(n.Type) {
		return false
	}
	fit := 0
	for _, left := range n.Left {
		if left >= r.Milli {
			fit++
		}
	}
	return fit >= r.Count
}

// GPU is all that is left of the node's devices, in thousandths.
func (n *Node) GPU() int64 {
	var sum int64
	for _, left := range n.Left {
		sum += int64(left)
	}
	return sum
}

// Copies is how many tasks of this shape would fit the node side by side, at
// most limit. A domain with less copies than a gang has tasks needs no trial.
func (n *Node) Copies(r *Request, limit int) int {
	if !r.Valid() || r.Count > 0 && !r.Types.Has(n.Type) {
		return 0
	}
	if r.CPU > 0 {
		limit = int(min(int64(limit), max(n.CPU, 0)/r.CPU))
	}
	if r.Memory > 0 {
		limit = int(min(int64(limit), max(n.Memory, 0)/r.Memory))
	}
	if r.Count == 0 || limit <= 0 {
		return max(limit, 0)
	}
	slots := 0
	for _, left := range n.Left {
		slots += int(left / r.Milli)
	}
	return min(limit, slots/r.Count)
}
