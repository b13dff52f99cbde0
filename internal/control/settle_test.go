package control_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/sim"
	"github.com/penstock/penstock/internal/store"
)

// afterLook is a store that lets something happen right after an attempt was
// read, before anything is done about it.
type afterLook struct {
	store.Store
	happen func()
}

func (s *afterLook) View(ctx context.Context, fn func(store.Tx) error) error {
	looked := false
	err := s.Store.View(ctx, func(tx store.Tx) error { return fn(looking{tx, &looked}) })
	if looked {
		s.happen()
	}
	return err
}

type looking struct {
	store.Tx
	looked *bool
}

func (l looking) Get(ref penstock.Ref) (v1.Object, error) {
	*l.looked = *l.looked || ref.Kind == penstock.KindAttempt
	return l.Tx.Get(ref)
}

// Outputs are read before the transaction that ends the attempt. A task that
// ends between the two must not succeed without anybody having seen them.
func TestOutputsAreSeenHoweverLateTheLastTaskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		spec := gang(1, 1000, map[string]string{sim.RunFor: "10h"})
		spec.Outputs = []v1.Output{{Name: "version", Dataset: "never-written"}}
		p.apply(penstock.KindJob, "lab", "train", spec)
		p.until("train", penstock.PhaseRunning, time.Minute)
		attempt := p.fleet.Live()[0]
		p.crash()
		ended := sync.OnceFunc(func() {
			if _, err := p.server.Report(t.Context(), attempt, []v1.Report{{Seq: 2, At: time.Now(), Exited: &v1.Exited{}}}); err != nil {
				t.Error(err)
			}
		})
		p.store = &afterLook{p.store, ended}
		p.start()
		job := p.until("train", penstock.PhaseFailed, time.Minute)
		if job.Status.Reasons[0].Code != penstock.PreparingFailed {
			t.Errorf("it failed because of %s", penstock.Join(job.Status.Reasons))
		}
		p.check()
	})
}
