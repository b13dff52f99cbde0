package watch

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestQuantileBinsHoldEqualShares(t *testing.T) {
	var values []float64
	for i := range 1000 {
		values = append(values, float64((i*7919)%1000))
	}
	counts, _ := Histogram(QuantileBins(values, 10), values)
	if diff := cmp.Diff([]int64{100, 100, 100, 100, 100, 100, 100, 100, 100, 100}, counts); diff != "" {
		t.Error(diff)
	}
}

// A discrete signal can't fill quantile bins; peers then never flag it.
func TestSignalsWithFewValuesAreStillWatched(t *testing.T) {
	five := slices.Repeat([]float64{5}, 100)
	edges := QuantileBins(five, 10)
	ref, _ := Histogram(edges, five)
	for _, moved := range []float64{4, 6, 5.5, math.Inf(1), math.Inf(-1)} {
		cur, _ := Histogram(edges, slices.Repeat([]float64{moved}, 100))
		if psi, _ := PSI(ref, cur); psi < Threshold(DefaultThreshold, ref, cur) {
			t.Errorf("from 5 to %v the PSI is %v", moved, psi)
		}
	}
	if diff := cmp.Diff([]string{"below 5", "exactly 5", "above 5"}, names(edges)); diff != "" {
		t.Error(diff)
	}
}

func names(edges []float64) (all []string) {
	for i := range len(edges) + 1 {
		all = append(all, binName(edges, i))
	}
	return all
}

func TestBinsAreNamedAsPeopleReadThem(t *testing.T) {
	if diff := cmp.Diff([]string{"at most 32", "32 to 64.5", "above 64.5"}, names([]float64{32, 64.5})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"all values"}, names(nil)); diff != "" {
		t.Error(diff)
	}
}

func TestAnEdgeBelongsToTheBinBelowIt(t *testing.T) {
	counts, missing := Histogram([]float64{10, 20}, []float64{10, 10.5, 20, 20.5, math.NaN(), math.Inf(1), math.Inf(-1)})
	if diff := cmp.Diff([]int64{2, 2, 2}, counts); diff != "" || missing != 1 {
		t.Errorf("%d missing\n%s", missing, diff)
	}
}

func TestBinsAreAscendingAndEveryValueIsCounted(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()), rapid.Float64Range(0, 5), rapid.Map(rapid.IntRange(0, 3), func(n int) float64 { return float64(n) }))
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(value, 0, 200).Draw(t, "values")
		n := rapid.IntRange(0, 12).Draw(t, "bins")
		edges := QuantileBins(values, n)
		if !slices.IsSorted(edges) || len(slices.Compact(slices.Clone(edges))) != len(edges) || len(edges) > max(n, 0) {
			t.Fatalf("edges %v", edges)
		}
		counts, missing := Histogram(edges, values)
		if sum := int64(total(counts)) + missing; sum != int64(len(values)) {
			t.Fatalf("%d of %d values counted", sum, len(values))
		}
		if diff := cmp.Diff(edges, QuantileBins(rapid.Permutation(values).Draw(t, "order"), n)); diff != "" {
			t.Fatalf("order matters:\n%s", diff)
		}
	})
}
