package control

import (
	"context"
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Stop asks a job to end. Stopping one that has ended changes nothing.
func (c *Control) Stop(ctx context.Context, by string, ref penstock.Ref) (v1.Job, error) {
	var out v1.Job
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		job, err := store.Load[v1.JobSpec, v1.JobStatus](tx, ref)
		if err != nil {
			return err
		}
		if err := stopJob(tx, job, penstock.Because(penstock.StoppedByUser, penstock.Change, "stopped by %s", by)); err != nil {
			return err
		}
		out, err = store.Load[v1.JobSpec, v1.JobStatus](tx, ref)
		return err
	})
	return out, err
}

// stopJob moves a job, and its live attempt, towards Stopped.
func stopJob(tx store.Tx, job v1.Job, why penstock.Reason) error {
	switch job.Metadata.Phase {
	case penstock.PhasePending, penstock.PhaseQueued:
		return endJob(tx, job, penstock.PhaseStopped, why)
	case penstock.PhaseStarting, penstock.PhaseRunning:
	default:
		return nil
	}
	job.Status.StopAsked = &why
	if err := move(tx, &job, penstock.PhaseStopping, string(why.Code), why.Message); err != nil {
		return err
	}
	return stopAttempt(tx, job, why)
}

func stopAttempt(tx store.Tx, job v1.Job, why penstock.Reason) error {
	a, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, attemptRef(job))
	if err != nil {
		return err
	}
	if a.Metadata.Phase.Final() || a.Metadata.Phase == penstock.PhaseStopping {
		return nil
	}
	a.Status.Stop, a.Status.StopSent = &why, now()
	return move(tx, &a, penstock.PhaseStopping, string(why.Code), why.Message)
}

// Reclaim takes a running job's devices back, as a spot market does: the gang
// gets its grace, the job queues again and goes on from its newest checkpoint.
func (c *Control) Reclaim(ctx context.Context, by string, ref penstock.Ref) (v1.Job, error) {
	var out v1.Job
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		job, err := store.Load[v1.JobSpec, v1.JobStatus](tx, ref)
		if err != nil {
			return err
		}
		if job.Metadata.Phase != penstock.PhaseStarting && job.Metadata.Phase != penstock.PhaseRunning {
			return &penstock.Error{Code: penstock.Conflict, Where: ref.String(), Msg: fmt.Sprintf("the job is %s and holds nothing", job.Metadata.Phase)}
		}
		out = job
		return stopAttempt(tx, job, penstock.Because(penstock.Reclaimed, penstock.Wait, "reclaimed by %s", by))
	})
	return out, err
}
