package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// lookEvery is how often a pool that didn't change is looked at: discovery may
// mean starting a program or calling another server.
const lookEvery = 10 * time.Second

// look is when a pool was looked at, and which of its generations.
type look struct {
	generation int64
	at         time.Time
}

// observeFleet brings each pool's status up to what its executor has, and
// writes down capacity and prices as facts when they change.
func (c *Control) observeFleet(ctx context.Context) error {
	var pools []v1.Pool
	if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		pools, err = store.LoadAll[v1.PoolSpec, v1.PoolStatus](tx, store.Query{Kind: penstock.KindPool})
		return err
	}); err != nil {
		return err
	}
	for _, pool := range pools {
		last := c.looked[pool.Metadata.UID]
		if last.generation == pool.Metadata.Generation && time.Since(last.at) < lookEvery {
			continue
		}
		c.looked[pool.Metadata.UID] = look{pool.Metadata.Generation, time.Now()}
		nodes, problem := c.findNodes(ctx, pool)
		if err := retry(func() error {
			return c.Store.Update(ctx, func(tx store.Tx) error { return updatePool(tx, pool.Ref(), nodes, problem) })
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) findNodes(ctx context.Context, pool v1.Pool) ([]v1.Node, error) {
	executor, err := c.executor(pool.Spec.Executor)
	if err != nil {
		return nil, err
	}
	if len(pool.Spec.Nodes) > 0 {
		return pool.Spec.Nodes, nil
	}
	return executor.Nodes(ctx)
}

func updatePool(tx store.Tx, ref penstock.Ref, nodes []v1.Node, problem error) error {
	pool, err := store.Load[v1.PoolSpec, v1.PoolStatus](tx, ref)
	if err != nil || !pool.Metadata.DeletedAt.IsZero() {
		return ignoreMissing(err) // somebody deleted it since it was listed
	}
	phase, reason, message := penstock.PhaseReady, "Discovered", fmt.Sprintf("%d nodes", len(nodes))
	if problem != nil {
		phase, reason, message = penstock.PhaseDegraded, "Unreachable", problem.Error()
		nodes = pool.Status.Nodes
	}
	capacity := penstock.Resources{}
	for _, n := range nodes {
		capacity = capacity.Plus(n.Capacity)
	}
	if err := recordRates(tx, pool, capacity); err != nil {
		return err
	}
	if pool.Metadata.Phase == phase && sameJSON(pool.Status.Nodes, nodes) && sameJSON(pool.Status.Capacity, capacity) {
		return nil
	}
	pool.Status.Nodes, pool.Status.Capacity, pool.Status.ObservedAt = nodes, capacity, now()
	status := so
	if problem != nil {
		status = notSo
	}
	pool.Status.Conditions = condition(pool.Status.Conditions, "Reachable", status, reason, message)
	return move(tx, &pool, phase, reason, message)
}

// recordRates appends a rate for each resource whose price or capacity is not
// what the newest fact says.
func recordRates(tx store.Tx, pool v1.Pool, capacity penstock.Resources) error {
	rates, err := tx.Rates(now())
	if err != nil {
		return err
	}
	newest := map[penstock.Resource]store.Rate{}
	for _, r := range rates {
		if r.Pool == pool.Metadata.Name {
			newest[r.Resource] = r
		}
	}
	for _, name := range capacity.Names() {
		price, known := pool.Spec.Prices[name]
		if !known {
			price = -1
		}
		have, ok := newest[name]
		if ok && have.Price == price && have.Capacity == capacity[name] {
			continue
		}
		r := store.Rate{Pool: pool.Metadata.Name, Resource: name, Price: price, Capacity: capacity[name], From: now()}
		if err := tx.AppendRate(r); err != nil {
			return err
		}
	}
	for name, have := range newest {
		if _, still := capacity[name]; !still && have.Capacity > 0 {
			if err := tx.AppendRate(store.Rate{Pool: have.Pool, Resource: name, Price: have.Price, From: now()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// startTime is how long an engine may take from getting a gang to running all of
// it: it may have to wait for its own scheduler, and for images.
const startTime = 30 * time.Minute

// observeTasks marks the tasks whose agent is gone although it never reported
// an end, and tells what those wait for that haven't begun. What an agent did
// report stands: it is written before the agent leaves.
func (c *Control) observeTasks(ctx context.Context) error {
	live, err := c.liveAttempts(ctx)
	if err != nil || len(live) == 0 {
		return err
	}
	seen, err := c.observeAll(ctx)
	for _, attempt := range live {
		news := slices.DeleteFunc(slices.Clone(seen), func(o run.Observation) bool {
			return o.Attempt != attempt.Metadata.UID || !unended(attempt, o.Rank) || !tells(attempt, o)
		})
		if len(news) == 0 {
			continue
		}
		if err := c.markSeen(ctx, attempt.Ref(), news); err != nil {
			return err
		}
	}
	return err
}

// observeAll asks every executor. One that can't be asked leaves the others'
// words standing.
func (c *Control) observeAll(ctx context.Context) ([]run.Observation, error) {
	var all []run.Observation
	var errs []error
	for name, executor := range c.Executors {
		seen, err := executor.Observe(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("observe executor %s: %w", name, err))
		}
		all = append(all, seen...)
	}
	return all, errors.Join(errs...)
}

// tells reports whether an observation changes anything.
func tells(a v1.Attempt, o run.Observation) bool {
	t := a.Status.Tasks[o.Rank]
	switch o.State {
	case run.Gone:
		return true
	case run.Pending:
		return t.Message != o.Detail || late(a)
	}
	return t.Seq == 0 && t.Message != "" // what it waited for is over
}

func late(a v1.Attempt) bool { return now().Sub(a.Metadata.CreatedAt) > startTime }

func unended(a v1.Attempt, rank int) bool {
	return rank >= 0 && rank < len(a.Status.Tasks) && !ended(a.Status.Tasks[rank])
}

func ended(t v1.TaskStatus) bool {
	return t.State == "exited" || t.State == "unstarted" || t.State == "gone"
}

func (c *Control) markSeen(ctx context.Context, ref penstock.Ref, news []run.Observation) error {
	return c.Store.Update(ctx, func(tx store.Tx) error {
		attempt, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, ref)
		if err != nil {
			return err
		}
		for _, o := range news {
			if !unended(attempt, o.Rank) {
				continue
			}
			t := &attempt.Status.Tasks[o.Rank]
			switch {
			case o.State == run.Gone:
				t.State, t.Message, t.Ended, t.Address = "gone", o.Detail, now(), ""
			case o.State == run.Pending && late(attempt):
				t.State, t.Ended = "unstarted", now()
				t.Message = fmt.Sprintf("it did not start within %s: %s", startTime, o.Detail)
			case t.Seq == 0:
				t.Message = o.Detail
			}
		}
		return save(tx, &attempt)
	})
}

// liveAttempts are those that have not ended.
func (c *Control) liveAttempts(ctx context.Context) ([]v1.Attempt, error) {
	var live []v1.Attempt
	err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		live, err = listLive(tx)
		return err
	})
	return live, err
}

func listLive(tx store.Tx) ([]v1.Attempt, error) {
	return store.LoadAll[v1.AttemptSpec, v1.AttemptStatus](tx, store.Query{
		Kind:   penstock.KindAttempt,
		Phases: []penstock.Phase{penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping},
	})
}
