package watch

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Term is one bin's part of a PSI.
type Term struct {
	Bin      int
	Ref, Cur int64   // how many values fell into it
	PSI      float64 // its part, never negative
}

// PSI is the population stability index of two histograms over the same bins,
// and each bin's part of it:
//
//	Σ (c − r) · ln(c / r),  with c and r the shares of a bin
//
// By custom 0.1 is little and 0.25 is much, for samples of thousands; see
// Threshold for smaller ones. A bin that is empty on one side only counts as
// half a value there: a share of 0 would make the index infinite, and a fixed
// tiny share would make a single value in a small sample look like drift. A bin
// that is empty on both sides adds nothing, so that equal distributions have
// PSI 0 whatever their sizes.
//
// Two histograms of different lengths, or one without values, can't be
// compared: NaN.
func PSI(ref, cur []int64) (float64, []Term) {
	nr, nc := total(ref), total(cur)
	if len(ref) != len(cur) || nr == 0 || nc == 0 {
		return math.NaN(), nil
	}
	terms, sum := make([]Term, len(ref)), 0.0
	for i := range ref {
		terms[i] = Term{Bin: i, Ref: ref[i], Cur: cur[i]}
		if ref[i] == 0 && cur[i] == 0 {
			continue
		}
		r, c := max(float64(ref[i]), 0.5)/nr, max(float64(cur[i]), 0.5)/nc
		terms[i].PSI = (c - r) * math.Log(c/r)
		sum += terms[i].PSI
	}
	return sum, terms
}

func total(counts []int64) float64 {
	sum := 0.0
	for _, n := range counts {
		sum += float64(n)
	}
	return sum
}

// DefaultThreshold is the PSI from which a signal has drifted, by custom.
const DefaultThreshold = 0.25

// Threshold is the PSI from which two histograms differ more than asked, or
// more than chance would have it, whichever is more. Two samples of n and m
// values of one distribution have a PSI of about (1/n + 1/m) · χ² with one
// degree of freedom less than there are bins (B. Yurdakul, Statistical
// Properties of Population Stability Index, 2018): with ten bins and a hundred
// values each, one such pair in five is over 0.25. The bound by chance is that
// distribution's quantile 0.999. Bins that are empty on both sides don't count.
func Threshold(asked float64, ref, cur []int64) float64 {
	nr, nc, bins := total(ref), total(cur), 0
	for i := range min(len(ref), len(cur)) {
		if ref[i] > 0 || cur[i] > 0 {
			bins++
		}
	}
	if nr == 0 || nc == 0 || bins < 2 {
		return asked
	}
	chance := distuv.ChiSquared{K: float64(bins - 1)}.Quantile(0.999) * (1/nr + 1/nc)
	return max(asked, chance)
}

// Distances are further measures of how two histograms over the same bins
// differ.
type Distances struct {
	// JensenShannon is the square root of the divergence with logarithms to the
	// base 2: 0 to 1.
	JensenShannon float64
	// Hellinger is 0 to 1.
	Hellinger float64
	// TotalVariation is half the sum of the differences of shares: 0 to 1.
	TotalVariation float64
	// KolmogorovSmirnov is the largest difference of the cumulative shares at
	// the edges of the bins: 0 to 1.
	KolmogorovSmirnov float64
	// ChiSquare is Pearson's statistic of cur against ref's shares, with one
	// degree of freedom less than there are bins, and P how likely so much or
	// more is by chance. A value where ref has none makes it infinite and P 0.
	ChiSquare, P float64
}

// Measure gives the Distances of cur from ref. Histograms that can't be
// compared, as for PSI, give NaN throughout.
func Measure(ref, cur []int64) Distances {
	nr, nc := total(ref), total(cur)
	if len(ref) != len(cur) || nr == 0 || nc == 0 {
		nan := math.NaN()
		return Distances{nan, nan, nan, nan, nan, nan}
	}
	r, c := make([]float64, len(ref)), make([]float64, len(ref))
	expected, observed := make([]float64, len(ref)), make([]float64, len(ref))
	var d Distances
	cumulated := 0.0
	for i := range ref {
		r[i], c[i] = float64(ref[i])/nr, float64(cur[i])/nc
		expected[i], observed[i] = r[i]*nc, float64(cur[i])
		d.TotalVariation += math.Abs(c[i]-r[i]) / 2
		cumulated += c[i] - r[i]
		d.KolmogorovSmirnov = max(d.KolmogorovSmirnov, math.Abs(cumulated))
	}
	// Rounding can take both a hair below 0, where they have no root.
	d.JensenShannon = math.Sqrt(max(0, stat.JensenShannon(r, c)) / math.Ln2)
	d.Hellinger = math.Sqrt(max(0, 1-math.Exp(-stat.Bhattacharyya(r, c))))
	d.ChiSquare = stat.ChiSquare(observed, expected)
	d.P = 1
	if len(ref) > 1 {
		d.P = distuv.ChiSquared{K: float64(len(ref) - 1)}.Survival(d.ChiSquare)
	}
	return d
}
