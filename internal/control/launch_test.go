package control_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/sim"
)

// More than what one pass starts.
func TestABurstOfStartsIsStartedWhole(t *testing.T) {
	const jobs = 150
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, jobs*10)
		for i := range jobs {
			p.apply(penstock.KindJob, "lab", fmt.Sprintf("job-%d", i), gang(1, 10, map[string]string{sim.RunFor: "24h"}))
		}
		for i := range jobs {
			p.until(fmt.Sprintf("job-%d", i), penstock.PhaseRunning, time.Minute)
		}
	})
}

// frozen is an executor that can't be reached for starting or stopping anything.
type frozen struct {
	*sim.Fleet
	starts bool
}

func (f frozen) Start(ctx context.Context, gang []v1.Order) error {
	if f.starts {
		return f.Fleet.Start(ctx, gang)
	}
	return errAway
}

func (frozen) Stop(context.Context, penstock.UID, time.Duration) error { return errAway }

var errAway = &penstock.Error{Code: penstock.Unavailable, Msg: "the cluster is away"}

// two is a plant with a second pool, "away", of one node on another executor.
func two(t *testing.T, starts bool) *plant {
	t.Helper()
	p := newPlant(t, 1000)
	other := sim.New([]v1.Node{{Name: "far", Capacity: penstock.Resources{penstock.CPU: 1000, penstock.Memory: 8 << 30}}}, p.report)
	t.Cleanup(other.Close)
	p.crash()
	p.start(func(o *control.Options) {
		o.Executors = map[string]run.Executor{"local": p.fleet, "away": frozen{other, starts}}
	})
	p.apply(penstock.KindPool, "", "away", v1.PoolSpec{Executor: "away"})
	return p
}

func (p *plant) submit(name, pool string) {
	p.t.Helper()
	spec := gang(1, 1000, map[string]string{sim.RunFor: "24h"})
	spec.Pool = pool
	p.apply(penstock.KindJob, "lab", name, spec)
}

func TestAnExecutorThatIsAwayKeepsNothingFromStartingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := two(t, false)
		p.submit("a", "away")
		p.until("a", penstock.PhaseStarting, time.Minute)
		p.submit("b", "virtual")
		p.until("b", penstock.PhaseRunning, time.Minute)
		if phase := p.job("a").Metadata.Phase; phase != penstock.PhaseStarting {
			t.Errorf("the job on the executor that is away is %s", phase)
		}
	})
}

func TestAnExecutorThatIsAwayKeepsNothingFromBeingStoppedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := two(t, true)
		p.submit("a", "away")
		p.submit("b", "virtual")
		for _, name := range []string{"a", "b"} {
			p.until(name, penstock.PhaseRunning, time.Minute)
			if _, err := p.server.Stop(t.Context(), "ann", penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		p.until("b", penstock.PhaseStopped, time.Minute)
		if phase := p.job("a").Metadata.Phase; phase != penstock.PhaseStopping {
			t.Errorf("the job on the executor that is away is %s", phase)
		}
	})
}
