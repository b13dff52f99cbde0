package pack_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock/internal/place/pack"
)

const (
	typeA = pack.Types(1 << 0)
	typeB = pack.Types(1 << 1)
)

func share(cpu int64, milli int32) pack.Request {
	return pack.Request{CPU: cpu, Count: 1, Milli: milli}
}

func whole(cpu int64, count int) pack.Request {
	return pack.Request{CPU: cpu, Count: count, Milli: pack.Whole}
}

// TestTypicalShapesAreTheMostFrequentUpTo95Percent: 60 + 30 + 6 of 100 pass 95,
// so the last 4 are left out, and weights are parts of the 96 that are kept.
func TestTypicalShapesAreTheMostFrequentUpTo95Percent(t *testing.T) {
	small, large, cpu, rare := pack.Shape{CPU: 1, Count: 1, Milli: 100}, pack.Shape{CPU: 2, Count: 1, Milli: 1000}, pack.Shape{CPU: 9}, pack.Shape{CPU: 3, Count: 8, Milli: 1000}
	got := pack.NewMix([]pack.Counted{{Shape: rare, N: 4}, {Shape: cpu, N: 6}, {Shape: small, N: 60}, {Shape: large, N: 30}})
	want := pack.Mix{{Shape: small, Weight: 60. / 100 / (96. / 100)}, {Shape: large, Weight: 30. / 100 / (96. / 100)}, {Shape: cpu, Weight: 6. / 100 / (96. / 100)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEquallyFrequentShapesComeLargestFirst(t *testing.T) {
	a, b, c := pack.Shape{CPU: 1, Count: 1, Milli: 900}, pack.Shape{CPU: 2, Count: 1, Milli: 100}, pack.Shape{CPU: 2, Count: 1, Milli: 200}
	var got []pack.Shape
	for _, m := range pack.NewMix([]pack.Counted{{Shape: a, N: 1}, {Shape: b, N: 1}, {Shape: c, N: 1}}) {
		got = append(got, m.Shape)
	}
	if diff := cmp.Diff([]pack.Shape{c, b, a}, got); diff != "" {
		t.Error(diff)
	}
}

// TestFragmentsAreWhatTypicalRequestsCannotUse has one node with 500 and 1000
// of 1000 left, and 4 cores; it is of type A.
func TestFragmentsAreWhatTypicalRequestsCannotUse(t *testing.T) {
	node := pack.Node{CPU: 4000, Left: []int32{500, 1000}}
	for _, c := range []struct {
		what  string
		shape pack.Shape
		want  float64
	}{
		{"a request without a device can't use any", pack.Shape{CPU: 1000}, 1500},
		{"nor can one that lacks CPU for it", pack.Shape{CPU: 5000}, 1500},
		{"a share of 600 can't use the 500", pack.Shape{CPU: 1000, Count: 1, Milli: 600}, 500},
		{"a share of 400 can use all", pack.Shape{CPU: 1000, Count: 1, Milli: 400}, 0},
		{"two whole ones don't fit", pack.Shape{CPU: 1000, Count: 2, Milli: 1000}, 1500},
		{"too much CPU for any", pack.Shape{CPU: 4001, Count: 1, Milli: 400}, 1500},
		{"too much of both", pack.Shape{CPU: 4001, Count: 2, Milli: 1000}, 1500},
		{"another type", pack.Shape{CPU: 1000, Count: 1, Milli: 400, Types: typeB}, 1500},
		{"this type", pack.Shape{CPU: 1000, Count: 1, Milli: 400, Types: typeA | typeB}, 0},
	} {
		if got := (pack.Mix{{Shape: c.shape, Weight: 1}}).Fragment(&node); got != c.want {
			t.Errorf("%s: %v is a fragment, want %v", c.what, got, c.want)
		}
	}
}

// TestFGDKeepsTheDeviceThatIsStillUseful: after a share of 400, the 500 leaves
// 100 more that half of the mix can't use; breaking the whole one costs more.
// Half the mix asks for 400, half for whole devices. Before: whole ones can't
// use the 500, 250. On the 500: 100 is of no use to either, 100. On the 1000:
// no whole one is left, so all 1100 are lost to half the mix, 550.
func TestFGDKeepsTheDeviceThatIsStillUseful(t *testing.T) {
	mix := pack.NewMix([]pack.Counted{{Shape: pack.Shape{Count: 1, Milli: 400}, N: 1}, {Shape: pack.Shape{Count: 1, Milli: 1000}, N: 1}})
	node, r := pack.Node{CPU: 10, Left: []int32{1000, 500}}, share(0, 400)
	got := pack.NewFGD(mix, pack.InOrder).Score(&node, &r)
	want := pack.Score{Value: math.Trunc(100 / (1 + math.Exp(-0.150))), Devices: 1 << 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClassicScores(t *testing.T) {
	scale := pack.Scale{CPU: 128000, GPU: 8000}
	node := pack.Node{CPU: 64000, Left: []int32{1000, 300, 600, 1000}}
	node.Held[pack.Share] = 2
	used := node
	used.Held[pack.Eight] = 1
	idle := pack.Node{CPU: 64000, Left: []int32{1000, 1000}}
	for _, c := range []struct {
		policy pack.Policy
		node   pack.Node
		r      pack.Request
		want   pack.Score
	}{
		// 1 - (32000/128000 + 2400/8000)/2 = 0.725
		{pack.BestFit{Scale: scale}, node, share(32000, 500), pack.Score{Value: 72, Devices: 1 << 2}},
		// 1 - (0.5×0.25 + 2900/8000×0.0625)/2 = 0.926…
		{pack.DotProduct{Scale: scale}, node, share(32000, 500), pack.Score{Value: 92, Devices: 1 << 2}},
		// the share of 300 sits on the device with 300: 30 % of it, by 10
		{pack.Packing{}, node, share(1000, 300), pack.Score{Value: 97, Devices: 1 << 1}},
		{pack.Packing{}, node, whole(1000, 2), pack.Score{Value: 48, Devices: 1<<0 | 1<<3}},
		{pack.Packing{}, idle, whole(1000, 2), pack.Score{Value: 31, Devices: 3}},
		{pack.Packing{}, idle, pack.Request{CPU: 1}, pack.Score{}},
		// 25×(8000-2900)/8000 = 15
		{pack.Clustering{Scale: scale}, node, share(1000, 300), pack.Score{Value: 90, Devices: 1 << 1}},
		{pack.Clustering{Scale: scale}, used, share(1000, 300), pack.Score{Value: 65, Devices: 1 << 1}},
		{pack.Clustering{Scale: scale}, node, whole(1000, 1), pack.Score{Value: 15, Devices: 1 << 0}},
		{pack.Clustering{Scale: scale}, idle, whole(1000, 1), pack.Score{Value: 43, Devices: 1 << 0}},
		{pack.Spread{Scale: scale}, node, share(32000, 500), pack.Score{Value: 0.25*0.5 + 0.3*0.5, Devices: 1 << 0}},
	} {
		if diff := cmp.Diff(c.want, c.policy.Score(&c.node, &c.r)); diff != "" {
			t.Errorf("%s for %+v: %s", c.policy.Name(), c.r, diff)
		}
	}
}

func TestRandomTakesAnyDeviceThatFits(t *testing.T) {
	node, r := pack.Node{CPU: 10, Left: []int32{1000, 300, 600}}, share(1, 500)
	draws := []int{7, 1}
	random := pack.Random{Draw: func(n int) int {
		d := draws[0]
		draws = draws[1:]
		return d % n
	}}
	if got := random.Score(&node, &r); got.Devices != 1<<2 {
		t.Errorf("the second of the devices that fit is %b, want the third", got.Devices)
	}
}
