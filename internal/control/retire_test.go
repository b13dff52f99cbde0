package control_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/sim"
)

var (
	thePool  = penstock.Ref{Kind: penstock.KindPool, Name: "virtual"}
	theTrain = penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: "train"}
)

func (p *plant) delete(refs ...penstock.Ref) []v1.Retirement {
	p.t.Helper()
	out, err := p.server.Delete(p.t.Context(), "ann", refs, control.Commit)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// kept is how many tasks the fleet still keeps.
func (p *plant) kept() int {
	p.t.Helper()
	seen, err := p.fleet.Observe(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return len(seen)
}

func TestExecutorsForgetWhatWasDeletedThoughItsPoolIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		p.apply(penstock.KindJob, "lab", "train", gang(2, 1000, nil))
		p.until("train", penstock.PhaseSucceeded, time.Minute)
		time.Sleep(time.Minute)
		if n := p.kept(); n != 2 {
			t.Fatalf("the fleet keeps %d tasks of a job that is there, want 2", n)
		}
		for _, r := range p.delete(thePool, theTrain) {
			if len(r.Deleted) == 0 {
				t.Errorf("deleting %s: %+v", r.Ref, r)
			}
		}
		p.crash() // right after it was committed
		p.start()
		time.Sleep(time.Minute)
		if n := p.kept(); n != 0 {
			t.Errorf("the fleet keeps %d tasks of a job that was deleted", n)
		}
	})
}

func TestAPoolGoesWhenWhatRunsThereHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		p.apply(penstock.KindJob, "lab", "train", gang(1, 1000, map[string]string{sim.RunFor: "10m"}))
		p.until("train", penstock.PhaseRunning, time.Minute)
		if r := p.delete(thePool)[0]; len(r.Waiting) != 1 || len(r.Deleted) != 0 {
			t.Errorf("deleting a pool at work: %+v, want that it waits", r)
		}
		p.apply(penstock.KindJob, "lab", "late", gang(1, 1000, nil))
		p.until("train", penstock.PhaseSucceeded, 11*time.Minute)
		time.Sleep(time.Minute)
		if late := p.job("late"); late.Metadata.Phase != penstock.PhaseQueued {
			t.Errorf("a job that came after the pool was to go is %s", late.Metadata.Phase)
		}
		_, err := p.server.Delete(t.Context(), "ann", []penstock.Ref{thePool}, control.DryRun)
		if penstock.CodeOf(err) != penstock.NotFound {
			t.Errorf("the pool is still there: %v", err)
		}
		p.check()
	})
}

func TestAnAttemptThatTheStoreDoesNotKnowIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		err := p.fleet.Start(t.Context(), []v1.Order{{Attempt: "of-another-time", WorldSize: 1, Parameters: map[string]string{sim.RunFor: "24h"}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := p.kept(); n != 0 {
			t.Errorf("%d tasks of an attempt that nobody knows are kept", n)
		}
	})
}
