package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
	"github.com/penstock/penstock/internal/store"
)

// Check reads an installation's state and gives what is wrong with it: nothing,
// at any moment, whatever crashed. It holds that
//   - no node and no device gives more than it has,
//   - a job has one live attempt at most, and that is its newest,
//   - a gang is whole: an attempt holds every task of its job,
//   - a job that holds nothing is queued or has ended,
//   - no use was written down twice, and none ends before it begins.
func Check(ctx context.Context, st store.Store) ([]string, error) {
	var c checker
	err := st.View(ctx, c.read)
	if err != nil {
		return nil, err
	}
	c.capacity()
	c.attempts()
	c.usage()
	return c.faults, nil
}

type checker struct {
	pools  []v1.Pool
	jobs   map[penstock.UID]v1.Job
	live   []v1.Attempt
	uses   []store.Usage
	faults []string
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *checker) read(tx store.Tx) error {
	c.jobs = map[penstock.UID]v1.Job{}
	objects, err := tx.List(store.Query{})
	if err != nil {
		return err
	}
	for _, o := range objects {
		switch o.Kind {
		case penstock.KindPool:
			p, err := v1.As[v1.PoolSpec, v1.PoolStatus](o)
			if err != nil {
				return err
			}
			c.pools = append(c.pools, p)
		case penstock.KindJob:
			job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
			if err != nil {
				return err
			}
			c.jobs[o.Metadata.UID] = job
		case penstock.KindAttempt:
			a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
			if err != nil {
				return err
			}
			if !a.Metadata.Phase.Final() {
				c.live = append(c.live, a)
			}
		}
	}
	c.uses, err = tx.Usage(time.Time{}, time.Now().Add(time.Hour))
	return err
}

func (c *checker) capacity() {
	state := &snapshot.State{}
	for _, p := range c.pools {
		state.Pools = append(state.Pools, snapshot.Pool{Name: p.Metadata.Name, Nodes: p.Status.Nodes})
	}
	for _, a := range c.live {
		state.Running = append(state.Running, snapshot.Running{Pool: a.Spec.Pool, Tasks: a.Spec.Tasks, Job: snapshot.Job{Ref: a.Ref()}})
	}
	view := state.View()
	for _, p := range state.Pools {
		for _, n := range p.Nodes {
			at := snapshot.Slot{Pool: p.Name, Node: n.Name}
			for name, left := range view.Free(at) {
				if left < 0 {
					c.fault("node %s gives %d more %s than it has", n.Name, -left, name)
				}
			}
			for _, d := range n.Devices {
				if left := view.DeviceFree(at, d.ID); left < 0 {
					c.fault("device %s of node %s is booked twice", d.ID, n.Name)
				}
			}
		}
	}
}

func (c *checker) attempts() {
	holds := map[penstock.UID]int{}
	for _, a := range c.live {
		job, ok := c.jobs[a.Spec.JobUID]
		if !ok {
			c.fault("%s lives without its job", a.Ref())
			continue
		}
		holds[job.Metadata.UID]++
		if job.Status.Attempt != a.Spec.Number {
			c.fault("%s lives although %s is at attempt %d", a.Ref(), job.Ref(), job.Status.Attempt)
		}
		tasks := 0
		for _, set := range job.Spec.Tasks {
			tasks += max(1, set.Replicas)
		}
		if len(a.Spec.Tasks) != tasks {
			c.fault("%s holds %d of the gang's %d tasks", a.Ref(), len(a.Spec.Tasks), tasks)
		}
	}
	for uid, job := range c.jobs {
		running := job.Metadata.Phase == penstock.PhaseStarting || job.Metadata.Phase == penstock.PhaseRunning || job.Metadata.Phase == penstock.PhaseStopping
		if running != (holds[uid] == 1) {
			c.fault("%s is %s with %d live attempts", job.Ref(), job.Metadata.Phase, holds[uid])
		}
	}
}

func (c *checker) usage() {
	seen := map[string]bool{}
	for _, u := range c.uses {
		if seen[u.ID] {
			c.fault("use %s is in the ledger twice", u.ID)
		}
		seen[u.ID] = true
		if u.To.Before(u.From) {
			c.fault("use %s ends before it begins", u.ID)
		}
	}
}
