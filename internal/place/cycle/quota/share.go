package quota

import (
	"math"
	"math/bits"
	"time"

	"github.com/penstock/penstock"
)

// steps is how many grid points of the history there are in a half-life, and
// fade is 2^(-1/steps) in units of 2^-32: what is left of a difference from one
// to the next.
const (
	steps = 16
	fade  = 4_112_874_773
	// forgotten is after how many grid points nothing is left of any amount.
	forgotten = 64 * steps
)

// Advance brings the history of every queue up to a time, and reports whether
// any may have changed. The history is read on a fixed grid of time, so that it
// depends on what was held when, and not on how often somebody looked. A clock
// that went back changes nothing.
func (t *Tree) Advance(now time.Time) bool {
	if t.half <= 0 {
		return false
	}
	tick := now.UnixNano() / max(1, int64(t.half/steps))
	passed := tick - t.tick
	if passed <= 0 {
		return false
	}
	t.tick = tick
	for _, q := range t.all {
		for id := range t.table.Len() {
			if held := q.borrowed(id); held > 0 || q.history.At(id) > 0 {
				q.history.Set(id, decay(q.history.At(id), held, min(passed, forgotten)))
			}
		}
	}
	return true
}

// decay moves a mean towards what is held, by so many grid points.
func decay(mean, held penstock.Amount, passed int64) penstock.Amount {
	for ; passed > 0 && mean != held; passed-- {
		hi, lo := bits.Mul64(uint64(max(mean-held, held-mean)), fade)
		rest := penstock.Amount(hi<<32 | lo>>32)
		if mean < held {
			rest = -rest
		}
		mean = held + rest
	}
	return mean
}

// borrowed is what the queue and those below draw beyond their own quota.
func (q *Queue) borrowed(id int) penstock.Amount {
	if !has(q.bound, id) {
		return 0
	}
	return max(0, q.books[Soon].drawn.At(id)-q.quota.At(id))
}

// Share is the queue's dominant share: the largest part, over all resources, of
// what its parent could lend that the queue borrows now and has borrowed of late
// (its decayed mean), divided by its weight. In parts of 10^9; a queue of equal
// use and twice the weight has half of it. It is what weighted dominant-resource
// fairness compares (Ghodsi et al., NSDI'11; Kueue, KEP-1714).
func (q *Queue) Share() int64 {
	return q.dominant(func(id int) penstock.Amount { return q.borrowed(id).Add(q.history.At(id)) })
}

// Borrowed is Share without the history: what counts when work must give way.
func (q *Queue) Borrowed() int64 { return q.dominant(q.borrowed) }

func (q *Queue) dominant(taken func(id int) penstock.Amount) int64 {
	most := int64(0)
	for id := range q.bound {
		if t := taken(id); t > 0 && q.parent != nil {
			most = max(most, ratio(int64(t), int64(q.parent.Limit(id)), int64(q.spec.Weight)))
		}
	}
	return most
}

// ratio is taken × 10^12 / (of × weight), held at the end of the range.
func ratio(taken, of, weight int64) int64 {
	if of <= 0 {
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(uint64(taken), 1e12)
	for _, by := range []uint64{uint64(of), uint64(weight)} {
		if hi >= by {
			return math.MaxInt64
		}
		lo, _ = bits.Div64(hi, lo, by)
		hi = 0
	}
	return int64(min(lo, math.MaxInt64))
}
