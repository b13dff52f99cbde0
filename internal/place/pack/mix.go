package pack

import (
	"cmp"
	"slices"
)

// Shape is what scores depend on: a request without its memory.
type Shape struct {
	CPU   int64
	Count int
	Milli int32
	Types Types
}

// Shape is the request's.
func (r *Request) Shape() Shape { return Shape{r.CPU, r.Count, r.Milli, r.Types} }

// Counted is how often a shape was seen.
type Counted struct {
	Shape
	N float64
}

// Typical is a shape and its part of the requests to be expected.
type Typical struct {
	Shape
	Weight float64
}

// Mix is the requests to be expected: weights sum up to 1.
type Mix []Typical

// cover is the part of what was seen that a Mix stands for; rare shapes beyond
// it would cost time and change little (FGD, section 4.3 of Weng et al., ATC'23).
const cover = 0.95

// NewMix keeps the most frequent shapes that make up 95 % of what was seen.
// Among equally frequent ones, larger come first (CPU, then share, then count),
// and then those that were named first.
func NewMix(seen []Counted) Mix {
	seen = slices.Clone(seen)
	slices.SortStableFunc(seen, func(a, b Counted) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(b.CPU, a.CPU), cmp.Compare(b.Milli, a.Milli), cmp.Compare(b.Count, a.Count))
	})
	var total, kept float64
	for _, c := range seen {
		total += c.N
	}
	var mix Mix
	for _, c := range seen {
		if kept >= cover*total {
			break
		}
		kept += c.N
		mix = append(mix, Typical{c.Shape, c.N / total})
	}
	for i := range mix {
		mix[i].Weight /= kept / total
	}
	return mix
}
