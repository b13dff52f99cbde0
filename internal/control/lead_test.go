package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/sim"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// weather is a store as one server sees it: near, out of reach, or as it is for
// a server that is frozen, for whom nothing happens until it is thawed.
type weather struct {
	store.Store
	mu     sync.Mutex
	away   bool
	frozen chan struct{} // closed when it is thawed
}

func (w *weather) set(away bool, frozen chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frozen != nil {
		close(w.frozen)
	}
	w.away, w.frozen = away, frozen
}

func (w *weather) pass() error {
	w.mu.Lock()
	away, frozen := w.away, w.frozen
	w.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	if away {
		return &penstock.Error{Code: penstock.Unavailable, Msg: "the store is out of reach"}
	}
	return nil
}

func (w *weather) View(ctx context.Context, fn func(store.Tx) error) error {
	if err := w.pass(); err != nil {
		return err
	}
	return w.Store.View(ctx, fn)
}

func (w *weather) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := w.pass(); err != nil {
		return err
	}
	return w.Store.Update(ctx, fn)
}

// replica stands for election and, while it believes to lead, commits its name
// and the lease's token twice a second.
type replica struct {
	weather *weather
	stop    context.CancelFunc
	ended   chan struct{}
}

func stand(st store.Store, name string) *replica {
	ctx, cancel := context.WithCancel(context.Background())
	r := &replica{weather: &weather{Store: st}, stop: cancel, ended: make(chan struct{})}
	e := control.Election{Store: r.weather, Lease: control.LoopsLease, Replica: name, Log: slog.New(slog.DiscardHandler)}
	go func() {
		defer close(r.ended)
		_ = e.Run(ctx, func(ctx context.Context, fenced store.Store) { commitInTerm(ctx, fenced, name) }) // it ends with the context
	}()
	return r
}

// commitInTerm has no regard for its context while it commits: a frozen leader
// doesn't know that its term is over, and must not need to.
func commitInTerm(ctx context.Context, fenced store.Store, name string) {
	for ctx.Err() == nil {
		_ = fenced.Update(context.WithoutCancel(ctx), func(tx store.Tx) error { // away and Fenced are what the test is about
			l, err := tx.Lease(control.LoopsLease)
			if err != nil {
				return err
			}
			return tx.AppendEvent(store.Event{At: time.Now(), Kind: penstock.KindPool, UID: "lead", Name: name, Reason: strconv.FormatInt(l.Token, 10)})
		})
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// commits reads who committed what, and checks that in the order of commits no
// token comes back and none is of two holders.
func commits(t *testing.T, st store.Store) []store.Event {
	t.Helper()
	var all []store.Event
	if err := st.View(t.Context(), func(tx store.Tx) (err error) {
		all, err = tx.Events("", "lead", 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	last, holders := 0, map[int]string{}
	for _, e := range all {
		token, err := strconv.Atoi(e.Reason)
		if err != nil || token < last {
			t.Errorf("a commit under token %s comes after one under token %d", e.Reason, last)
		}
		if holder, ok := holders[token]; ok && holder != e.Name {
			t.Errorf("token %d is of %s and of %s", token, holder, e.Name)
		}
		last, holders[token] = token, e.Name
	}
	return all
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "penstock.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// TestNoTwoLeadersCommitWhateverBefallsThem freezes, cuts off, kills and stops
// servers at random. One of them is always well, so somebody commits again
// within 10 s of anything.
func TestNoTwoLeadersCommitWhateverBefallsThem(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				st := openStore(t)
				all := []*replica{stand(st, "a"), stand(st, "b"), stand(st, "c")}
				for n := range 40 {
					time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
					i := random.IntN(len(all))
					for _, r := range all { // at most one is unwell
						r.weather.set(false, nil)
					}
					switch random.IntN(4) {
					case 0:
						all[i].weather.set(false, make(chan struct{}))
					case 1:
						all[i].weather.set(true, nil)
					case 2: // killed: it gives nothing back
						all[i].weather.set(true, nil)
						fallthrough
					case 3:
						all[i].stop()
						<-all[i].ended
						all[i] = stand(st, fmt.Sprint("new", n))
					}
				}
				for _, r := range all {
					r.weather.set(false, nil)
					r.stop()
					<-r.ended
				}
				log := commits(t, st)
				for i := 1; i < len(log); i++ {
					if gap := log[i].At.Sub(log[i-1].At); gap > 10*time.Second {
						t.Errorf("nobody committed for %v, from token %s to %s", gap, log[i-1].Reason, log[i].Reason)
					}
				}
			})
		})
	}
}

// firstCommit is for how long a new server waits until it leads.
func firstCommit(t *testing.T, e control.Election) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began, led := time.Now(), time.Duration(-1)
	_ = e.Run(ctx, func(context.Context, store.Store) { // it ends with the context
		led = time.Since(began)
		cancel()
	})
	return led
}

func TestADeadLeaderIsWaitedForAndASoleServerWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		die := func() {
			if err := st.Update(t.Context(), func(tx store.Tx) error {
				l, err := tx.Lease(control.LoopsLease)
				if err == nil {
					_, err = tx.TakeLease(l, "dead", time.Now())
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		e := control.Election{Store: st, Lease: control.LoopsLease, Log: slog.New(slog.DiscardHandler)}
		if d := firstCommit(t, e); d != 0 {
			t.Errorf("a lease that nobody had was taken after %v", d)
		}
		if d := firstCommit(t, e); d != 0 {
			t.Errorf("a lease that was given back was taken after %v", d)
		}
		die()
		if d := firstCommit(t, e); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("a dead leader's lease was taken after %v, want 5 s to 6 s", d)
		}
		die()
		e.Sole = true
		if d := firstCommit(t, e); d != 0 {
			t.Errorf("a server that can be the only one waited %v", d)
		}
	})
}

// TestALeaderKeepsItsLeadThroughALongCommit holds the only writer for longer
// than the lease lives: giving up would only make the commit begin again.
func TestALeaderKeepsItsLeadThroughALongCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := control.Election{Store: st, Lease: control.LoopsLease, Log: slog.New(slog.DiscardHandler)}
		terms := 0
		_ = e.Run(ctx, func(term context.Context, fenced store.Store) { // it ends with the context
			terms++
			for range 3 {
				if err := fenced.Update(term, func(store.Tx) error { time.Sleep(20 * time.Second); return nil }); err != nil {
					t.Errorf("a long commit: %v", err)
				}
			}
			time.Sleep(20 * time.Second)
			if term.Err() != nil {
				t.Errorf("the term ended: %v", context.Cause(term))
			}
			cancel()
		})
		if terms != 1 {
			t.Errorf("%d terms", terms)
		}
	})
}

// TestWorkGoesOnFromLeaderToLeader runs jobs on three servers with one store and
// one fleet while whoever leads is stopped, again and again.
func TestWorkGoesOnFromLeaderToLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000, 4000)
		others := map[*control.Control]context.CancelFunc{}
		var wg sync.WaitGroup
		join := func() {
			ctx, cancel := context.WithCancel(context.Background())
			c := control.New(control.Options{Store: p.store, Blobs: p.blobs, Sealer: noSealer{}, Executors: map[string]run.Executor{"local": p.fleet}})
			others[c] = cancel
			wg.Go(func() { _ = c.Run(ctx) }) // it ends with the context
		}
		join()
		join()
		p.crash()
		time.Sleep(time.Second)
		p.start() // it follows, and takes reports
		for i := range 6 {
			p.apply(penstock.KindJob, "lab", fmt.Sprint("job", i), gang(2, 1000, map[string]string{sim.RunFor: "20s"}))
		}
		led := map[*control.Control]bool{}
		for range 5 {
			time.Sleep(4 * time.Second)
			leaders := 0
			if p.server.Leading() {
				leaders++
				led[p.server] = true
				p.crash()
				time.Sleep(time.Second)
				p.start()
			}
			for c, stop := range others {
				if c.Leading() {
					leaders++
					led[c] = true
					stop()
					delete(others, c)
					join()
				}
			}
			if leaders == 0 {
				t.Error("nobody leads")
			}
		}
		for i := range 6 {
			if job := p.until(fmt.Sprint("job", i), penstock.PhaseSucceeded, 10*time.Minute); job.Status.Attempt != 1 {
				t.Errorf("%s took %d attempts", job.Metadata.Name, job.Status.Attempt)
			}
		}
		if len(led) < 5 {
			t.Errorf("%d servers led", len(led))
		}
		if o := p.fleet.Overlaps(); len(o) > 0 {
			t.Errorf("jobs ran twice: %v", o)
		}
		p.check()
		for _, stop := range others {
			stop()
		}
		wg.Wait()
	})
}
