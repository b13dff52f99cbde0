package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
	"github.com/penstock/penstock/internal/place/pack"
)

// Spec is what is told of a node.
type Spec struct {
	Name     string
	Capacity penstock.Resources
	// Devices are its accelerators. Where Capacity counts a type of which none is
	// listed, they are called type-0, type-1 and so on.
	Devices []DeviceSpec
	// Topology is where it stands, level by level as the pool has them.
	Topology []string
	// Closed says why nothing new may start there; empty is open.
	Closed string
}

// DeviceSpec is one accelerator.
type DeviceSpec struct {
	ID   string
	Type penstock.Resource
}

// Node is one machine. What it has left depends on who asks: see Face.
type Node struct {
	pool   *Pool // nil when it is gone
	home   *Pool // where it was, then
	tasks  int   // that hold, or were promised, something of it
	name   string
	number int
	closed string
	path   []*Domain // by level; the last is the node itself

	capacity, used, promised, room vector.Vector
	kept                           *keep // nil where nothing is
	groups                         []group
	ghosts                         []group // devices that vanished while somebody held some of them
	version                        uint32
	cpuOnly                        pack.Node // for nodes without devices
}

// Device is one accelerator of a node.
type Device struct {
	ID                   string
	used, promised, room penstock.Amount // of the 1000 that it is
	later, long          penstock.Amount // while the node keeps something: see keep
}

// group is the devices of one type.
type group struct {
	kind      int
	devices   []*Device // by ID
	whole     int       // devices that nobody holds any of
	wholeLong int
	face      pack.Node
}

// keep is what a reservation leaves on a node for work that will still run when
// the reservation starts.
type keep struct {
	later vector.Vector // left at that time, beside the reservation
	room  vector.Vector // left now, and later
}

// Face is for whom a node's room is asked.
type Face int

// Short work ends before any reservation on the node begins, or is who it is
// for. Long work doesn't, and must leave room for it.
const (
	Short Face = iota
	Long
)

// Name is the node's.
func (n *Node) Name() string { return n.name }

// Number is small, and no other node's as long as this one is there or anybody
// holds something of it.
func (n *Node) Number() int { return n.number }

// Gone says whether the node was removed.
func (n *Node) Gone() bool { return n.pool == nil }

func (p *Pool) check(s Spec) error {
	invalid := func(format string, args ...any) error {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("node %s of pool %s: %s", s.Name, p.name, fmt.Sprintf(format, args...))}
	}
	if s.Name == "" {
		return invalid("it has no name")
	}
	for _, r := range s.Capacity.Names() {
		if a := s.Capacity[r]; a < 0 || a > Most {
			return invalid("%d of %s is negative or above %d", a, r, Most)
		}
	}
	count := map[penstock.Resource]int{}
	for i, d := range s.Devices {
		twin := func(o DeviceSpec) bool { return o.ID == d.ID && o.Type == d.Type }
		if d.ID == "" || !d.Type.Accelerator() || slices.ContainsFunc(s.Devices[:i], twin) {
			return invalid("device %q of type %q has no name, no type, or is reported twice", d.ID, d.Type)
		}
		count[d.Type]++
	}
	for _, r := range s.Capacity.Names() {
		if r.Accelerator() {
			count[r] = max(count[r], int(s.Capacity[r]/pack.Whole))
		}
		if count[r] > pack.MaxDevices {
			return invalid("%d devices of type %s; a node has at most %d", count[r], r, pack.MaxDevices)
		}
	}
	return nil
}

// equip gives the node what was told. Devices that are still there keep their
// holders; of one that vanished nothing is left.
func (n *Node) equip(s Spec) {
	f := n.pool.fleet
	old := append(n.groups, n.ghosts...)
	n.closed, n.capacity, n.groups = s.Closed, nil, nil
	told := slices.Clone(s.Devices)
	for _, r := range s.Capacity.Names() {
		switch {
		case !r.Accelerator():
			n.capacity.Set(f.table.ID(r), s.Capacity[r])
		case !slices.ContainsFunc(s.Devices, func(d DeviceSpec) bool { return d.Type == r }):
			for i := range int(s.Capacity[r] / pack.Whole) {
				told = append(told, DeviceSpec{fmt.Sprintf("%s-%d", r, i), r})
			}
		}
	}
	slices.SortFunc(told, func(a, b DeviceSpec) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	for _, d := range told {
		id := f.table.ID(d.Type)
		if last := len(n.groups) - 1; last < 0 || n.groups[last].kind != id {
			n.groups = append(n.groups, group{kind: id})
		}
		g := &n.groups[len(n.groups)-1]
		g.devices = append(g.devices, known(old, id, d.ID))
		n.capacity.Add(id, pack.Whole)
	}
	for i := range n.groups {
		g := &n.groups[i]
		g.face = pack.Node{Type: f.kind(g.kind), Left: make([]int32, len(g.devices))}
		if at := slices.IndexFunc(old, func(o group) bool { return o.kind == g.kind }); at >= 0 {
			g.face.Held = old[at].face.Held
		}
	}
	n.haunt(old)
	n.kept, n.room = nil, nil // also of what it no longer has
	n.refresh()
}

// haunt keeps the devices that somebody holds some of and that weren't told: they
// may come back.
func (n *Node) haunt(old []group) {
	n.ghosts = nil
	for _, g := range old {
		gone := slices.DeleteFunc(slices.Clone(g.devices), func(d *Device) bool { return n.has(d) || d.used == 0 && d.promised == 0 })
		if len(gone) > 0 {
			n.ghosts = append(n.ghosts, group{kind: g.kind, devices: gone, face: g.face})
		}
	}
}

func known(old []group, kind int, id string) *Device {
	for _, g := range old {
		for _, d := range g.devices {
			if g.kind == kind && d.ID == id {
				return d
			}
		}
	}
	return &Device{ID: id}
}

// kind is a type of accelerator as packing policies number them. Those beyond
// the largest number share it: policies see them as one type, and what fits is
// decided by the real one.
func (f *Fleet) kind(id int) uint8 {
	k, known := f.kinds[id]
	if !known {
		k = uint8(min(len(f.kinds), pack.MaxTypes-1))
		f.kinds[id] = k
	}
	return k
}

// refresh derives what is left, and what policies see of it.
func (n *Node) refresh() {
	n.version++
	for id := range n.capacity {
		n.setRoom(id, max(0, n.capacity[id]-n.used.At(id)-n.promised.At(id)))
	}
	for i := range n.groups {
		g := &n.groups[i]
		g.whole, g.wholeLong = 0, 0
		sum := penstock.Amount(0)
		for j, d := range g.devices {
			d.room = max(0, pack.Whole-d.used-d.promised)
			d.long = d.room
			if n.kept != nil {
				d.long = min(d.room, max(0, d.later))
			}
			if d.room == pack.Whole {
				g.whole++
			}
			if d.long == pack.Whole {
				g.wholeLong++
			}
			sum += d.room
			g.face.Left[j] = int32(d.room)
		}
		n.setRoom(g.kind, sum)
		g.face.CPU, g.face.Memory = int64(n.room.At(vector.CPU)), int64(n.room.At(vector.Memory))
	}
	n.cpuOnly.CPU, n.cpuOnly.Memory = int64(n.room.At(vector.CPU)), int64(n.room.At(vector.Memory))
	if n.kept != nil {
		for id := range n.room {
			n.kept.room.Set(id, min(n.room[id], max(0, n.kept.later.At(id))))
		}
	}
}

func (n *Node) setRoom(id int, a penstock.Amount) {
	if n.pool != nil && n.path != nil { // else the pool doesn't count it
		n.pool.room.Add(id, a-n.room.At(id))
	}
	n.room.Set(id, a)
}

// empty makes the node as if nobody held anything of it, until the function that
// it returns is called.
func (n *Node) empty() (restore func()) {
	used, promised, kept := n.used, n.promised, n.kept
	var devices []Device
	for _, g := range n.groups {
		for _, d := range g.devices {
			devices = append(devices, *d)
			d.used, d.promised = 0, 0
		}
	}
	n.used, n.promised, n.kept = nil, nil, nil
	n.refresh()
	return func() {
		n.used, n.promised, n.kept = used, promised, kept
		for _, g := range n.groups {
			for _, d := range g.devices {
				*d, devices = devices[0], devices[1:]
			}
		}
		n.refresh()
	}
}

// Used is what jobs hold of a resource, also beyond a capacity that has shrunk.
// Of devices nothing is counted here: those are held one by one.
func (n *Node) Used(id int) penstock.Amount { return n.used.At(id) }

// Faults says what is wrong with the node's books: nothing, unless the package
// has a bug. Tests and simulations ask it after every step.
func (n *Node) Faults() (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for id := range n.room {
		if n.room[id] < 0 || n.used.At(id) < 0 || n.promised.At(id) < 0 {
			say("resource %d has %d left, %d used, %d promised", id, n.room[id], n.used.At(id), n.promised.At(id))
		}
	}
	for _, g := range n.groups {
		for _, d := range g.devices {
			if d.used < 0 || d.used > pack.Whole || d.promised < 0 || d.promised > pack.Whole || d.room != max(0, pack.Whole-d.used-d.promised) {
				say("device %s has %d left, %d used, %d promised", d.ID, d.room, d.used, d.promised)
			}
		}
	}
	return found
}
