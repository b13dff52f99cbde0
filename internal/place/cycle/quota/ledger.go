package quota

import (
	"math"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// Take books amounts to the queue and to all queues above.
func (q *Queue) Take(b Book, sum vector.Sum) { q.move(b, sum, 1) }

// Give books back what Take took.
func (q *Queue) Give(b Book, sum vector.Sum) { q.move(b, sum, -1) }

func (q *Queue) move(b Book, sum vector.Sum, sign penstock.Amount) {
	for _, t := range sum {
		q.books[b].own.Add(t.ID, sign*t.Amount)
		draw := sign * t.Amount
		for at := q; at != nil; at = at.parent {
			l := &at.books[b]
			l.used.Add(t.ID, sign*t.Amount)
			before := max(0, l.drawn.At(t.ID)-at.kept.At(t.ID))
			l.drawn.Add(t.ID, draw)
			draw = max(0, l.drawn.At(t.ID)-at.kept.At(t.ID)) - before
			if !has(at.bound, t.ID) {
				draw = 0 // who isn't limited draws on nobody
			}
		}
	}
}

// Used is what the queue and all below hold of a resource.
func (q *Queue) Used(b Book, id int) penstock.Amount { return q.books[b].used.At(id) }

// Bounds says whether the queue, or one above it, limits a resource.
func (q *Queue) Bounds(id int) bool { return has(q.bound, id) }

// Left is how much more of a limited resource the queue may take now: 0 or less
// where it holds as much as it may, or more.
func (q *Queue) Left(b Book, id int) penstock.Amount {
	drawn := q.books[b].drawn.At(id)
	if q.parent == nil {
		return q.quota.At(id) - drawn
	}
	above := q.parent.Left(b, id)
	if has(q.listed, id) {
		above = min(above, (q.quota.At(id) - q.kept.At(id) - max(0, drawn-q.kept.At(id))).Add(q.borrow.At(id)))
	}
	return max(0, q.kept.At(id)-drawn).Add(above)
}

// Short is the first resource of a request, in its order, of which the queue
// may not take so much now, and by how much.
func (q *Queue) Short(b Book, sum vector.Sum) (id int, by penstock.Amount, short bool) {
	for _, t := range sum {
		if !has(q.bound, t.ID) {
			continue
		}
		if left := q.Left(b, t.ID); t.Amount > left {
			return t.ID, t.Amount.Add(-left), true
		}
	}
	return 0, 0, false
}

// Tight is the queue, this one or one above, whose limit decides what Left says;
// what of that limit is taken, and the limit.
func (q *Queue) Tight(b Book, id int) (at *Queue, taken, limit penstock.Amount) {
	drawn := q.books[b].drawn.At(id)
	if q.parent == nil {
		return q, drawn, q.quota.At(id)
	}
	if has(q.listed, id) && max(0, q.kept.At(id)-drawn).Add(q.parent.Left(b, id)) > q.Left(b, id) {
		return q, drawn, q.quota.At(id).Add(q.borrow.At(id))
	}
	return q.parent.Tight(b, id)
}

// Limit is the most of a resource that the queue can ever hold, when nobody
// else holds anything.
func (q *Queue) Limit(id int) penstock.Amount {
	switch {
	case !has(q.bound, id):
		return math.MaxInt64
	case q.parent == nil:
		return q.quota.At(id)
	}
	most := q.kept.At(id).Add(q.parent.Limit(id))
	if has(q.listed, id) {
		most = min(most, q.quota.At(id).Add(q.borrow.At(id)))
	}
	return most
}

// Borrows says whether the queue holds, or with the request would hold, more
// than its own quota of a resource that the request names.
func (q *Queue) Borrows(b Book, sum vector.Sum) bool {
	for _, t := range sum {
		if has(q.bound, t.ID) && q.books[b].drawn.At(t.ID).Add(t.Amount) > q.quota.At(t.ID) {
			return true
		}
	}
	return false
}

// Over says whether the queue holds more than its own quota of one of the
// resources, so that those whose it is may have it back.
func (q *Queue) Over(b Book, sum vector.Sum) bool {
	for _, t := range sum {
		if has(q.bound, t.ID) && q.books[b].drawn.At(t.ID) > q.quota.At(t.ID) {
			return true
		}
	}
	return false
}
