package httpapi_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/store"
)

// counted is a control that counts the stops asked of it, and does with each
// what stop says.
type counted struct {
	httpapi.Control
	stops atomic.Int32
	stop  func()
}

func (c *counted) Stop(ctx context.Context, by string, ref penstock.Ref) (v1.Job, error) {
	c.stops.Add(1)
	c.stop()
	return c.Control.Stop(ctx, by, ref)
}

// dying is a store that is away once its server is dead.
type dying struct {
	store.Store
	dead atomic.Bool
}

func (d *dying) Update(ctx context.Context, fn func(store.Tx) error) error {
	if d.dead.Load() {
		return &penstock.Error{Code: penstock.Unavailable, Msg: "dead"}
	}
	return d.Store.Update(ctx, fn)
}

// replicas are two servers on one store; the first one's may die.
func replicas(t *testing.T, c *counted) (a, b *plant, first *dying) {
	var o httpapi.Options
	a = lab(t, func(options *httpapi.Options) {
		c.Control, options.Control = options.Control, c
		o = *options
		first = &dying{Store: options.Store}
		options.Store = first
	})
	second := *a
	second.server = httpapi.New(o)
	t.Cleanup(second.server.Close)
	return a, &second, first
}

func TestOneKeyAtManyServersAtOnceDoesTheThingOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{stop: func() { time.Sleep(time.Second) }}
		a, b, _ := replicas(t, c)
		a.apply(a.root, job("lab", "a"))
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			p := []*plant{a, b}[i%2]
			wg.Go(func() { answers[i] = p.call(a.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k") })
		}
		wg.Wait()
		for i, got := range answers {
			if got.status != 200 || got.body != answers[0].body {
				t.Errorf("call %d: %d %s", i, got.status, got.body)
			}
		}
		if n := c.stops.Load(); n != 1 {
			t.Errorf("the thing was done %d times", n)
		}
	})
}

func TestAKeyWhoseServerDiedIsTakenOverAndOneWhoseServerLivesIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := make(chan struct{})
		c := &counted{stop: func() { <-ahead }}
		a, b, first := replicas(t, c)
		a.apply(a.root, job("lab", "a"))
		done := make(chan answer)
		call := func(p *plant) { done <- p.call(a.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k") }
		go call(a)
		time.Sleep(time.Minute)
		b.refused(penstock.Busy, a.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k")
		first.dead.Store(true)
		began := time.Now()
		go call(b)
		for c.stops.Load() < 2 {
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(began); waited < 5*time.Second || waited > 8*time.Second {
			t.Errorf("it was taken over after %v", waited)
		}
		close(ahead)
		var good int
		for range 2 {
			if got := <-done; got.status == 200 {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d calls were answered as done", good)
		}
		first.dead.Store(false) // so that it can write its audit log's end
	})
}
