package feed

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
)

const someDigest penstock.Digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func drawOrder(t *rapid.T, most int64) Order {
	return Order{Seed: rapid.Int64().Draw(t, "seed"), Digest: someDigest, Samples: rapid.Int64Range(1, most).Draw(t, "samples")}
}

// take gives n samples of the sequence from a position on.
func take(o Order, from, n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		_, out[i] = o.At(from + int64(i))
	}
	return out
}

func TestEveryEpochHasEachSampleExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOrder(t, 3000)
		epoch := rapid.Int64Range(0, math.MaxInt64/o.Samples-1).Draw(t, "epoch")
		got := take(o, epoch*o.Samples, o.Samples)
		slices.Sort(got)
		for i, sample := range got {
			if sample != int64(i) {
				t.Fatalf("of %d samples, the one at rank %d is %d", o.Samples, i, sample)
			}
		}
		for _, at := range []int64{0, o.Samples - 1} {
			if e, _ := o.At(epoch*o.Samples + at); e != epoch {
				t.Fatalf("position %d of epoch %d is said to be of epoch %d", at, epoch, e)
			}
		}
	})
}

// TestSeedEpochDataAndSizeEachMakeAnotherOrder holds for 40 samples or more: two
// random orders of those are the same once in 40! times.
func TestSeedEpochDataAndSizeEachMakeAnotherOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOrder(t, 500)
		o.Samples += 39
		epoch := rapid.Int64Range(0, 1<<40).Draw(t, "epoch")
		base := take(o, epoch*o.Samples, 40)
		seed, data, size := o, o, o
		seed.Seed++
		data.Digest = "sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		size.Samples++
		for name, other := range map[string][]int64{
			"epoch": take(o, (epoch+1)*o.Samples, 40), "seed": take(seed, epoch*o.Samples, 40),
			"digest": take(data, epoch*o.Samples, 40), "samples": take(size, epoch*size.Samples, 40),
		} {
			if slices.Equal(base, other) {
				t.Fatalf("another %s gives the same order %v", name, base)
			}
		}
	})
}

// TestTheOrderNeverChanges pins what running jobs rely on: a job that is resumed
// under a newer Penstock must go on in the order in which it began.
func TestTheOrderNeverChanges(t *testing.T) {
	for _, c := range []struct {
		order Order
		from  int64
		want  []int64
	}{
		{Order{0, someDigest, 1}, 5, []int64{0, 0, 0}},
		{Order{7, someDigest, 10}, 0, []int64{4, 2, 6, 1, 9, 0, 5, 3, 8, 7, 4, 0, 3, 1, 8, 5, 7, 9, 6, 2}},
		{Order{-1, someDigest, 1000}, 123456, []int64{314, 72, 783, 653}},
		{Order{42, someDigest, 1 << 40}, 1 << 41, []int64{746469849622, 315342439003, 281340396377, 472171140370}},
	} {
		if diff := cmp.Diff(c.want, take(c.order, c.from, int64(len(c.want)))); diff != "" {
			t.Errorf("%+v from %d (-want +got):\n%s", c.order, c.from, diff)
		}
	}
}

// TestTheOrderLooksRandom wants no trace of where a sample came from: uniform
// first places over the epochs (chi-square, 99.99 % quantile of 63 degrees of
// freedom), and neighbours a third of the range apart, as in a random shuffle.
func TestTheOrderLooksRandom(t *testing.T) {
	const n, epochs = 64, 6400
	o := Order{Seed: 11, Digest: someDigest, Samples: n}
	for _, place := range []int64{0, 1, n / 2, n - 1} {
		var counts [n]float64
		for e := range int64(epochs) {
			_, sample := o.At(e*n + place)
			counts[sample]++
		}
		chi := 0.0
		for _, c := range counts {
			chi += (c - epochs/n) * (c - epochs/n) / (epochs / n)
		}
		if chi > 113.8 {
			t.Errorf("place %d: chi-square %.1f", place, chi)
		}
	}
	const many = 100_000
	big := Order{Seed: 12, Digest: someDigest, Samples: many}
	order := take(big, 0, many)
	apart, fixed := 0.0, 0
	for i := 1; i < many; i++ {
		apart += math.Abs(float64(order[i]-order[i-1])) / (many - 1)
		if order[i] == int64(i) {
			fixed++
		}
	}
	// A standard error of the mean distance is 0.24·n/sqrt(n), of which six are allowed.
	if want := float64(many) / 3; math.Abs(apart-want) > 6*0.24*math.Sqrt(many) {
		t.Errorf("neighbours are %.0f apart on average, want %.0f", apart, want)
	}
	if fixed > 10 { // 1 is expected
		t.Errorf("%d samples stay in their place", fixed)
	}
}

func TestHugeDataHasAnOrderAsWell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOrder(t, math.MaxInt64)
		position := rapid.Int64Range(0, math.MaxInt64).Draw(t, "position")
		if epoch, sample := o.At(position); sample < 0 || sample >= o.Samples || epoch != position/o.Samples {
			t.Fatalf("epoch %d, sample %d", epoch, sample)
		}
	})
}

func BenchmarkOrder(b *testing.B) {
	p := Order{Seed: 1, Digest: someDigest, Samples: 10_000_019}.epoch(0)
	for i := int64(0); b.Loop(); i++ {
		p.at(i % 10_000_019)
	}
}
