package fleet

import (
	"fmt"
	"math"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
	"github.com/penstock/penstock/internal/place/pack"
)

// Want is what one task asks for, in the fleet's numbers.
type Want struct {
	Sum     vector.Sum // all of it
	plain   vector.Sum // what isn't accelerators
	devices vector.Sum // what is
	request pack.Request
}

// Compile reads what a task asks for. Foreign is the first resource of it that
// neither a node nor a quota ever named: there is none of it. Nonsense is an
// error, said at once.
func (f *Fleet) Compile(each penstock.Resources) (w Want, foreign penstock.Resource, err error) {
	for _, r := range each.Names() {
		a := each[r]
		switch {
		case a < 0:
			return w, "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("a task wants %d of %s, which is negative", a, r)}
		case r.Accelerator() && a > pack.Whole && a%pack.Whole != 0:
			return w, "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("a task wants %s %s", r.Format(a), r), Hint: "above one device only whole devices can be held"}
		}
	}
	w.Sum, foreign = f.table.Sum(each)
	for _, t := range w.Sum {
		if f.table.Name(t.ID).Accelerator() {
			w.devices = append(w.devices, t)
		} else {
			w.plain = append(w.plain, t)
		}
	}
	w.request = pack.Request{CPU: int64(each[penstock.CPU]), Memory: int64(each[penstock.Memory])}
	if len(w.devices) > 0 {
		t := w.devices[0]
		w.request.Count = int(min(max(1, t.Amount/pack.Whole), math.MaxInt32))
		w.request.Milli = int32(min(t.Amount, pack.Whole))
		w.request.Types = 1 << f.kind(t.ID)
	}
	return w, foreign, nil
}

// Count is how many such tasks the node has room for, side by side, at most
// most.
func (n *Node) Count(w *Want, most int, face Face) int {
	if n.closed != "" {
		return 0
	}
	room := n.room
	if face == Long && n.kept != nil {
		room = n.kept.room
	}
	k := penstock.Amount(most)
	for _, t := range w.plain {
		k = min(k, room.At(t.ID)/t.Amount)
	}
	for _, t := range w.devices {
		if k <= 0 {
			return 0
		}
		k = min(k, n.slots(t, face))
	}
	return int(k)
}

// slots is how many times the devices of one type carry an amount.
func (n *Node) slots(t vector.Term, face Face) penstock.Amount {
	for i := range n.groups {
		g := &n.groups[i]
		switch {
		case g.kind != t.ID:
			continue
		case t.Amount >= pack.Whole && face == Long:
			return penstock.Amount(g.wholeLong) / (t.Amount / pack.Whole)
		case t.Amount >= pack.Whole:
			return penstock.Amount(g.whole) / (t.Amount / pack.Whole)
		}
		sum := penstock.Amount(0)
		for _, d := range g.devices {
			sum += d.left(face) / t.Amount
		}
		return sum
	}
	return 0
}

// countEmpty is Count if nothing else ran or was kept anywhere on the node.
func (n *Node) countEmpty(w *Want, most int) int {
	if n.closed != "" {
		return 0
	}
	k := penstock.Amount(most)
	for _, t := range w.plain {
		k = min(k, n.capacity.At(t.ID)/t.Amount)
	}
	for _, t := range w.devices {
		each := max(1, t.Amount/pack.Whole)
		share := max(1, pack.Whole/t.Amount)
		k = min(k, n.capacity.At(t.ID)/pack.Whole*share/each)
	}
	return int(k)
}

func (d *Device) left(face Face) penstock.Amount {
	if face == Long {
		return d.long
	}
	return d.room
}

// scores is what a policy said of nodes, by their numbers, for one shape.
type scores struct {
	version []uint32
	score   []pack.Score
}

func (f *Fleet) scoresOf(w *Want) *scores {
	if f.policy == nil {
		f.policy = f.packing(f.scale())
	}
	key := w.request.Shape()
	s := f.scores[key]
	if s == nil {
		if len(f.scores)*f.numbers > maxScores {
			clear(f.scores)
		}
		s = &scores{make([]uint32, f.numbers), make([]pack.Score, f.numbers)}
		f.scores[key] = s
	}
	return s
}

// maxScores bounds what is remembered, however many shapes there are.
const maxScores = 1 << 22

func (f *Fleet) scale() pack.Scale {
	s := pack.Scale{CPU: 1, GPU: 1}
	for _, p := range f.pools {
		for _, n := range p.nodes {
			s.CPU = max(s.CPU, int64(n.capacity.At(vector.CPU)))
			for _, g := range n.groups {
				s.GPU = max(s.GPU, int64(n.capacity.At(g.kind)))
			}
		}
	}
	return s
}

// choose is the node that the policy rates best of those with room for one more
// task, and where on its devices. Among equals it is the first in the list.
func (f *Fleet) choose(nodes []*Node, w *Want, face Face) (best *Node, at pack.Devices) {
	s := f.scoresOf(w)
	var top pack.Score
	for _, n := range nodes {
		score := &s.score[n.number]
		if fresh := s.version[n.number] == n.version; fresh && best != nil && !above(score, &top) {
			continue
		} else if n.Count(w, 1, face) == 0 {
			continue
		} else if !fresh {
			*score = f.policy.Score(n.face(w), &w.request)
			s.version[n.number] = n.version
		}
		if best == nil || above(score, &top) {
			best, top = n, *score
		}
	}
	return best, top.Devices
}

func above(a, b *pack.Score) bool { return a.Value > b.Value || a.Value == b.Value && a.Tie > b.Tie }

// face is what the policy sees of the node: the devices of the first type that
// the task wants.
func (n *Node) face(w *Want) *pack.Node {
	for i := range n.groups {
		if g := &n.groups[i]; len(w.devices) == 0 || g.kind == w.devices[0].ID {
			return &g.face
		}
	}
	return &n.cpuOnly
}

// pick names the devices for a task that the node has room for: of the first
// type those that the policy chose, if whoever asks may have them, and else, as
// of all others, whole devices from the first, and a share on the device with
// the least room that is enough.
func (n *Node) pick(w *Want, chosen pack.Devices, face Face) []*Device {
	if len(w.devices) == 0 {
		return nil
	}
	var picked []*Device
	for i, t := range w.devices {
		for j := range n.groups {
			if g := &n.groups[j]; g.kind == t.ID {
				if i > 0 || face == Long && n.kept != nil || chosen.Count() != w.request.Count {
					chosen = g.tight(t.Amount, face)
				}
				for k, d := range g.devices {
					if chosen.Has(k) {
						picked = append(picked, d)
					}
				}
			}
		}
	}
	return picked
}

func (g *group) tight(amount penstock.Amount, face Face) pack.Devices {
	var d pack.Devices
	if amount >= pack.Whole {
		for i := range g.devices {
			if amount > 0 && g.devices[i].left(face) == pack.Whole {
				d, amount = d|1<<i, amount-pack.Whole
			}
		}
		return d
	}
	best := -1
	for i, dev := range g.devices {
		if dev.left(face) >= amount && (best < 0 || dev.left(face) < g.devices[best].left(face)) {
			best = i
		}
	}
	return 1 << best
}

// usable is what of a resource one task that wants so much could have: of
// devices, whole ones or a part of one.
func (n *Node) usable(t vector.Term) penstock.Amount {
	for i := range n.groups {
		g := &n.groups[i]
		if g.kind != t.ID {
			continue
		}
		if t.Amount >= pack.Whole {
			return penstock.Amount(g.whole) * pack.Whole
		}
		part := penstock.Amount(0)
		for _, d := range g.devices {
			part = max(part, d.room)
		}
		return part
	}
	return n.room.At(t.ID)
}
