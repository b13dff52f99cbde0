package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/checkpoint"
	"github.com/penstock/penstock/internal/store"
)

// Report takes what an attempt's agent says, each Seq once and in order, and
// answers with the last one that is in the store. An attempt that is no longer
// its job's newest, or that has ended, is answered with Fenced.
func (c *Control) Report(ctx context.Context, attempt penstock.UID, reports []v1.Report) (int64, error) {
	if len(reports) == 0 {
		return 0, &penstock.Error{Code: penstock.Invalid, Msg: "no reports were sent", Hint: "send at least one"}
	}
	for _, r := range reports {
		if err := c.checkStored(ctx, r); err != nil {
			return 0, err
		}
	}
	var taken int64
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		t, err := openTelling(tx, attempt, reports[0].Rank)
		if err != nil {
			return err
		}
		for _, r := range reports {
			if r.Rank != t.task.Rank || r.Seq <= t.task.Seq {
				continue
			}
			if r.Seq != t.task.Seq+1 {
				break // a gap: the agent sends again from what we have
			}
			if err := t.take(r); err != nil {
				return fmt.Errorf("take report %d of %s: %w", r.Seq, t.attempt.Ref(), err)
			}
			t.task.Seq = r.Seq
		}
		taken = t.task.Seq
		return t.close()
	})
	return taken, err
}

// checkStored makes sure that the bytes a report speaks of are here, whole,
// before it becomes true.
func (c *Control) checkStored(ctx context.Context, r v1.Report) error {
	var files []v1.File
	if r.Checkpoint != nil {
		files = append(files, r.Checkpoint.Files...)
	}
	if r.Output != nil {
		files = append(files, r.Output.Files...)
	}
	return c.stored(ctx, files)
}

// stored is nil if all the files are in the blob store with their sizes.
func (c *Control) stored(ctx context.Context, files []v1.File) error {
	for _, f := range files {
		size, err := c.Blobs.Size(ctx, f.Digest)
		if err != nil {
			return fmt.Errorf("find %s: %w", f.Path, err)
		}
		if size != f.Size {
			return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%s has %d bytes in the store, not %d", f.Path, size, f.Size)}
		}
	}
	return nil
}

// telling is one agent's reports on their way into the state.
type telling struct {
	tx      store.Tx
	attempt v1.Attempt
	job     v1.Job
	task    *v1.TaskStatus
	jobSeen bool // the job's status changed too
}

func openTelling(tx store.Tx, uid penstock.UID, rank int) (*telling, error) {
	o, err := tx.ByUID(uid)
	if errors.Is(err, &penstock.Error{Code: penstock.NotFound}) {
		return nil, fenced("the attempt is gone")
	}
	if err != nil {
		return nil, err
	}
	attempt, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
	if err != nil {
		return nil, err
	}
	job, err := store.LoadUID[v1.JobSpec, v1.JobStatus](tx, attempt.Spec.JobUID)
	if err != nil {
		return nil, err
	}
	switch {
	case attempt.Metadata.Phase.Final():
		return nil, fenced(fmt.Sprintf("the attempt has ended: %s", attempt.Metadata.Phase))
	case job.Status.Attempt != attempt.Spec.Number:
		return nil, fenced(fmt.Sprintf("attempt %d took over from attempt %d", job.Status.Attempt, attempt.Spec.Number))
	case rank < 0 || rank >= len(attempt.Spec.Tasks):
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("there is no rank %d in a gang of %d", rank, len(attempt.Spec.Tasks))}
	}
	return &telling{tx: tx, attempt: attempt, job: job, task: &attempt.Status.Tasks[rank]}, nil
}

func fenced(why string) error { return &penstock.Error{Code: penstock.Fenced, Msg: why} }

func (t *telling) take(r v1.Report) error {
	switch {
	case r.Started != nil:
		t.task.State, t.task.PID, t.task.Limits, t.task.Started = "running", r.Started.PID, r.Started.Limits, r.At
		t.task.Node = r.Started.Node
		return t.begin()
	case r.Ready != nil:
		t.task.State, t.task.Address = "ready", r.Ready.Address
		return event(t.tx, t.job.Kind, t.job.Metadata, "Ready", fmt.Sprintf("rank %d answers on %s", t.task.Rank, r.Ready.Address))
	case len(r.Metrics) > 0:
		t.job.Status.Metrics, t.jobSeen = r.Metrics[len(r.Metrics)-1].Values, true
		return t.tx.AppendMetrics(t.job.Metadata.UID, t.attempt.Spec.Number, r.Metrics)
	case r.Checkpoint != nil:
		return t.commitStep(*r.Checkpoint)
	case r.Output != nil:
		t.attempt.Status.Outputs = append(t.attempt.Status.Outputs, *r.Output)
	case r.Exited != nil:
		t.exited(*r.Exited, r)
	}
	return nil
}

// begin marks the gang running once every task is.
func (t *telling) begin() error {
	for _, task := range t.attempt.Status.Tasks {
		if task.State == "" {
			return nil
		}
	}
	if t.attempt.Metadata.Phase != penstock.PhaseStarting {
		return nil
	}
	t.attempt.Status.StartedAt = now()
	if err := move(t.tx, &t.attempt, penstock.PhaseRunning, "Running", fmt.Sprintf("all %d tasks run", len(t.attempt.Status.Tasks))); err != nil {
		return err
	}
	if t.job.Metadata.Phase != penstock.PhaseStarting {
		return nil
	}
	if t.job.Status.StartedAt.IsZero() {
		t.job.Status.StartedAt = now()
	}
	return move(t.tx, &t.job, penstock.PhaseRunning, "Running", fmt.Sprintf("attempt %d: all %d tasks run", t.attempt.Spec.Number, len(t.attempt.Status.Tasks)))
}

func (t *telling) commitStep(s v1.Saved) error {
	c := v1.Checkpoint{
		Job: t.job.Metadata.UID, Step: s.Step, Attempt: t.attempt.Spec.Number,
		Digest: checkpoint.Digest(s.Files), Files: s.Files, Committed: now(),
	}
	for _, f := range s.Files {
		c.Bytes += f.Size
	}
	if err := t.tx.CommitCheckpoint(c); err != nil {
		return err
	}
	have, err := t.tx.Checkpoints(t.job.Metadata.UID)
	if err != nil {
		return err
	}
	keep := 2
	if t.job.Spec.Checkpoints != nil && t.job.Spec.Checkpoints.Keep > 0 {
		keep = t.job.Spec.Checkpoints.Keep
	}
	for _, old := range checkpoint.Expired(have, keep) {
		if err := t.tx.DropCheckpoint(old.Job, old.Step); err != nil {
			return err
		}
	}
	t.job.Status.Step, t.jobSeen = s.Step, true
	return event(t.tx, t.job.Kind, t.job.Metadata, "Checkpoint", fmt.Sprintf("step %d is committed: %d files, %d bytes", s.Step, len(s.Files), c.Bytes))
}

func (t *telling) exited(e v1.Exited, r v1.Report) {
	t.task.State, t.task.ExitCode, t.task.Signal, t.task.Message = "exited", e.Code, e.Signal, e.Message
	t.task.OverMemory = e.OverMemory
	t.task.Ended, t.task.CPUTime, t.task.MaxBytes, t.task.Address = r.At, e.CPUTime, e.MaxBytes, ""
	if e.StartFailed {
		t.task.State = "unstarted"
	}
}

func (t *telling) close() error {
	if t.jobSeen {
		if err := save(t.tx, &t.job); err != nil {
			return err
		}
	}
	return save(t.tx, &t.attempt)
}
