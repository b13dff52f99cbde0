package store

import (
	"context"
	"time"
)

// Fence gives a Store whose Updates commit only while held is the current
// lease; once it isn't they are Fenced. The lease is read in the very
// transaction that commits, and transactions are serializable, so what a holder
// does that was frozen, cut off or has a wrong clock comes before the takeover
// or not at all, whatever it believes. Views are not fenced: they do nothing.
func Fence(s Store, held Lease) Store { return &fence{Store: s, held: held} }

type fence struct {
	Store
	held Lease
}

// Update looks at the lease first: the database may run fn again, and then the
// lease is looked at again.
func (f *fence) Update(ctx context.Context, fn func(Tx) error) error {
	return f.Store.Update(ctx, func(tx Tx) error {
		if err := tx.CheckLease(f.held); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Vigil watches somebody else's lease for signs of life, with the watcher's own
// clock alone. Its zero value has seen nothing yet.
type Vigil struct {
	seen  Lease
	since time.Time
}

// Silent is for how long the lease is known to have had one Token and one Beat:
// from after it was first read so until before it was read now. The lease now
// was read between the two times, which must have a monotonic clock reading, as
// those of time.Now do.
func (v *Vigil) Silent(now Lease, before, after time.Time) time.Duration {
	if v.since.IsZero() || now.Holder != v.seen.Holder || now.Token != v.seen.Token || now.Beat != v.seen.Beat {
		v.seen, v.since = now, after
		return 0
	}
	return max(0, before.Sub(v.since))
}
