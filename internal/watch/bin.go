// Package watch says whether what runs is healthy and still right: statistics
// over numbers that others measured. It is pure: time is an argument, and the
// same values in any order give the same answer.
//
// Drift is judged on bins that are fixed once, from a reference, and never
// follow the data that is judged: with bins that move, a shift hides itself.
package watch

import (
	"math"
	"slices"
	"sort"
	"strconv"
)

// QuantileBins makes the edges of at most n bins that each hold about the same
// share of the reference. An edge is the upper end of its bin and belongs to
// it; what is above the last edge falls into one bin more. NaN and infinities
// make no edges, and without any other value there are none.
//
// Values that are frequent take several quantiles and give one edge. Where the
// smallest value is such a one, an edge just below it is added, so that values
// below all of the reference don't fall in with it: a signal with few distinct
// values is watched as well as a continuous one.
func QuantileBins(reference []float64, n int) []float64 {
	sorted := slices.DeleteFunc(slices.Clone(reference), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	if len(sorted) == 0 || n < 2 {
		return nil
	}
	slices.Sort(sorted)
	var edges []float64
	for i := 1; i < n; i++ {
		// The smallest value that has i/n of the reference at or below it.
		edges = append(edges, sorted[(i*len(sorted)+n-1)/n-1])
	}
	edges = slices.Compact(edges)
	if edges[0] == sorted[0] && edges[0] > -math.MaxFloat64 {
		edges = slices.Insert(edges, 0, math.Nextafter(edges[0], math.Inf(-1)))
	}
	return edges
}

// Histogram counts values into bins given by ascending upper edges: counts has
// one more entry than edges. Infinities fall into the outermost bins. NaN is no
// number and falls into none: missing says how many there were.
func Histogram(edges, values []float64) (counts []int64, missing int64) {
	counts = make([]int64, len(edges)+1)
	for _, v := range values {
		if math.IsNaN(v) {
			missing++
			continue
		}
		counts[sort.SearchFloat64s(edges, v)]++
	}
	return counts, missing
}

// binName writes a bin as people read it: "120 to 180", "above 180". The lower
// end doesn't belong to the bin.
func binName(edges []float64, bin int) string {
	switch {
	case len(edges) == 0:
		return "all values"
	case bin == 0 && just(edges[0]):
		return "below " + number(math.Nextafter(edges[0], math.Inf(1)))
	case bin == 0:
		return "at most " + number(edges[0])
	case bin >= len(edges):
		return "above " + number(edges[len(edges)-1])
	case bin == 1 && math.Nextafter(edges[0], math.Inf(1)) == edges[1]:
		return "exactly " + number(edges[1])
	}
	return number(edges[bin-1]) + " to " + number(edges[bin])
}

// just reports whether an edge is one that QuantileBins put below a value: the
// next number has a shorter form.
func just(edge float64) bool {
	short := func(v float64) int { return len(strconv.FormatFloat(v, 'g', -1, 64)) }
	return short(math.Nextafter(edge, math.Inf(1))) < short(edge)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
