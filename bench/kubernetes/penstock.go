package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/blob/fs"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/kubernetes"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

const (
	project = "jobs"
	// h100 is what the executor calls the GPUs of the fake nodes.
	h100 penstock.Resource = "h100"
)

// installation is Penstock in this process.
type installation struct {
	store    store.Store
	blobs    *fs.Store
	executor *kubernetes.Executor
	control  *control.Control
}

// byPenstock runs the jobs through Penstock's whole control plane. It reports how
// many succeeded.
func byPenstock(ctx context.Context, m measurement) (completed int, err error) {
	folder, err := os.MkdirTemp("", "penstock-kubernetes-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	in, err := open(ctx, m, folder)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer stop(nil)
	working.Go(func() { stop(in.control.Run(ctx)) })
	agents, err := playAgents(unmeasured(ctx), m.client, in.control)
	if err != nil {
		return 0, err
	}
	working.Go(func() { stop(agents.follow(unmeasured(ctx))) })
	if err := in.begin(ctx, m); err != nil {
		return 0, err
	}
	if err := in.submit(ctx, m.jobs); err != nil {
		return 0, err
	}
	return in.wait(ctx, len(m.jobs))
}

// open wires Penstock as its server does.
func open(ctx context.Context, m measurement, folder string) (in *installation, err error) {
	in = &installation{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if in.store, err = sqlite.Open(ctx, filepath.Join(folder, "penstock.db")); err != nil {
		return in, err
	}
	if in.blobs, err = fs.Open(filepath.Join(folder, "blobs")); err != nil {
		return in, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	var kick func()
	in.executor, err = kubernetes.New(kubernetes.Options{
		Kubeconfig: m.cluster.kubeconfig, Prefix: prefix, Nodes: "type=kwok", Log: log, QPS: 1000, // as kube-scheduler's is
		Tolerations: []kubernetes.Toleration{{Key: "kwok.x-k8s.io/node"}},
		AgentImage:  "penstock.local/agent:1", Image: "penstock.local/fake:1",
		Notify: func() { kick() },
	})
	if err != nil {
		return in, err
	}
	in.control = control.New(control.Options{
		Store: in.store, Blobs: in.blobs, Sealer: noSecrets{}, Log: log, Sole: true, Replica: "bench",
		Executors: map[string]run.Executor{"kubernetes": in.executor},
		// Nobody listens there: the agents are played in this process.
		Server: v1.Contact{URL: "http://" + m.cluster.host + ":1"},
	})
	kick = in.control.Kick
	return in, nil
}

func (in *installation) close() error {
	var errs []error
	if in.executor != nil {
		in.executor.Close()
	}
	if in.blobs != nil {
		errs = append(errs, in.blobs.Close())
	}
	if in.store != nil {
		errs = append(errs, in.store.Close())
	}
	return errors.Join(errs...)
}

// noSecrets is a control.Sealer for jobs that have none.
type noSecrets struct{}

func (noSecrets) Seal(map[string]string) ([]byte, error) { return nil, errors.New("no secrets here") }
func (noSecrets) Open([]byte) (map[string]string, error) { return nil, errors.New("no secrets here") }

// begin declares the pool and the project, and waits until the pool has seen its
// nodes.
func (in *installation) begin(ctx context.Context, m measurement) error {
	if err := in.apply(ctx, penstock.KindPool, "", "fake", v1.PoolSpec{Executor: "kubernetes"}); err != nil {
		return err
	}
	if err := in.apply(ctx, penstock.KindProject, "", project, v1.ProjectSpec{Owner: "bench", CostCentre: "bench"}); err != nil {
		return err
	}
	for {
		changed := in.store.Changed()
		var pool v1.Pool
		err := in.store.View(ctx, func(tx store.Tx) (err error) {
			pool, err = store.Load[v1.PoolSpec, v1.PoolStatus](tx, penstock.Ref{Kind: penstock.KindPool, Name: "fake"})
			return err
		})
		if err != nil {
			return fmt.Errorf("load the pool: %w", err)
		}
		if len(pool.Status.Nodes) == m.Nodes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pool has seen %d of %d nodes: %w", len(pool.Status.Nodes), m.Nodes, context.Cause(ctx))
		case <-changed:
		}
	}
}

func (in *installation) apply(ctx context.Context, kind penstock.Kind, project, name string, spec any) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind, name, err)
	}
	o := v1.Object{APIVersion: v1.Version, Kind: kind, Metadata: v1.Metadata{Project: project, Name: name}, Spec: raw}
	if _, err := in.control.Apply(ctx, "bench", []v1.Object{o}, control.Commit); err != nil {
		return fmt.Errorf("apply %s %s: %w", kind, name, err)
	}
	return nil
}

// runFor is the parameter that tells a played agent how long its task runs.
const runFor = "run_for"

func (in *installation) submit(ctx context.Context, jobs []job) error {
	return each(jobs, func(j job) error {
		return in.apply(ctx, penstock.KindJob, project, j.Name, v1.JobSpec{
			Class: penstock.ClassTraining, Parameters: map[string]string{runFor: j.Run.String()},
			Tasks: []v1.TaskSet{{
				Name: "task", Replicas: j.Tasks, Command: []string{"work"},
				Resources: penstock.Resources{penstock.CPU: 1000, penstock.Memory: 1 << 30, h100: penstock.Amount(j.GPUs) * 1000},
			}},
		})
	})
}

// wait reads the log of changes until all jobs have ended, and tells how many
// succeeded.
func (in *installation) wait(ctx context.Context, jobs int) (succeeded int, err error) {
	var seen int64
	ended := map[penstock.UID]penstock.Phase{}
	for len(ended) < jobs {
		changed := in.store.Changed()
		var news []store.Change
		err := in.store.View(ctx, func(tx store.Tx) (err error) {
			news, err = tx.Changes(seen, 500)
			return err
		})
		if err != nil {
			return succeeded, fmt.Errorf("read the log of changes: %w", err)
		}
		for _, c := range news {
			seen = c.Revision
			o := c.Object
			if o.Kind != penstock.KindJob || !o.Metadata.Phase.Final() || ended[o.Metadata.UID] != "" {
				continue
			}
			ended[o.Metadata.UID] = o.Metadata.Phase
			if o.Metadata.Phase == penstock.PhaseSucceeded {
				succeeded++
			}
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return succeeded, fmt.Errorf("penstock: %d of %d jobs succeeded: %w", succeeded, jobs, context.Cause(ctx))
		case <-changed:
		case <-time.After(time.Second):
		}
	}
	return succeeded, nil
}
