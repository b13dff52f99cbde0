package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// LoopsLease is the name of the lease whose holder makes the passes.
const LoopsLease = "loops"

// Election lets one of several processes on one store lead at a time, by a lease
// in that store. It is Kubernetes' leader election (client-go,
// tools/leaderelection) with a fencing token: the leader raises the lease's
// beat, and a candidate that has seen no beat for a whole TTL, by its own
// monotonic clock, takes the lease under the next token. No two clocks are
// compared.
//
// The leader gives up when it hasn't managed a beat for nine tenths of the TTL,
// by its own monotonic clock, which is before anybody else may take over. A
// leader that was frozen can't know that in time; but its commits are fenced, so
// it changes nothing.
type Election struct {
	Store store.Store
	// Lease is the name of what is led.
	Lease string
	// Replica is what people call this process. The holder's name in the lease
	// begins with it.
	Replica string
	// Sole says that no other process can have the store open, as the lock of a
	// data folder does: whoever holds the lease is dead, so it is taken at once,
	// and nobody needs to be told that this process lives.
	Sole bool
	// TTL is for how long a leader may be silent. Default 5 s.
	TTL time.Duration
	Log *slog.Logger
}

// ttl makes a takeover take less than 10 s: that of a leader which died right
// after its beat is seen is known after at most two looks more.
const ttl = 5 * time.Second

// Parts of the TTL: how often the leader beats, how often it tries again and
// candidates look, and after how long without a beat the leader looks a last
// time before it gives up. patience is how many TTLs one
// commit of the leader's own may keep its beat waiting.
const (
	beatPart, lookPart, patience = 3, 10, 12
	limitNum, limitDen           = 4, 5
)

// Run stands for election until ctx ends, and calls lead for each term. lead's
// context ends with the term, and lead must return then. What it does through
// the given store is committed only while the lease is held. A lease that is
// held when ctx ends is given back, so that the next candidate needn't wait.
func (e Election) Run(ctx context.Context, lead func(context.Context, store.Store)) error {
	id, err := penstock.NewUID(time.Now(), rand.Reader)
	if err != nil {
		return fmt.Errorf("name the candidate: %w", err)
	}
	if e.TTL <= 0 {
		e.TTL = ttl
	}
	c := &candidate{Election: e, holder: string(id)}
	if e.Replica != "" {
		c.holder = e.Replica + "/" + c.holder
	}
	for {
		held, sure, err := c.win(ctx)
		if err != nil {
			return err
		}
		c.term(ctx, held, sure, lead)
	}
}

// candidate is one process in an election.
type candidate struct {
	Election
	holder string
	vigil  store.Vigil
	leader string // whom this candidate knows to lead
	failed bool   // the last look did: one that fails again is no news
}

// win waits until this candidate holds the lease. sure is a time before it did.
func (c *candidate) win(ctx context.Context) (held store.Lease, sure time.Time, err error) {
	for {
		sure = time.Now()
		held, err = c.try(ctx)
		switch {
		case ctx.Err() != nil:
			return held, sure, ctx.Err()
		case err == nil && held.Token > 0:
			return held, sure, nil
		case err != nil && !c.failed && penstock.CodeOf(err) != penstock.Conflict:
			c.Log.Warn("can't stand for election", "lease", c.Lease, "error", err)
		}
		c.failed = err != nil
		select {
		case <-ctx.Done():
			return held, sure, ctx.Err()
		case <-time.After(c.TTL / lookPart):
		}
	}
}

// try takes the lease if it may be taken. If not, it gives one without a token.
func (c *candidate) try(ctx context.Context) (held store.Lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.TTL)
	defer cancel()
	var seen store.Lease
	before := time.Now()
	if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		seen, err = tx.Lease(c.Lease)
		return err
	}); err != nil {
		return held, err
	}
	if silent := c.vigil.Silent(seen, before, time.Now()); !c.free(seen, silent) {
		if seen.Holder != c.leader {
			c.leader = seen.Holder
			c.Log.Info("following", "lease", c.Lease, "leader", seen.Holder, "token", seen.Token, "since", seen.Since)
		}
		return held, nil
	}
	err = c.Store.Update(ctx, func(tx store.Tx) (err error) {
		held, err = tx.TakeLease(seen, c.holder, now())
		return err
	})
	return held, err
}

// free reports whether a lease may be taken. One that is held in this
// candidate's own name is: it was taken and the answer got lost, or given up for
// want of an answer. It is taken again, under the next token, so that what an
// earlier term may still have on its way to the database is fenced, too.
func (c *candidate) free(seen store.Lease, silent time.Duration) bool {
	return seen.Holder == "" || seen.Holder == c.holder || c.Sole || silent >= c.TTL
}

// term lets lead run for as long as the lease is held.
func (c *candidate) term(ctx context.Context, held store.Lease, sure time.Time, lead func(context.Context, store.Store)) {
	c.leader = held.Holder
	c.Log.Info("leading", "lease", c.Lease, "holder", held.Holder, "token", held.Token, "since", held.Since)
	inTerm, end := context.WithCancelCause(ctx)
	fenced := &termStore{Store: store.Fence(c.Store, held)}
	var beats sync.WaitGroup
	if !c.Sole {
		beats.Go(func() {
			if err := c.beats(inTerm, held, sure, fenced); err != nil {
				c.Log.Warn("no longer leading", "lease", c.Lease, "token", held.Token, "error", err)
				end(err)
			}
		})
	}
	lead(inTerm, fenced)
	given := inTerm.Err() == nil || ctx.Err() != nil // not lost
	end(nil)
	beats.Wait()
	if given {
		c.giveBack(ctx, held)
	}
}

// beats tells the others that this process lives, until ctx ends or it must give
// up, and why.
func (c *candidate) beats(ctx context.Context, held store.Lease, sure time.Time, fenced *termStore) error {
	pause := c.TTL / beatPart
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		at, err := c.beat(ctx, held, sure, fenced)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			sure, pause = at, c.TTL/beatPart
		case penstock.CodeOf(err) == penstock.Fenced || !time.Now().Before(c.limit(sure)):
			return err
		default:
			pause = c.TTL / lookPart
		}
	}
}

func (c *candidate) limit(sure time.Time) time.Time {
	return sure.Add(c.TTL * limitNum / limitDen)
}

// beat raises the beat once and gives a time before that, or gives up at the
// limit. A store may take one commit at a time, so a long one of the leader's
// own keeps the beat waiting. It keeps all others' from taking the lease for as
// long, so it is no reason to give up, which would only make it long again.
func (c *candidate) beat(ctx context.Context, held store.Lease, sure time.Time, fenced *termStore) (at time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began, answered := time.Now(), make(chan error, 1)
	go func() {
		answered <- c.Store.Update(ctx, func(tx store.Tx) error {
			_, err := tx.BeatLease(held)
			return err
		})
	}()
	idle := false // no commit was under way at the look before
	for wait := time.Until(c.limit(sure)); ; wait = c.TTL / lookPart {
		select {
		case err := <-answered:
			if time.Now().After(c.limit(sure)) {
				began = time.Now() // it waited for the leader's own commit
			}
			return began, err
		case <-time.After(wait):
		}
		was := idle
		// One that has just ended leaves the beat a moment to come through.
		if idle = fenced.commits.Load() == 0; idle && was || time.Since(sure) > patience*c.TTL {
			return began, &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("no beat was acknowledged for %v", time.Since(sure).Round(time.Millisecond))}
		}
	}
}

// giveBack lets others take the lease without waiting.
func (c *candidate) giveBack(ctx context.Context, held store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.TTL/beatPart)
	defer cancel()
	err := c.Store.Update(ctx, func(tx store.Tx) error { return tx.ReturnLease(held) })
	if err != nil {
		c.Log.Warn("the lease was not given back; others wait until it expires", "lease", c.Lease, "token", held.Token, "error", err)
		return
	}
	c.Log.Info("gave the lead back", "lease", c.Lease, "token", held.Token)
}

// termStore is the fenced store of one term. It knows whether a commit is under
// way.
type termStore struct {
	store.Store
	commits atomic.Int32
}

// Update counts itself.
func (t *termStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	t.commits.Add(1)
	defer t.commits.Add(-1)
	return t.Store.Update(ctx, fn)
}
