package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

const (
	clients  = 8
	projects = 20
	page     = 200
	batch    = 500
)

// spec is as long as that of a job of the tour.
var spec = json.RawMessage(`{"command":["python3","train.py","--steps","800"],"image":"registry.example/train:1","queue":"default","priority":10,` +
	`"tasks":[{"name":"worker","replicas":2,"resources":{"cpu":"4","memory":"16Gi","accelerator":"1"},"ports":[29500]}],` +
	`"inputs":[{"dataset":"corpus@v3","path":"/data"}],"checkpoint":{"every":"5m","keep":3},"deadline":"12h","retries":3,` +
	`"environment":{"OMP_NUM_THREADS":"4","LEARNING_RATE":"3e-4","BATCH":"16","SEED":"7"}}`)

// job is the nth job of its maker.
func job(maker string, n int, phase penstock.Phase) (v1.Object, error) {
	now := time.Now().UTC()
	uid, err := penstock.NewUID(now, random{})
	if err != nil {
		return v1.Object{}, err
	}
	return v1.Object{Kind: penstock.KindJob, Spec: spec, Metadata: v1.Metadata{
		UID: uid, Project: "project-" + strconv.Itoa(n%projects), Name: maker + "-" + strconv.Itoa(n), Phase: phase,
		CreatedBy: "ann@example.org", CreatedAt: now, UpdatedAt: now,
		Labels: map[string]string{
			"team": "team-" + strconv.Itoa(n/projects%50), "env": []string{"dev", "staging", "prod"}[n%3],
			"model": "model-" + strconv.Itoa(n%1000),
		},
	}}, nil
}

// random is a fast source for UIDs.
type random struct{}

func (random) Read(p []byte) (int, error) {
	var b bytes.Buffer
	for b.Len() < len(p) {
		b.WriteString(strconv.FormatUint(rand.Uint64(), 16))
	}
	return copy(p, b.Bytes()), nil
}

func event(o v1.Object, reason, message string) store.Event {
	m := o.Metadata
	return store.Event{At: time.Now().UTC(), Project: m.Project, Kind: o.Kind, UID: m.UID, Name: m.Name, Reason: reason, Message: message}
}

// parallel lets clients do something again and again for a while, and gives how
// long each time took.
func parallel(ctx context.Context, long time.Duration, do func(ctx context.Context, client, n int) error) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	end := time.Now().Add(long)
	for client := range clients {
		g.Go(func() error {
			for n := 0; time.Now().Before(end); n++ {
				began := time.Now()
				if err := do(ctx, client, n); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
			return nil
		})
	}
	return took, g.Wait()
}

// submit makes jobs, as an apply of one job does.
func submit(ctx context.Context, s store.Store, long time.Duration) ([]time.Duration, error) {
	return parallel(ctx, long, func(ctx context.Context, client, n int) error {
		o, err := job("submit"+strconv.Itoa(client), n, penstock.PhaseQueued)
		if err != nil {
			return err
		}
		return s.Update(ctx, func(tx store.Tx) error {
			made, err := tx.Create(o)
			if err != nil {
				return err
			}
			if err := tx.AppendEvent(event(made, "Created", "by ann@example.org")); err != nil {
				return err
			}
			_, err = tx.AppendAudit(store.AuditEntry{
				At: time.Now().UTC(), Actor: "ann@example.org", Role: "developer", Verb: "apply", Target: made.Ref().String(), Outcome: "ok",
			})
			return err
		})
	})
}

// claim takes the oldest queued job again and again. When there is none left it
// fills up, which isn't measured apart: give submit its time.
func claim(ctx context.Context, s store.Store, long time.Duration) ([]time.Duration, error) {
	var short atomic.Bool
	took, err := parallel(ctx, long, func(ctx context.Context, client, _ int) error {
		return s.Update(ctx, func(tx store.Tx) error {
			oldest, err := tx.List(store.Query{Kind: penstock.KindJob, Phases: []penstock.Phase{penstock.PhaseQueued}, Limit: 1})
			if err != nil {
				return err
			}
			if len(oldest) == 0 {
				short.Store(true)
				return errEmpty
			}
			o := oldest[0]
			o.Metadata.Phase, o.Metadata.UpdatedAt = penstock.PhaseStarting, time.Now().UTC()
			o.Status = json.RawMessage(`{"attempt":1,"worker":` + strconv.Itoa(client) + `}`)
			if o, err = tx.Update(o); err != nil {
				return err
			}
			return tx.AppendEvent(event(o, "Starting", "claimed by worker "+strconv.Itoa(client)))
		})
	})
	if short.Load() {
		// Every job was claimed before the time was over: the rate is still right.
		return took, nil
	}
	return took, err
}

// fill makes n jobs in large transactions, in the phases that an installation
// has after a while: most are over. It gives how long each transaction took.
func fill(ctx context.Context, s store.Store, n int) (took []time.Duration, err error) {
	for first := 0; first < n; first += batch {
		began := time.Now()
		err := s.Update(ctx, func(tx store.Tx) error {
			for i := first; i < min(first+batch, n); i++ {
				o, err := job("list", i, phaseOf(i))
				if err != nil {
					return err
				}
				if _, err := tx.Create(o); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func phaseOf(n int) penstock.Phase {
	switch n = n / projects % 100; {
	case n < 2:
		return penstock.PhaseQueued
	case n < 4:
		return penstock.PhaseRunning
	case n < 20:
		return penstock.PhaseFailed
	}
	return penstock.PhaseSucceeded
}

// query is one way to look at the list.
type query struct {
	name string
	store.Query
}

func queries() []query {
	live := []penstock.Phase{penstock.PhaseQueued, penstock.PhaseRunning}
	team, rare := map[string]string{"team": "team-7"}, map[string]string{"model": "model-7", "env": "dev"}
	all := []query{
		{"nothing", store.Query{}},
		{"project", store.Query{Project: "project-3"}},
		{"phases", store.Query{Phases: live}},
		{"label", store.Query{Labels: team}},
		{"rare labels", store.Query{Labels: rare}},
		{"project, phases", store.Query{Project: "project-3", Phases: live}},
		{"project, label", store.Query{Project: "project-3", Labels: team}},
		{"project, phases, label", store.Query{Project: "project-3", Phases: []penstock.Phase{penstock.PhaseSucceeded}, Labels: map[string]string{"env": "prod"}}},
		{"phases, label", store.Query{Phases: live, Labels: team}},
	}
	for i := range all {
		all[i].Kind, all[i].Limit = penstock.KindJob, page
	}
	return all
}

// pages reads a list to its end, 30 pages at most, three times over, and gives
// how long each page took.
func pages(ctx context.Context, s store.Store, q store.Query) (took []time.Duration, err error) {
	for range 3 {
		q.After = ""
		for range 30 {
			var got []v1.Object
			began := time.Now()
			if err := s.View(ctx, func(tx store.Tx) (err error) { got, err = tx.List(q); return err }); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
			if len(got) < page {
				break
			}
			q.After = got[len(got)-1].Metadata.UID
		}
	}
	return took, nil
}

var errEmpty = fmt.Errorf("every job is claimed")
