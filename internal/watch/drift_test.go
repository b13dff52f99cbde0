package watch

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var near = cmpopts.EquateApprox(0, 5e-7)

// The counts are those of evidently's tests, which publish χ², p and Hellinger;
// the rest was computed from the definitions.
func TestMeasuresMatchPublishedNumbers(t *testing.T) {
	ref, cur := []int64{16, 18, 16, 14, 12, 12}, []int64{16, 16, 16, 16, 16, 8}
	want := Distances{
		JensenShannon: 0.081734, Hellinger: 0.068128, TotalVariation: 0.068182,
		KolmogorovSmirnov: 0.045455, ChiSquare: 3.174603, P: 0.673088,
	}
	if diff := cmp.Diff(want, Measure(ref, cur), near); diff != "" {
		t.Error(diff)
	}
	double := []int64{32, 36, 32, 28, 24, 24}
	if diff := cmp.Diff(want, Measure(double, cur), near); diff != "" {
		t.Errorf("a reference twice as large gives something else:\n%s", diff)
	}
	psi, terms := PSI(ref, cur)
	if math.Abs(psi-0.037218) > 5e-7 {
		t.Errorf("PSI is %f, want 0.037218", psi)
	}
	// (8/88 − 12/88) · ln(8/12)
	if last := terms[5]; math.Abs(last.PSI-0.018430) > 5e-7 || last.Ref != 12 || last.Cur != 8 {
		t.Errorf("the last bin's part is %+v", last)
	}
}

// nannyml: L∞ and total variation of small categorical samples; disjoint
// samples are as far apart as can be.
func TestMeasuresReachTheirEnds(t *testing.T) {
	same, apart := Measure([]int64{5, 0, 3}, []int64{10, 0, 6}), Measure([]int64{4, 0}, []int64{0, 9})
	if diff := cmp.Diff(Distances{P: 1}, same, near); diff != "" {
		t.Errorf("equal shares:\n%s", diff)
	}
	want := Distances{JensenShannon: 1, Hellinger: 1, TotalVariation: 1, KolmogorovSmirnov: 1, ChiSquare: math.Inf(1)}
	if diff := cmp.Diff(want, apart, near); diff != "" {
		t.Errorf("nothing in common:\n%s", diff)
	}
}

func TestWhatCannotBeComparedIsNaN(t *testing.T) {
	for _, c := range [][2][]int64{{{1, 2}, {1, 2, 3}}, {{0, 0}, {1, 2}}, {{1, 2}, {0, 0}}, {nil, nil}} {
		if psi, terms := PSI(c[0], c[1]); !math.IsNaN(psi) || terms != nil {
			t.Errorf("%v: PSI %v", c, psi)
		}
		if d := Measure(c[0], c[1]); !math.IsNaN(d.Hellinger) || !math.IsNaN(d.P) {
			t.Errorf("%v: %+v", c, d)
		}
	}
}

func drawCounts(t *rapid.T, n int) []int64 {
	counts := rapid.SliceOfN(rapid.Int64Range(0, 1000), n, n).Draw(t, "counts")
	counts[rapid.IntRange(0, n-1).Draw(t, "filled")]++
	return counts
}

func TestMeasuresAreFiniteAndZeroForEqualShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "bins")
		ref, cur := drawCounts(t, n), drawCounts(t, n)
		psi, terms := PSI(ref, cur)
		sum := 0.0
		for _, term := range terms {
			if term.PSI < 0 {
				t.Fatalf("a bin takes away: %+v", term)
			}
			sum += term.PSI
		}
		if math.IsNaN(psi) || math.IsInf(psi, 0) || psi != sum {
			t.Fatalf("PSI %v, terms %v", psi, terms)
		}
		d := Measure(ref, cur)
		for name, v := range map[string]float64{"js": d.JensenShannon, "hellinger": d.Hellinger, "tv": d.TotalVariation, "ks": d.KolmogorovSmirnov, "p": d.P} {
			if !(v >= 0 && v <= 1+1e-9) {
				t.Fatalf("%s is %v", name, v)
			}
		}
		times := rapid.Int64Range(1, 50).Draw(t, "times")
		more := make([]int64, n)
		for i := range more {
			more[i] = times * ref[i]
		}
		if same, _ := PSI(ref, ref); same != 0 {
			t.Fatalf("PSI with itself is %v", same)
		}
		if d := Measure(ref, more); d.TotalVariation > 1e-9 || d.ChiSquare > 1e-6 {
			t.Fatalf("%d times the same: %+v", times, d)
		}
	})
}

func TestEmptyBinsOnBothSidesAddNothing(t *testing.T) {
	if psi, _ := PSI([]int64{50, 0, 50}, []int64{500, 0, 500}); psi != 0 {
		t.Errorf("PSI is %v", psi)
	}
}

func TestEmptyBinOnOneSideCountsAsHalfAValue(t *testing.T) {
	// (0.8 − 1)·ln(0.8/1) + (0.2 − 0.05)·ln(0.2/0.05), and the same the other way.
	const want = 0.252573
	for _, c := range [][2][]int64{{{10, 0}, {8, 2}}, {{8, 2}, {10, 0}}} {
		if psi, _ := PSI(c[0], c[1]); math.Abs(psi-want) > 5e-7 {
			t.Errorf("%v against %v: PSI %f, want %f", c[1], c[0], psi, want)
		}
	}
}

// AegisGraph#3598: healthy data flagged because the sample was small.
func TestHealthySmallSamplesRarelyPassTheThreshold(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = math.Exp(random.NormFloat64())
		}
		return values
	}
	for _, c := range []struct{ ref, cur int }{{20, 20}, {50, 50}, {100, 100}, {100, 1000}, {1000, 100}} {
		const trials = 2000
		custom, ours := 0, 0
		for range trials {
			values := draw(c.ref)
			edges := QuantileBins(values, 10)
			ref, _ := Histogram(edges, values)
			cur, _ := Histogram(edges, draw(c.cur))
			psi, _ := PSI(ref, cur)
			if psi >= DefaultThreshold {
				custom++
			}
			if psi >= Threshold(DefaultThreshold, ref, cur) {
				ours++
			}
		}
		t.Logf("%d against %d: of %d healthy windows the custom 0.25 flags %d, ours %d", c.cur, c.ref, trials, custom, ours)
		if ours > trials/200 {
			t.Errorf("%d against %d: %d of %d healthy windows were flagged", c.cur, c.ref, ours, trials)
		}
	}
}

func TestThresholdIsTheAskedOneForLargeSamples(t *testing.T) {
	large := []int64{5000, 5000, 5000}
	if got := Threshold(0.25, large, large); got != 0.25 {
		t.Errorf("got %v", got)
	}
	// χ²(2) at 0.999 is 13.8155; times 2/30.
	if got := Threshold(0.25, []int64{10, 10, 10}, []int64{30, 0, 0}); math.Abs(got-0.921034) > 1e-6 {
		t.Errorf("got %v, want 0.921034", got)
	}
}
