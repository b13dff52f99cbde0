package main

import (
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// config is one of Kueue's: so many cohorts of so many queues, each with a
// nominal quota of 20 CPUs and a borrowing limit of 100, and the same workloads.
type config struct {
	name            string
	cohorts, queues int
	classes         []class
	racks, nodes    int // racks of nodes with 96 CPUs; 0 racks is one node with room for all
}

// class is workloads of one kind in every queue: count of them, one each interval.
type class struct {
	name     string
	count    int
	interval time.Duration
	runtime  time.Duration
	priority int
	pods     int
	each     penstock.Amount // thousandths of a CPU, for each pod
	rack     fleet.Mode      // how much the pods want to share a rack
}

const ms = time.Millisecond

// baseline is configs/baseline: 15,000 workloads, 30 queues in 5 cohorts.
func baseline() config {
	return config{"baseline", 5, 6, []class{
		{"small", 350, 100 * ms, 200 * ms, 50, 1, 1000, fleet.Anywhere},
		{"medium", 100, 500 * ms, 500 * ms, 100, 1, 5000, fleet.Anywhere},
		{"large", 50, 1200 * ms, 1000 * ms, 200, 1, 20_000, fleet.Anywhere},
	}, 0, 1}
}

// large is configs/large-scale: 50,000 workloads, 1,000 queues in 10 cohorts.
func large() config {
	return config{"large", 10, 100, []class{
		{"small", 35, 60 * ms, 150 * ms, 50, 1, 1000, fleet.Anywhere},
		{"medium", 11, 300 * ms, 350 * ms, 100, 1, 5000, fleet.Anywhere},
		{"large", 4, 700 * ms, 700 * ms, 200, 1, 20_000, fleet.Anywhere},
	}, 0, 1}
}

// tas is configs/tas: baseline's work as gangs that require or prefer one rack,
// on 10 racks of 64 nodes. Kueue's "balanced" counts as preferred here.
func tas() config {
	set := func(name string, count int, interval, runtime time.Duration, priority, pods int, each penstock.Amount, rack fleet.Mode) class {
		return class{name, count, interval, runtime, priority, pods, each, rack}
	}
	return config{"tas", 5, 6, []class{
		set("small", 120, 100*ms, 200*ms, 50, 2, 500, fleet.Required),
		set("small", 120, 100*ms, 200*ms, 50, 2, 500, fleet.Preferred),
		set("small", 110, 100*ms, 200*ms, 50, 2, 500, fleet.Preferred),
		set("medium", 34, 500*ms, 500*ms, 100, 4, 1250, fleet.Required),
		set("medium", 33, 500*ms, 500*ms, 100, 4, 1250, fleet.Preferred),
		set("medium", 33, 500*ms, 500*ms, 100, 4, 1250, fleet.Preferred),
		set("large", 17, 1200*ms, 1000*ms, 200, 8, 2500, fleet.Required),
		set("large", 17, 1200*ms, 1000*ms, 200, 8, 2500, fleet.Preferred),
		set("large", 16, 1200*ms, 1000*ms, 200, 8, 2500, fleet.Preferred),
	}, 10, 64}
}

// floor is in what time the work can be done at best, in seconds: what one queue
// asks for, on its nominal quota.
func (c config) floor() float64 {
	sum := 0.0
	for _, k := range c.classes {
		sum += float64(k.count*k.pods) * float64(k.each) / 1000 * k.runtime.Seconds()
	}
	return sum / 20
}

// policy is Kueue's: any borrower gives way to whom the quota belongs, lower
// priorities within a queue, at once.
func policy() cycle.Policy {
	p := cycle.Defaults()
	p.Preemption.MinRuntime = 0
	p.Preemption.Most = 1_000_000
	return p
}

// state makes the fleet and the queues.
func (c config) state() (*cycle.State, error) {
	s := cycle.New(policy())
	if err := s.SetPool("pool", "rack"); err != nil {
		return nil, err
	}
	if c.racks == 0 {
		all := penstock.Resources{penstock.CPU: 1 << 40}
		if err := s.SetNode("pool", fleet.Spec{Name: "all", Capacity: all}); err != nil {
			return nil, err
		}
	}
	for rack := range c.racks {
		for node := range c.nodes {
			spec := fleet.Spec{
				Name: fmt.Sprintf("node-%02d-%02d", rack, node), Topology: []string{fmt.Sprintf("rack-%02d", rack)},
				Capacity: penstock.Resources{penstock.CPU: 96_000, penstock.Memory: 256 << 30},
			}
			if err := s.SetNode("pool", spec); err != nil {
				return nil, err
			}
		}
	}
	for i := range c.cohorts {
		cohort := fmt.Sprintf("cohort-%02d", i)
		if err := s.SetQueue(quota.Spec{Name: cohort}, cycle.Backfill); err != nil {
			return nil, err
		}
		for k := range c.queues {
			err := s.SetQueue(quota.Spec{
				Name: fmt.Sprintf("%s-%03d", cohort, k), Parent: cohort,
				Nominal: penstock.Resources{penstock.CPU: 20_000}, Borrow: penstock.Resources{penstock.CPU: 100_000},
			}, cycle.Backfill)
			if err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}
