package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// How a request ends, and where its token counts are from; see store.Request.
const (
	outcomeOK      = "ok"
	outcomeAborted = "aborted"
	outcomeFailed  = "failed"
	outcomeSwept   = "swept"

	sourceUpstream  = "upstream"
	sourceCounted   = "counted"
	sourceEstimated = "estimated"
)

// sweepPage is how many requests one transaction of Sweep settles.
const sweepPage = 500

// overLimitRetry is when a key over its token limit may ask again: what other
// requests of the key hold back and don't use is given back as they end.
const overLimitRetry = 30 * time.Second

// newEntry is a request's line in the ledger, not yet written. Its version is
// that of the replica which is asked first.
func newEntry(cred store.Credential, e *endpoint, version penstock.Digest, r route, started time.Time) (store.Request, error) {
	id, err := penstock.NewUID(started, rand.Reader)
	if err != nil {
		return store.Request{}, err
	}
	return store.Request{
		ID: string(id), Key: cred.ID, Project: e.project, Endpoint: e.uid, EndpointName: e.name,
		Version: version, Route: string(r), Started: started.UTC(),
	}, nil
}

// reserve holds back r.Reserved tokens of the key's limit, durably.
func (g *Gateway) reserve(r store.Request, limit int64) error {
	err := g.ledger.update(func(tx store.Tx) error { return tx.Reserve(r, limit) })
	if penstock.CodeOf(err) == penstock.OverLimit {
		return &fault{err: err, code: "insufficient_quota", retry: overLimitRetry}
	}
	if err != nil {
		return fmt.Errorf("reserve request %s: %w", r.ID, err)
	}
	return nil
}

// settle closes a request in the ledger, durably.
func (g *Gateway) settle(r store.Request) error {
	first := false
	err := g.ledger.update(func(tx store.Tx) (err error) {
		first, err = tx.Settle(r)
		return err
	})
	if err != nil {
		return fmt.Errorf("settle request %s: %w", r.ID, err)
	}
	if first {
		g.metrics.settled(r)
	}
	return nil
}

// Sweep settles the requests that an earlier gateway left open when it died, and
// gives how many. Nobody knows what they used, so they are charged what they had
// reserved: usage is never lost, and a key's limit holds. It must run before the
// first request. Where other gateways use the same store, only a request that is
// older than any can last is taken for left, so Sweep is to be repeated.
func (g *Gateway) Sweep(ctx context.Context) (int, error) {
	swept, now, dead := 0, time.Now().UTC(), g.born
	if g.shared {
		l := g.limits
		dead = now.Add(-2 * (l.Read + l.Whole + l.Drain.Time + l.Write + batchTime))
	}
	for {
		n := 0
		err := g.store.Update(ctx, func(tx store.Tx) error {
			n = 0
			open, err := tx.Requests(store.RequestQuery{Open: true, Limit: sweepPage})
			if err != nil {
				return err
			}
			for _, r := range open {
				if !r.Started.Before(dead) {
					continue
				}
				r.Ended, r.CompletionTokens = now, r.Reserved
				r.Outcome, r.Source = outcomeSwept, sourceEstimated
				if _, err := tx.Settle(r); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return swept, fmt.Errorf("sweep requests: %w", err)
		}
		if swept += n; n == 0 {
			return swept, nil
		}
	}
}
