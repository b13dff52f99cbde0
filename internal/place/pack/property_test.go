package pack_test

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock/internal/place/pack"
)

func drawNodes(t *rapid.T, most int) []pack.Node {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pack.Node {
		return pack.Node{
			CPU:    rapid.SampledFrom([]int64{0, 8000, 16000, 96000}).Draw(t, "cpu"),
			Memory: rapid.SampledFrom([]int64{0, 64, 256}).Draw(t, "memory"),
			Type:   rapid.Uint8Range(0, 2).Draw(t, "type"),
			Left:   rapid.SliceOfN(rapid.SampledFrom([]int32{0, 190, 530, 1000, 1000}), 0, 4).Draw(t, "left"),
		}
	}), 1, most).Draw(t, "nodes")
}

func drawRequest(t *rapid.T) pack.Request {
	r := pack.Request{
		CPU:    rapid.SampledFrom([]int64{0, 1000, 4000, 12000}).Draw(t, "cpu"),
		Memory: rapid.SampledFrom([]int64{0, 16, 65}).Draw(t, "memory"),
		Count:  rapid.SampledFrom([]int{0, 1, 1, 1, 2, 4}).Draw(t, "count"),
		Types:  rapid.SampledFrom([]pack.Types{0, 0, 1, 2, 5}).Draw(t, "types"),
	}
	switch {
	case r.Count == 1:
		r.Milli = rapid.SampledFrom([]int32{10, 190, 470, 810, 1000}).Draw(t, "milli")
	case r.Count > 1:
		r.Milli = pack.Whole
	}
	return r
}

func drawSeen(t *rapid.T) []pack.Counted {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pack.Counted {
		r := drawRequest(t)
		return pack.Counted{Shape: r.Shape(), N: float64(rapid.IntRange(1, 9).Draw(t, "n"))}
	}), 0, 6).Draw(t, "seen")
}

// policies makes each anew: one that follows the fleet belongs to one Packer.
func policies(nodes []pack.Node, seen []pack.Counted) []func() pack.Policy {
	scale, mix := pack.ScaleOf(nodes), pack.NewMix(seen)
	return []func() pack.Policy{
		func() pack.Policy { return pack.NewFGD(mix, pack.InOrder) },
		func() pack.Policy { return pack.NewFGD(mix, scale.Fullest) },
		func() pack.Policy { return pack.NewHeadroom(seen) },
		func() pack.Policy { return pack.BestFit{Scale: scale} },
		func() pack.Policy { return pack.DotProduct{Scale: scale} },
		func() pack.Policy { return pack.Packing{} },
		func() pack.Policy { return pack.Clustering{Scale: scale} },
		func() pack.Policy { return pack.Spread{Scale: scale} },
	}
}

type held struct {
	at pack.Place
	r  pack.Request
}

// audit compares what a Packer says is left with the sum of what is held.
func audit(t *rapid.T, p *pack.Packer, empty []pack.Node, all []held) {
	for i, want := range empty {
		want.Left = slices.Clone(want.Left)
		for _, h := range all {
			if h.at.Node != i {
				continue
			}
			want.CPU, want.Memory = want.CPU-h.r.CPU, want.Memory-h.r.Memory
			want.Held[h.r.Kind()]++
			for d := range want.Left {
				if h.at.Devices.Has(d) {
					want.Left[d] -= h.r.Milli
				}
			}
		}
		if want.CPU < 0 || want.Memory < 0 || len(want.Left) > 0 && slices.Min(want.Left) < 0 {
			t.Fatalf("node %d is overcommitted: %+v", i, want)
		}
		if diff := cmp.Diff(want, *p.Node(i), cmp.Comparer(slices.Equal[[]int32])); diff != "" {
			t.Fatalf("node %d: %s", i, diff)
		}
	}
}

// TestNothingIsOvercommittedAndTheCacheNeverShows drives a cached and a fresh
// Packer side by side through tasks that come and go, and nodes that change.
func TestNothingIsOvercommittedAndTheCacheNeverShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, seen := drawNodes(t, 6), drawSeen(t)
		policy := rapid.SampledFrom(policies(nodes, seen)).Draw(t, "policy")
		cached, err := pack.New(nodes, policy(), pack.Cached)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := pack.New(nodes, policy(), pack.Fresh)
		if err != nil {
			t.Fatal(err)
		}
		var all []held
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if n := len(all); n > 0 && rapid.IntRange(0, 3).Draw(t, "go") == 0 {
				i := rapid.IntRange(0, n-1).Draw(t, "which")
				cached.Give(all[i].at, all[i].r)
				fresh.Give(all[i].at, all[i].r)
				all = slices.Delete(all, i, i+1)
				continue
			}
			r := drawRequest(t)
			odd := func(i int) bool { return i%2 == 1 }
			for _, allowed := range []func(int) bool{odd, nil} {
				at, ok := cached.Choose(r, allowed)
				at2, ok2 := fresh.Choose(r, allowed)
				if at != at2 || ok != ok2 {
					t.Fatalf("for %+v the cache says %v %v, and scoring afresh %v %v", r, at, ok, at2, ok2)
				}
				if ok && allowed == nil {
					if err := cached.Take(at, r); err != nil {
						t.Fatal(err)
					}
					if err := fresh.Take(at, r); err != nil {
						t.Fatal(err)
					}
					all = append(all, held{at, r})
				}
			}
			audit(t, cached, nodes, all)
		}
	})
}

// TestChooseFindsTheBestOfAllPlaces compares with a search through all nodes.
func TestChooseFindsTheBestOfAllPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, r := drawNodes(t, 6), drawRequest(t)
		policy := rapid.SampledFrom(policies(nodes, drawSeen(t))).Draw(t, "policy")()
		p, err := pack.New(nodes, policy, pack.Cached)
		if err != nil {
			t.Fatal(err)
		}
		want, best := -1, pack.Score{}
		for i := range nodes {
			if !nodes[i].Fits(&r) {
				continue
			}
			s := policy.Score(&nodes[i], &r)
			if want < 0 || s.Value > best.Value || s.Value == best.Value && s.Tie > best.Tie {
				want, best = i, s
			}
		}
		at, ok := p.Choose(r, nil)
		if ok != (want >= 0) || ok && at != (pack.Place{Node: want, Devices: best.Devices}) {
			t.Fatalf("%s chose %v (%v), best is node %d with %+v", policy.Name(), at, ok, want, best)
		}
	})
}

// TestTheOrderOfNodesDecidesTiesOnly: however the nodes are listed, the chosen
// place is worth as much.
func TestTheOrderOfNodesDecidesTiesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, seen, r := drawNodes(t, 6), drawSeen(t), drawRequest(t)
		which := rapid.IntRange(0, 7).Draw(t, "policy")
		shuffled := rapid.Permutation(nodes).Draw(t, "shuffled")
		worth := func(nodes []pack.Node) (pack.Score, bool) {
			policy := policies(nodes, seen)[which]()
			p, err := pack.New(nodes, policy, pack.Cached)
			if err != nil {
				t.Fatal(err)
			}
			at, ok := p.Choose(r, nil)
			if !ok {
				return pack.Score{}, false
			}
			s := policy.Score(p.Node(at.Node), &r)
			s.Devices = 0
			return s, true
		}
		a, okA := worth(nodes)
		b, okB := worth(shuffled)
		if a != b || okA != okB {
			t.Fatalf("worth %v (%v) as listed, %v (%v) shuffled", a, okA, b, okB)
		}
	})
}

// TestHeadroomIsTheBarrierByItsDefinition works the weights and rooms out as
// Headroom's comment says, without any of its short cuts, on every set of
// devices.
func TestHeadroomIsTheBarrierByItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, seen, r := drawNodes(t, 4), drawSeen(t), drawRequest(t)
		policy := pack.NewHeadroom(seen)
		if _, err := pack.New(nodes, policy, pack.Cached); err != nil {
			t.Fatal(err)
		}
		d := newDefinition(nodes, seen)
		for i := range nodes {
			best := math.Inf(-1)
			for devices := range pack.Devices(1) << len(nodes[i].Left) {
				if gain, fits := d.gain(&nodes[i], devices, &r); fits {
					best = max(best, gain)
				}
			}
			if best == math.Inf(-1) {
				continue
			}
			got := policy.Score(&nodes[i], &r)
			chosen, fits := d.gain(&nodes[i], got.Devices, &r)
			within := 1e-9 * math.Max(1, math.Abs(best))
			if !fits || best-chosen > within || math.Abs(got.Value-best) > within {
				t.Fatalf("node %d: %+v, by definition %v, and %v at best", i, got, chosen, best)
			}
		}
	})
}

// TestStaleScoresOfHeadroomNeverShow fills a fleet whose weights change much: a
// policy that follows the fleet is where a cache would show first.
func TestStaleScoresOfHeadroomNeverShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := slices.Repeat(drawNodes(t, 3), 3)
		var seen []pack.Counted
		arrivals := rapid.SliceOfN(rapid.Custom(drawRequest), 20, 60).Draw(t, "arrivals")
		for _, r := range arrivals {
			seen = append(seen, pack.Counted{Shape: r.Shape(), N: 1})
		}
		cached, err := pack.New(nodes, pack.NewHeadroom(seen), pack.Cached)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := pack.New(nodes, pack.NewHeadroom(seen), pack.Fresh)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range arrivals {
			at, ok := cached.Choose(r, nil)
			if at2, ok2 := fresh.Choose(r, nil); at != at2 || ok != ok2 {
				t.Fatalf("for %+v the cache says %v %v, and scoring afresh %v %v", r, at, ok, at2, ok2)
			}
			if !ok {
				continue
			}
			if err := cached.Take(at, r); err != nil {
				t.Fatal(err)
			}
			if err := fresh.Take(at, r); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestNodesWithEqualRestsAreToldApartByWhatTheyHold has two nodes that have as
// much left, and one of them holds a share.
func TestNodesWithEqualRestsAreToldApartByWhatTheyHold(t *testing.T) {
	p := packer(t, []pack.Node{{CPU: 10, Left: []int32{500}}, {CPU: 10, Left: []int32{1000}}}, pack.Clustering{Scale: pack.Scale{CPU: 10, GPU: 1000}})
	if err := p.Take(pack.Place{Node: 1, Devices: 1}, share(0, 500)); err != nil {
		t.Fatal(err)
	}
	if at, _ := p.Choose(share(0, 100), nil); at.Node != 1 {
		t.Errorf("a share went to node %d, away from its like", at.Node)
	}
}

// definition is Headroom's by the book.
type definition struct {
	shapes []pack.Counted
	weight []float64 // by unit of room
}

func newDefinition(nodes []pack.Node, seen []pack.Counted) definition {
	var d definition
	var cpu, gpu, n, allCPU, allGPU, sum float64
	for _, c := range seen {
		if c.Count == 0 && c.CPU == 0 {
			continue
		}
		d.shapes, n = append(d.shapes, c), n+c.N
		if c.Count > 0 {
			cpu, gpu = cpu+c.N*float64(c.CPU), gpu+c.N*float64(c.Count)*float64(c.Milli)
		}
	}
	if gpu > 0 {
		d.shapes = append(d.shapes, pack.Counted{Shape: pack.Shape{CPU: int64(cpu / gpu * 100), Count: 1, Milli: 100}, N: n})
	}
	for i := range nodes {
		allCPU, allGPU = allCPU+float64(nodes[i].CPU), allGPU+float64(nodes[i].GPU())
	}
	for _, s := range d.shapes {
		room, whole := 0.0, math.Max(allGPU, 1)
		if s.Count == 0 {
			whole = math.Max(allCPU, 1)
		}
		for i := range nodes {
			room += roomFor(&nodes[i], s.Shape)
		}
		w := s.N / math.Pow(room/whole+0.001, 2)
		sum += w
		d.weight = append(d.weight, w/whole)
	}
	for m := range d.weight {
		d.weight[m] /= sum
	}
	return d
}

func roomFor(n *pack.Node, s pack.Shape) float64 {
	if s.CPU > n.CPU {
		return 0
	}
	if s.Count == 0 {
		return math.Floor(float64(n.CPU)/float64(s.CPU)) * float64(s.CPU)
	}
	fit, devices := 0, 0.0
	for _, left := range n.Left {
		if left >= s.Milli {
			fit, devices = fit+1, devices+float64(left/s.Milli*s.Milli)
		}
	}
	if fit < s.Count || !s.Types.Has(n.Type) {
		return 0
	}
	byCPU := devices
	if s.CPU > 0 {
		byCPU = min(devices, math.Floor(float64(n.CPU)/float64(s.CPU)*float64(s.Count)*float64(s.Milli)))
	}
	return (devices + byCPU) / 2
}

func (d *definition) gain(n *pack.Node, devices pack.Devices, r *pack.Request) (float64, bool) {
	if devices.Count() != r.Count || !n.Fits(r) {
		return 0, false
	}
	after := *n
	after.CPU, after.Left = n.CPU-r.CPU, slices.Clone(n.Left)
	for i := range after.Left {
		if devices.Has(i) {
			if after.Left[i] -= r.Milli; after.Left[i] < 0 {
				return 0, false
			}
		}
	}
	var gain float64
	for m, s := range d.shapes {
		gain += d.weight[m] * (roomFor(&after, s.Shape) - roomFor(n, s.Shape))
	}
	return gain, true
}

func TestAbsurdRequestsFindNoPlace(t *testing.T) {
	p := packer(t, []pack.Node{{CPU: math.MaxInt64, Memory: math.MaxInt64, Left: slices.Repeat([]int32{1000}, 64)}}, pack.BestFit{Scale: pack.Scale{CPU: 1, GPU: 1}})
	for _, r := range []pack.Request{
		{CPU: -1}, {Memory: math.MinInt64}, {Count: -1}, {Count: 65, Milli: 1000}, {Count: 1, Milli: 0}, {Count: 1, Milli: 1001},
		{Count: 2, Milli: 500}, {Count: 0, Milli: 5}, {Count: math.MaxInt, Milli: 1000},
	} {
		if at, ok := p.Choose(r, nil); ok {
			t.Errorf("%+v found %v", r, at)
		}
		if p.Take(pack.Place{}, r) == nil {
			t.Errorf("%+v was given something", r)
		}
		if n := p.Node(0).Copies(&r, 9); n != 0 {
			t.Errorf("%d copies of %+v fit", n, r)
		}
	}
	all := whole(math.MaxInt64, 64)
	if _, ok := p.Choose(all, nil); !ok {
		t.Error("what fills the node exactly finds no place")
	}
	for _, at := range []pack.Place{{Node: -1}, {Node: 1}, {Devices: 1}} {
		if p.Take(at, pack.Request{CPU: 1, Count: 0}) == nil {
			t.Errorf("%v was given", at)
		}
	}
	one := packer(t, []pack.Node{{CPU: 1, Left: []int32{1000}}}, pack.Packing{})
	if one.Take(pack.Place{Devices: 1 << 5}, whole(1, 1)) == nil {
		t.Error("a device that isn't there was given")
	}
}

func TestCopiesIsWhatReallyFitsSideBySide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, r := drawNodes(t, 1), drawRequest(t)
		p, err := pack.New(nodes, pack.BestFit{Scale: pack.ScaleOf(nodes)}, pack.Cached)
		if err != nil {
			t.Fatal(err)
		}
		want := p.Node(0).Copies(&r, 7)
		for n := 0; ; n++ {
			at, ok := p.Choose(r, nil)
			if !ok || n == 7 {
				if n != want {
					t.Fatalf("%d copies fit, %d were promised", n, want)
				}
				return
			}
			if err := p.Take(at, r); err != nil {
				t.Fatal(err)
			}
		}
	})
}
