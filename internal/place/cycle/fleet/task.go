package fleet

import (
	"fmt"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
	"github.com/penstock/penstock/internal/place/pack"
)

// Task is one task of a gang, where it was placed.
type Task struct {
	Set, Index int
	Node       *Node
	Devices    []*Device
	want       *Want
}

// Take gives the task what it names. It has room for it: Place or Fits said so.
func (t *Task) Take(face Face) { t.move(face, 1) }

// Give takes it back.
func (t *Task) Give(face Face) { t.move(face, -1) }

func (t *Task) move(face Face, sign penstock.Amount) {
	n := t.Node
	for _, term := range t.want.plain {
		n.used.Add(term.ID, sign*term.Amount)
		if n.kept != nil && face == Long {
			n.kept.later.Add(term.ID, -sign*term.Amount)
		}
	}
	for i, d := range t.Devices {
		share := t.share(i)
		d.used += sign * share
		if n.kept != nil && face == Long {
			d.later -= sign * share
		}
	}
	kind := t.want.request.Kind()
	n.face(t.want).Held[kind] += int32(sign)
	n.refresh()
	n.count(sign)
}

// Promise keeps what the task names for it until Redeem or another Promise of
// the opposite: nobody else may have it, although somebody may hold it still.
func (t *Task) Promise() { t.promise(1) }

// Break takes a Promise back.
func (t *Task) Break() { t.promise(-1) }

func (t *Task) promise(sign penstock.Amount) {
	for _, term := range t.want.plain {
		t.Node.promised.Add(term.ID, sign*term.Amount)
	}
	for i, d := range t.Devices {
		d.promised += sign * t.share(i)
	}
	t.Node.refresh()
	t.Node.count(sign)
}

func (n *Node) count(sign penstock.Amount) { n.tasks += int(sign) }

// Forget drops the node if it is gone and nobody holds anything of it any more.
// It's called after a Give or Break that is meant, and not a trial.
func (n *Node) Forget() { n.home.forget(n) }

// Fits says whether the node, if it is still there and open, has what the task
// names now, device by device.
func (t *Task) Fits() bool {
	n := t.Node
	if n.pool == nil || n.closed != "" {
		return false
	}
	for _, term := range t.want.plain {
		if term.Amount > n.room.At(term.ID) {
			return false
		}
	}
	for i, d := range t.Devices {
		if t.share(i) > d.room || !n.has(d) {
			return false
		}
	}
	return true
}

func (n *Node) has(d *Device) bool {
	for _, g := range n.groups {
		for _, o := range g.devices {
			if o == d {
				return true
			}
		}
	}
	return false
}

// share is what the task takes of its i-th device: devices are listed type by
// type, in the order of the request.
func (t *Task) share(i int) penstock.Amount {
	for _, term := range t.want.devices {
		count := int(max(1, term.Amount/pack.Whole))
		if i < count {
			return min(term.Amount, pack.Whole)
		}
		i -= count
	}
	return 0
}

// Sum is what the task takes.
func (t *Task) Sum() vector.Sum { return t.want.Sum }

// Keep reserves what is left of the node at a later time, beside a reservation
// that starts then, for work that will still run: it is called while everything
// that will have ended has been given back, and the reservation taken.
func (n *Node) Keep() {
	k := &keep{}
	for id := range n.room {
		k.later.Set(id, n.room[id])
	}
	for _, g := range n.groups {
		for _, d := range g.devices {
			d.later = d.room
		}
	}
	n.kept = k
	n.refresh()
}

// Unkeep ends it.
func (n *Node) Unkeep() {
	n.kept = nil
	n.refresh()
}

// Locate is the task of a set where it runs already, as a store remembers it. It
// takes nothing. A node or a device that isn't there, or isn't what the task
// wants, is an error.
func (p *Pool) Locate(g *Gang, set, index int, node string, devices []string) (Task, error) {
	t := Task{Set: set, Index: index, Node: p.Find(node), want: &g.Sets[set].Want}
	if t.Node == nil {
		return t, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("pool %s has no node %s", p.name, node)}
	}
	rest := devices
	for _, term := range t.want.devices {
		count := min(len(rest), int(max(1, term.Amount/pack.Whole)))
		for _, id := range rest[:count] {
			if d := t.Node.device(term.ID, id); d != nil {
				t.Devices = append(t.Devices, d)
			}
		}
		rest = rest[count:]
	}
	if wanted := t.want.request.Count; len(rest) > 0 || len(t.Devices) != len(devices) || len(t.Devices) < wanted {
		return t, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("task %d wants %d devices of node %s and is said to run on %v", index, wanted, node, devices)}
	}
	return t, nil
}

func (n *Node) device(kind int, id string) *Device {
	for _, g := range n.groups {
		for _, d := range g.devices {
			if g.kind == kind && d.ID == id {
				return d
			}
		}
	}
	return nil
}
