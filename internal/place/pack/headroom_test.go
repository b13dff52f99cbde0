package pack_test

import (
	"testing"

	"github.com/penstock/penstock/internal/place/pack"
)

// fill places the requests in turn and returns how many found no place.
func fill(t *testing.T, p *pack.Packer, requests []pack.Request) (failed int) {
	t.Helper()
	for _, r := range requests {
		at, ok := p.Choose(r, nil)
		if !ok {
			failed++
			continue
		}
		if err := p.Take(at, r); err != nil {
			t.Fatal(err)
		}
	}
	return failed
}

func packer(t *testing.T, nodes []pack.Node, policy pack.Policy) *pack.Packer {
	t.Helper()
	p, err := pack.New(nodes, policy, pack.Cached)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func repeat(r pack.Request, n int) (all []pack.Request) {
	for range n {
		all = append(all, r)
	}
	return all
}

// TestScarceTypesAreKeptForThoseWhoNeedThem: one node in five is of type B, and
// one request in ten wants nothing else. FGD loses such requests here.
func TestScarceTypesAreKeptForThoseWhoNeedThem(t *testing.T) {
	var nodes []pack.Node
	for i := range 10 {
		n := pack.Node{CPU: 96000, Left: []int32{1000, 1000, 1000, 1000}}
		if i%5 == 0 {
			n.Type = 1
		}
		nodes = append(nodes, n)
	}
	anywhere, typed := whole(4000, 1), whole(4000, 1)
	typed.Types = typeB
	seen := []pack.Counted{{Shape: anywhere.Shape(), N: 9}, {Shape: typed.Shape(), N: 1}}
	arrivals := append(repeat(anywhere, 32), repeat(typed, 8)...)
	if failed := fill(t, packer(t, nodes, pack.NewHeadroom(seen)), arrivals); failed > 0 {
		t.Errorf("%d requests found no place, though 32 fit on A and 8 on B", failed)
	}
}

// TestHostsOfLargeGroupsAreKeptWhole: one node of ten can host the large group,
// for its CPU; small requests leave it alone while there is room elsewhere.
func TestHostsOfLargeGroupsAreKeptWhole(t *testing.T) {
	var nodes []pack.Node
	for i := range 10 {
		n := pack.Node{CPU: 96000, Left: []int32{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}}
		if i == 0 {
			n.CPU = 128000
		}
		nodes = append(nodes, n)
	}
	large, small := whole(120000, 8), whole(11000, 1)
	seen := []pack.Counted{{Shape: small.Shape(), N: 99}, {Shape: large.Shape(), N: 1}}
	arrivals := append(repeat(small, 70), large)
	if failed := fill(t, packer(t, nodes, pack.NewHeadroom(seen)), arrivals); failed > 0 {
		t.Errorf("%d requests found no place, though 72 small ones fit beside the large one's host", failed)
	}
}

// TestCPUBesideFreeDevicesIsKept: tasks without a device go where CPU is
// plentiful beside each device.
func TestCPUBesideFreeDevicesIsKept(t *testing.T) {
	nodes := []pack.Node{
		{CPU: 16000, Left: []int32{1000, 1000}},
		{CPU: 104000, Left: []int32{1000, 1000}},
	}
	gpu, cpu := whole(8000, 1), pack.Request{CPU: 16000}
	seen := []pack.Counted{{Shape: gpu.Shape(), N: 1}, {Shape: cpu.Shape(), N: 1}}
	arrivals := append(repeat(cpu, 5), repeat(gpu, 4)...)
	if failed := fill(t, packer(t, nodes, pack.NewHeadroom(seen)), arrivals); failed > 0 {
		t.Errorf("%d requests found no place, though all tasks without a device fit on the second node", failed)
	}
}

func TestLearnedCountsFadeByHalf(t *testing.T) {
	l := pack.NewLearner([]pack.Counted{{Shape: pack.Shape{CPU: 1}, N: 8}}, 10)
	other := pack.Request{CPU: 2}
	for range 20 {
		l.Saw(other)
	}
	if got := l.Seen()[0].N; got < 1.999 || got > 2.001 {
		t.Errorf("8 are %v after two half-lives, want 2", got)
	}
}

func TestTheLearnerRemembersBoundedShapes(t *testing.T) {
	l := pack.NewLearner(nil, 1000)
	frequent := pack.Request{CPU: 1}
	for i := range 20_000 {
		l.Saw(frequent)
		l.Saw(pack.Request{CPU: int64(i) + 2})
		l.Saw(pack.Request{CPU: -1})
	}
	seen := l.Seen()
	if len(seen) > 4096 {
		t.Errorf("%d shapes are remembered", len(seen))
	}
	if seen[0].CPU != 1 {
		t.Errorf("the most frequent shape was forgotten: first is %+v", seen[0])
	}
}

func TestAPriorFitsAnyFleet(t *testing.T) {
	for _, nodes := range [][]pack.Node{nil, {{CPU: 1000}}, {{CPU: 1000, Left: []int32{1000}}}, {{CPU: 64000, Left: make([]int32, 64)}}} {
		r := pack.Request{CPU: 500}
		p := packer(t, nodes, pack.NewHeadroom(pack.Prior(nodes)))
		if _, ok := p.Choose(r, nil); ok != (len(nodes) > 0) {
			t.Errorf("half a core finds a place on %d nodes: %v", len(nodes), ok)
		}
	}
}

// TestWhatNoFleetCanHoldHoldsNothingUp: a shape that fits nowhere has no room to
// lose, whatever its weight.
func TestWhatNoFleetCanHoldHoldsNothingUp(t *testing.T) {
	nodes := []pack.Node{{CPU: 8000, Left: []int32{1000}}, {CPU: 4000, Left: []int32{1000}}}
	impossible, small := whole(1, 8), whole(4000, 1)
	seen := []pack.Counted{{Shape: impossible.Shape(), N: 1000}, {Shape: small.Shape(), N: 1}}
	if failed := fill(t, packer(t, nodes, pack.NewHeadroom(seen)), repeat(small, 2)); failed > 0 {
		t.Errorf("%d of 2 found no place", failed)
	}
}

// TestRetuningKeepsWhatIsTaken and scores with the new policy only.
func TestRetuningKeepsWhatIsTaken(t *testing.T) {
	nodes := []pack.Node{{CPU: 10, Left: []int32{1000}}, {CPU: 10, Left: []int32{1000, 1000}}}
	scale := pack.ScaleOf(nodes)
	p := packer(t, nodes, pack.BestFit{Scale: scale})
	if at, _ := p.Choose(share(1, 500), nil); at.Node != 0 {
		t.Errorf("best fit chose node %d", at.Node)
	}
	p.Retune(pack.Spread{Scale: scale})
	if at, _ := p.Choose(share(1, 500), nil); at.Node != 1 {
		t.Errorf("spreading chose node %d", at.Node)
	}
}
