package pack

import (
	"cmp"
	"math"
	"slices"
)

// Headroom is Penstock's own policy. It places a request where the fleet loses
// the least room for the requests to come, and a loss weighs the more, the less
// room there is left for that shape: scarce types, the few hosts of large gangs
// and CPU beside free devices are kept for those who have no other place,
// without any rule that names them.
//
// With d the part of shape m among all requests, and C(m) its room in the fleet
// as a part of what was free when the policy was taken up, it descends the barrier Σ d(m)/C(m): a place costs
// Σ d(m) / C(m)² × the room that m loses there.
//
// The room for a shape on one node is the mean of two counts: what its devices
// alone would hold, and that held down by the CPU. The first keeps devices from
// being broken, the second CPU from being used up beside free ones. Beside the
// shapes seen there is one more, the blend: a tenth of a device with as much CPU
// as all shapes together ask for per tenth. It weighs as much as they all do,
// and stands for what each of them alone can't say: that a node is filled by
// many shapes, whose CPU needs add up. FGD (Weng et al., ATC'23) is the model;
// it weighs all room alike, and counts what is unusable now.
type Headroom struct {
	shapes  []headroomShape
	millis  []int32 // distinct shares of shapes, each looked up once per node
	fleet   Scale   // sums over all nodes, when it started
	room    []int64 // of each shape in the fleet
	rooms   [][]int64
	weight  []float64 // of each shape's room, as a part of the fleet; they sum up to 1
	recent  []float64 // what weight would be by the room that there is now
	price   []float64 // weight by unit of room
	scratch []int64
	uses    []use
}

type headroomShape struct {
	Shape
	part  float64 // of all requests
	milli int     // index in millis
}

// use is how many devices have room for a share, and what whole copies of it
// would take of them.
type use struct {
	fit   int
	milli int64
}

const (
	// maxShapes bounds the time of a score; the rarest shapes go first.
	maxShapes = 512
	// blendMilli is the device part that the blend stands for.
	blendMilli = Whole / 10
	// plenty is the CPU of a node beyond which more counts as no more: it keeps
	// sums over any fleet within their type.
	plenty = int64(1) << 40
	// least is the part of the fleet below which room counts as no scarcer: it
	// keeps weights finite.
	least = 0.001
	// drift is how much weights may move before scores are given anew: with
	// half of it results are the same, and scoring takes longer.
	drift = 0.1
)

// NewHeadroom makes the policy for the shapes that were seen, or are expected.
func NewHeadroom(seen []Counted) *Headroom {
	seen = slices.DeleteFunc(slices.Clone(seen), func(c Counted) bool { return c.N <= 0 || c.Count == 0 && c.CPU <= 0 || c.Count > 0 && c.Milli <= 0 })
	slices.SortStableFunc(seen, func(a, b Counted) int { return cmp.Compare(b.N, a.N) })
	seen = seen[:min(len(seen), maxShapes)]
	h, total := &Headroom{}, 0.0
	for _, c := range withBlend(seen) {
		total += c.N
		h.shapes = append(h.shapes, headroomShape{Shape: c.Shape, part: c.N})
		if c.Count > 0 && !slices.Contains(h.millis, c.Milli) {
			h.millis = append(h.millis, c.Milli)
		}
	}
	for i := range h.shapes {
		h.shapes[i].part /= total
		h.shapes[i].milli = slices.Index(h.millis, h.shapes[i].Milli)
	}
	h.room, h.scratch = make([]int64, len(h.shapes)), make([]int64, len(h.shapes))
	for _, of := range []*[]float64{&h.weight, &h.recent, &h.price} {
		*of = make([]float64, len(h.shapes))
	}
	h.uses = make([]use, len(h.millis))
	return h
}

// withBlend adds the blend of all shapes that want devices.
func withBlend(seen []Counted) []Counted {
	var cpu, gpu, n float64
	for _, c := range seen {
		n += c.N
		if c.Count > 0 {
			cpu += float64(c.N * float64(c.CPU))
			gpu += float64(c.N * float64(c.Count) * float64(c.Milli))
		}
	}
	if gpu == 0 {
		return seen
	}
	return append(seen, Counted{Shape{CPU: int64(min(cpu/gpu*blendMilli, float64(plenty))), Count: 1, Milli: blendMilli}, n})
}

// Name is "Headroom".
func (*Headroom) Name() string { return "Headroom" }

// Score is the weighted room that is left after, less that before.
func (h *Headroom) Score(n *Node, r *Request) Score {
	before := h.worth(n)
	return bestDevices(n, r, func(after *Node) float64 { return h.worth(after) - before })
}

func (h *Headroom) worth(n *Node) float64 {
	var sum float64
	for m, room := range h.measure(n) {
		sum += float64(h.price[m] * float64(room))
	}
	return sum
}

// measure is the node's room for each shape, times two: in thousandths of
// devices, or of CPU for who wants no device. The slice is used again.
func (h *Headroom) measure(n *Node) []int64 {
	for i, milli := range h.millis {
		h.uses[i] = n.copies(milli)
	}
	for m := range h.shapes {
		s := &h.shapes[m]
		switch {
		case s.CPU > n.CPU:
			h.scratch[m] = 0
		case s.Count == 0:
			h.scratch[m] = 2 * min(n.CPU/s.CPU*s.CPU, plenty)
		case !s.Types.Has(n.Type) || h.uses[s.milli].fit < s.Count:
			h.scratch[m] = 0
		default:
			devices := h.uses[s.milli].milli
			h.scratch[m] = devices + s.byCPU(n.CPU, devices)
		}
	}
	return h.scratch
}

// byCPU is how much of devices the CPU is enough for.
func (s *Shape) byCPU(cpu, devices int64) int64 {
	if s.CPU == 0 {
		return devices
	}
	if held := float64(cpu) / float64(s.CPU) * float64(int64(s.Count)*int64(s.Milli)); held < float64(devices) {
		return int64(held)
	}
	return devices
}

// copies counts whole copies of a share on each device.
func (n *Node) copies(milli int32) use {
	var u use
	for _, left := range n.Left {
		if left >= milli {
			u.fit++
			u.milli += int64(left - left%milli)
		}
	}
	return u
}

// start measures the whole fleet.
func (h *Headroom) start(nodes []Node) {
	h.fleet = Scale{}
	clear(h.room)
	h.rooms = make([][]int64, len(nodes))
	for i := range nodes {
		h.fleet.CPU += min(max(nodes[i].CPU, 0), plenty)
		h.fleet.GPU += nodes[i].GPU()
		h.rooms[i] = make([]int64, len(h.shapes))
		h.update(i, &nodes[i])
	}
	h.weigh()
	h.reprice()
}

func (h *Headroom) update(i int, n *Node) {
	for m, room := range h.measure(n) {
		h.room[m] += room - h.rooms[i][m]
		h.rooms[i][m] = room
	}
}

// moved keeps the sums, and changes the weights once they drifted off by 10 %.
func (h *Headroom) moved(i int, n *Node) (stale bool) {
	h.update(i, n)
	h.weigh()
	var off, all float64
	for m, w := range h.weight {
		off += math.Abs(h.recent[m] - w)
		all += w
	}
	if off <= drift*all {
		return false
	}
	h.reprice()
	return true
}

func (h *Headroom) reprice() {
	copy(h.weight, h.recent)
	for m := range h.price {
		h.price[m] = h.weight[m] / h.whole(m)
	}
}

// whole is the room that a shape would have in the empty fleet at most.
func (h *Headroom) whole(m int) float64 {
	if h.shapes[m].Count == 0 {
		return 2 * float64(max(h.fleet.CPU, 1))
	}
	return 2 * float64(max(h.fleet.GPU, 1))
}

// weigh works out recent from the room that there is.
func (h *Headroom) weigh() {
	var sum float64
	for m := range h.shapes {
		c := float64(h.room[m])/h.whole(m) + least
		h.recent[m] = h.shapes[m].part / (c * c)
		sum += h.recent[m]
	}
	for m := range h.recent {
		h.recent[m] /= sum
	}
}
