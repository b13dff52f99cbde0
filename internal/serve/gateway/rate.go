package gateway

import (
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// keptBuckets is how many keys' buckets are remembered before full ones go.
const keptBuckets = 10_000

// rates bounds requests per minute, by key: a bucket that holds one minute's
// requests and fills evenly. It is this process's own; a restart fills it.
type rates struct {
	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	left float64 // requests
	at   time.Time
	rate float64 // requests per minute
}

func newRates() *rates { return &rates{buckets: map[string]bucket{}} }

// take uses one request of the key's minute, or says when the next is there.
func (r *rates) take(cred store.Credential, now time.Time) error {
	if cred.Rate <= 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.buckets[cred.ID]
	if !known || b.rate != float64(cred.Rate) {
		r.forgetFull(now)
		b = bucket{left: float64(cred.Rate), at: now, rate: float64(cred.Rate)}
	}
	b = b.filled(now)
	defer func() { r.buckets[cred.ID] = b }()
	if b.left >= 1 {
		b.left--
		return nil
	}
	wait := time.Duration((1 - b.left) / b.rate * float64(time.Minute))
	return &fault{
		err: &penstock.Error{
			Code: penstock.OverLimit, Msg: fmt.Sprintf("this key may send %d requests a minute", cred.Rate),
			Hint: fmt.Sprintf("The next may come in %.1f s", wait.Seconds()),
		},
		code: "rate_limit_exceeded", retry: wait,
	}
}

func (b bucket) filled(now time.Time) bucket {
	b.left = min(b.rate, b.left+now.Sub(b.at).Minutes()*b.rate)
	b.at = now
	return b
}

// forgetFull drops the buckets that say nothing a new one wouldn't.
func (r *rates) forgetFull(now time.Time) {
	if len(r.buckets) < keptBuckets {
		return
	}
	for id, b := range r.buckets {
		if b.filled(now).left >= b.rate {
			delete(r.buckets, id)
		}
	}
}
