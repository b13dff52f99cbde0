package main

import (
	"math"
	"slices"
)

// columns are the whole percents of arrived demand, 0 to 130.
const columns = 131

// curve is the allocation, in percent of all GPUs, at each whole percent of
// arrived demand. It rounds where the authors' scripts do: each arrival's
// percent to a whole number, each allocation and each mean to two decimals. A
// column that no arrival falls in takes those of its neighbours.
func curve(steps []step, capacity int64) [columns]float64 {
	var bins [columns][]float64
	percent := float64(capacity) / 100
	for _, s := range steps {
		x := int(math.RoundToEven(float64(s.arrived) / percent))
		if x < columns {
			bins[x] = append(bins[x], hundredths(float64(s.allocated)/percent))
		}
	}
	var c [columns]float64
	for x := range c {
		in := bins[x]
		if len(in) == 0 {
			in = slices.Concat(bins[max(x-1, 0)], bins[min(x+1, columns-1)])
		}
		if len(in) == 0 { // arrivals so large that they jump over columns
			c[x] = c[max(x-1, 0)]
			continue
		}
		c[x] = hundredths(sum(in) / float64(len(in)))
	}
	return c
}

// hundredths rounds as numpy.round(x, 2) does.
func hundredths(x float64) float64 { return math.RoundToEven(x*100) / 100 }

// sum adds in numpy's order: one by one below eight, eight sums at a time up to
// 128, halves above. The last digit of a mean depends on it.
func sum(a []float64) float64 {
	switch {
	case len(a) < 8:
		total := 0.0
		for _, x := range a {
			total += x
		}
		return total
	case len(a) > 128:
		half := len(a) / 2
		half -= half % 8
		return sum(a[:half]) + sum(a[half:])
	}
	r := [8]float64(a[:8])
	i := 8
	for ; i+8 <= len(a); i += 8 {
		for j := range r {
			r[j] += a[i+j]
		}
	}
	total := ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
	for ; i < len(a); i++ {
		total += a[i]
	}
	return total
}

// shortfall is how much may be missing, in percent of all GPUs, before a list
// counts as not served in full.
const shortfall = 0.15

// firstShortfall is the arrived demand, in percent, at which more than 0.15
// points of it weren't allocated; all that arrived where that never happens.
func firstShortfall(steps []step, capacity int64) float64 {
	percent := float64(capacity) / 100
	for _, s := range steps {
		if float64(s.arrived-s.allocated)/percent > shortfall {
			return float64(s.arrived) / percent
		}
	}
	return float64(steps[len(steps)-1].arrived) / percent
}

// failed is which arrivals weren't placed while demand was below a percent.
func failed(steps []step, capacity int64, below float64) []int {
	var lost []int
	for i, s := range steps {
		if float64(s.arrived)*100 > below*float64(capacity) {
			break
		}
		if !s.placed {
			lost = append(lost, i)
		}
	}
	return lost
}

func meanAndDeviation(a []float64) (mean, sd float64) {
	mean = sum(a) / float64(len(a))
	for _, x := range a {
		sd += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(sd / float64(max(len(a)-1, 1)))
}
