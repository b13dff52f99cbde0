package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// An idempotent call is done under a lease of its own, so that of all servers on
// the store only one does it. While it is done the lease beats; that of a server
// which died with it is silent for claimTTL, and then another one does it.
const (
	claimTTL  = 5 * time.Second
	claimBeat = claimTTL / 3
	claimLook = claimTTL / 50
)

// claim waits until the call is remembered or is this caller's to do. It gives
// the lease to do it under, or what is remembered and a lease without a token. A
// call that is seen to go on elsewhere is Busy.
func (s *Server) claim(ctx context.Context, a store.Answer) (held store.Lease, before store.Answer, err error) {
	sum := sha256.Sum256([]byte(a.Actor + "\x00" + a.Key))
	seen := store.Lease{Name: "once/" + hex.EncodeToString(sum[:])}
	var vigil store.Vigil
	for {
		last, asked := seen, time.Now()
		if err := s.Store.View(ctx, func(tx store.Tx) (err error) {
			if seen, err = tx.Lease(seen.Name); err == nil {
				before, err = recall(tx, a)
			}
			return err
		}); err != nil || before.Status != 0 {
			return held, before, err
		}
		silent := vigil.Silent(seen, asked, time.Now())
		if seen.Holder == "" || silent >= claimTTL {
			held, before, err = s.takeClaim(ctx, a, seen)
			if penstock.CodeOf(err) != penstock.Conflict {
				return held, before, err
			}
		}
		if seen.Holder == last.Holder && seen.Beat > last.Beat {
			return held, before, &penstock.Error{Code: penstock.Busy, Msg: "the first call with this Idempotency-Key is still being done", Hint: "repeat this one in a moment"}
		}
		select {
		case <-ctx.Done():
			return held, before, &penstock.Error{Code: penstock.Canceled, Msg: "the caller left", Err: context.Cause(ctx)}
		case <-time.After(claimLook):
		}
	}
}

// recall is Recall with an answer without a Status where there is none.
func recall(tx store.Tx, a store.Answer) (store.Answer, error) {
	before, err := tx.Recall(a.Actor, a.Key)
	if penstock.CodeOf(err) == penstock.NotFound {
		return store.Answer{}, nil
	}
	return before, err
}

// takeClaim takes the lease as it was seen, unless the call has been done since.
func (s *Server) takeClaim(ctx context.Context, a store.Answer, seen store.Lease) (held store.Lease, before store.Answer, err error) {
	holder := rand.Text()
	err = s.Store.Update(ctx, func(tx store.Tx) (err error) {
		held = store.Lease{}
		if before, err = recall(tx, a); err == nil && before.Status == 0 {
			held, err = tx.TakeLease(seen, holder, time.Now())
		}
		return err
	})
	return held, before, err
}

// keepClaim beats until ctx ends. A claim that somebody else took, because this
// server was frozen for so long, ends the call.
func (s *Server) keepClaim(ctx context.Context, cancel context.CancelFunc, held store.Lease) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(claimBeat):
		}
		err := s.Store.Update(ctx, func(tx store.Tx) error { _, err := tx.BeatLease(held); return err })
		if penstock.CodeOf(err) == penstock.Fenced {
			cancel()
			return
		}
	}
}

// endClaim gives the claim up, and remembers the answer, if there is one, in the
// same moment. It does so for a caller who left, too.
func (s *Server) endClaim(ctx context.Context, a store.Answer, held store.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTTL)
	defer cancel()
	return s.Store.Update(ctx, func(tx store.Tx) error {
		if a.Status != 0 {
			if err := tx.Remember(a); err != nil {
				return err
			}
		}
		return tx.DropLease(held)
	})
}
