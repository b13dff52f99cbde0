package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/admit"
	"github.com/penstock/penstock/internal/checkpoint"
	"github.com/penstock/penstock/internal/classify"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/place"
	"github.com/penstock/penstock/internal/snapshot"
	"github.com/penstock/penstock/internal/store"
)

// schedule plans on one snapshot and commits the whole plan in the transaction
// that took the snapshot: what was free when it was decided is free when it is
// taken.
func (c *Control) schedule(ctx context.Context) error {
	return c.Store.Update(ctx, func(tx store.Tx) error {
		if err := queuePending(tx); err != nil {
			return err
		}
		state, jobs, err := takeSnapshot(tx)
		if err != nil {
			return err
		}
		for _, d := range place.Plan(state) {
			job := jobs[d.Job.UID]
			if d.Start == nil {
				err = wait(tx, job, d.Reasons)
			} else {
				err = c.placeJob(ctx, tx, job, *d.Start)
			}
			if err != nil {
				return fmt.Errorf("schedule %s: %w", job.Ref(), err)
			}
		}
		return nil
	})
}

// queuePending classifies new jobs and lets them queue.
func queuePending(tx store.Tx) error {
	pending, err := store.LoadAll[v1.JobSpec, v1.JobStatus](tx, store.Query{Kind: penstock.KindJob, Phases: []penstock.Phase{penstock.PhasePending}})
	if err != nil {
		return err
	}
	for _, job := range pending {
		job.Status.Class, job.Status.Evidence = classify.Classify(job.Spec)
		job.Status.QueuedAt = now()
		if err := move(tx, &job, penstock.PhaseQueued, "Queued", job.Status.Evidence); err != nil {
			return err
		}
	}
	return nil
}

// takeSnapshot builds the planner's picture: what waits, what runs, what there is.
func takeSnapshot(tx store.Tx) (*snapshot.State, map[penstock.UID]v1.Job, error) {
	s := &snapshot.State{Now: now(), Projects: map[string]snapshot.Project{}}
	queued, err := store.LoadAll[v1.JobSpec, v1.JobStatus](tx, store.Query{Kind: penstock.KindJob, Phases: []penstock.Phase{penstock.PhaseQueued}})
	if err != nil || len(queued) == 0 {
		return s, nil, err
	}
	jobs := make(map[penstock.UID]v1.Job, len(queued))
	for _, job := range queued {
		jobs[job.Metadata.UID] = job
		held, err := heldBack(tx, job)
		if err != nil {
			return nil, nil, err
		}
		picture := jobPicture(job)
		picture.Held = held
		s.Queue = append(s.Queue, picture)
	}
	if err := addRunning(tx, s); err != nil {
		return nil, nil, err
	}
	if err := addPools(tx, s); err != nil {
		return nil, nil, err
	}
	return s, jobs, addProjects(tx, s)
}

func jobPicture(job v1.Job) snapshot.Job {
	p := snapshot.Job{
		UID: job.Metadata.UID, Ref: job.Ref(), Priority: job.Spec.Priority, QueuedAt: job.Status.QueuedAt, Pool: job.Spec.Pool,
		Endless: classify.NeedsOf(job.Status.Class).RestartsForEver,
	}
	for _, t := range job.Spec.Tasks {
		p.Sets = append(p.Sets, snapshot.Set{Name: t.Name, Count: max(1, t.Replicas), Each: t.Resources})
	}
	return p
}

// heldBack are the reasons that lie in the job itself.
func heldBack(tx store.Tx, job v1.Job) ([]penstock.Reason, error) {
	if t := job.Status.NotBefore; now().Before(t) {
		return []penstock.Reason{penstock.Because(penstock.BackingOff, penstock.Wait, "starts again at %s at the earliest, after %s",
			t.Format(time.RFC3339), penstock.Join(job.Status.Reasons))}, nil
	}
	for _, name := range job.Spec.After {
		other, err := tx.Get(penstock.Ref{Kind: penstock.KindJob, Project: job.Metadata.Project, Name: name})
		switch {
		case penstock.CodeOf(err) == penstock.NotFound:
			return []penstock.Reason{penstock.Because(penstock.DependencyUnmet, penstock.Change, "job %s, which must succeed first, doesn't exist", name)}, nil
		case err != nil:
			return nil, err
		case other.Metadata.Phase != penstock.PhaseSucceeded:
			class := penstock.Wait
			if other.Metadata.Phase.Final() {
				class = penstock.Change
			}
			return []penstock.Reason{penstock.Because(penstock.DependencyUnmet, class, "job %s, which must succeed first, is %s", name, other.Metadata.Phase)}, nil
		}
	}
	if _, err := pinInputs(tx, job); err != nil {
		if code := penstock.CodeOf(err); code == penstock.NotFound || code == penstock.Pending {
			return []penstock.Reason{penstock.Because(penstock.DependencyUnmet, penstock.Wait, "%s", err)}, nil
		}
		return nil, err
	}
	return nil, nil
}

func addRunning(tx store.Tx, s *snapshot.State) error {
	live, err := listLive(tx)
	if err != nil {
		return err
	}
	for _, a := range live {
		job, err := store.LoadUID[v1.JobSpec, v1.JobStatus](tx, a.Spec.JobUID)
		if err != nil {
			return err
		}
		picture := jobPicture(job)
		if d := time.Duration(job.Spec.Deadline); d > 0 && !a.Status.StartedAt.IsZero() {
			picture.Until = a.Status.StartedAt.Add(d)
		}
		s.Running = append(s.Running, snapshot.Running{Job: picture, Pool: a.Spec.Pool, Tasks: a.Spec.Tasks, Since: a.Metadata.CreatedAt})
	}
	return nil
}

func addPools(tx store.Tx, s *snapshot.State) error {
	pools, err := store.LoadAll[v1.PoolSpec, v1.PoolStatus](tx, store.Query{Kind: penstock.KindPool, Phases: []penstock.Phase{penstock.PhaseReady}})
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.Metadata.DeletedAt.IsZero() {
			nodes := slices.DeleteFunc(slices.Clone(p.Status.Nodes), func(n v1.Node) bool { return n.Unavailable != "" })
			s.Pools = append(s.Pools, snapshot.Pool{Name: p.Metadata.Name, Nodes: nodes})
		}
	}
	slices.SortFunc(s.Pools, func(a, b snapshot.Pool) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func addProjects(tx store.Tx, s *snapshot.State) error {
	projects, err := store.LoadAll[v1.ProjectSpec, v1.ProjectStatus](tx, store.Query{Kind: penstock.KindProject})
	if err != nil {
		return err
	}
	for _, p := range projects {
		var spent penstock.Money
		if b := p.Spec.Budget; b != nil && b.AtLimit == "stop" {
			if spent, err = spentMonth(tx, p.Metadata.Name, s.Now); err != nil {
				return err
			}
		}
		s.Projects[p.Metadata.Name] = snapshot.Project{
			Quota: p.Spec.Quota, Closed: admit.Closed(p.Spec, p.Metadata.Name, spent, s.Now),
		}
	}
	return nil
}

func spentMonth(tx store.Tx, project string, at time.Time) (penstock.Money, error) {
	window := meter.MonthWindow(at)
	window.To = at
	report, err := costReport(tx, window)
	if err != nil {
		return 0, err
	}
	return report.Spent(project), nil
}

// wait writes down why a job waits, when that is news.
func wait(tx store.Tx, job v1.Job, reasons []penstock.Reason) error {
	if sameReasons(job.Status.Reasons, reasons) {
		return nil
	}
	news := len(job.Status.Reasons) == 0 || job.Status.Reasons[0].Code != reasons[0].Code
	job.Status.Reasons = reasons
	if err := save(tx, &job); err != nil || !news {
		return err
	}
	said := make([]string, len(reasons))
	for i, r := range reasons {
		said[i] = r.Message
	}
	return event(tx, job.Kind, job.Metadata, string(reasons[0].Code), strings.Join(said, "; "))
}

// sameReasons compares codes and figures; the words may count seconds.
func sameReasons(a, b []penstock.Reason) bool {
	return slices.EqualFunc(a, b, func(x, y penstock.Reason) bool {
		return x.Code == y.Code && x.Class == y.Class && sameJSON(x.Numbers, y.Numbers)
	})
}

// placeJob makes the next attempt, with its devices, inputs and checkpoint fixed.
func (c *Control) placeJob(ctx context.Context, tx store.Tx, job v1.Job, start place.Start) error {
	inputs, err := pinInputs(tx, job)
	if err != nil {
		return err
	}
	step, err := c.restartFrom(ctx, tx, job)
	if err != nil {
		return err
	}
	job.Status.Attempt++
	attempt := v1.Attempt{
		Kind: penstock.KindAttempt,
		Metadata: v1.Metadata{
			Project: job.Metadata.Project, Name: job.Metadata.Name + "-" + strconv.Itoa(job.Status.Attempt),
			Owner: job.Metadata.UID, Labels: job.Metadata.Labels, CreatedBy: job.Metadata.CreatedBy,
		},
		Spec: v1.AttemptSpec{
			Job: job.Metadata.Name, JobUID: job.Metadata.UID, Number: job.Status.Attempt,
			Pool: start.Pool, Tasks: start.Tasks, Step: step, Why: start.Why,
		},
		Status: v1.AttemptStatus{Tasks: make([]v1.TaskStatus, len(start.Tasks))},
	}
	for i := range attempt.Status.Tasks {
		attempt.Status.Tasks[i].Rank = i
	}
	if err := create(tx, &attempt, penstock.PhaseStarting); err != nil {
		return err
	}
	job.Status.Inputs, job.Status.Reasons = inputs, nil
	return move(tx, &job, penstock.PhaseStarting, "Placed", fmt.Sprintf("attempt %d: %s", job.Status.Attempt, start.Why))
}

// restartFrom is the newest committed step whose bytes are all there, or -1. A
// newer one that isn't whole is dropped, and said so: work is lost with it.
func (c *Control) restartFrom(ctx context.Context, tx store.Tx, job v1.Job) (int64, error) {
	have, err := tx.Checkpoints(job.Metadata.UID)
	if err != nil {
		return -1, err
	}
	var unsure error
	newest, passed := checkpoint.Newest(have, func(k v1.Checkpoint) error {
		err := c.stored(ctx, k.Files)
		if code := penstock.CodeOf(err); err != nil && code != penstock.NotFound && code != penstock.Invalid {
			unsure = err // the store can't be asked: that is no reason to give a step up
		}
		return err
	})
	if unsure != nil {
		return -1, unsure
	}
	step := int64(-1)
	if newest.Digest != "" {
		step = newest.Step
	}
	for _, k := range have {
		if k.Step > step {
			if err := tx.DropCheckpoint(k.Job, k.Step); err != nil {
				return step, err
			}
		}
	}
	if len(passed) > 0 {
		err = event(tx, job.Kind, job.Metadata, "CheckpointLost", fmt.Sprintf("restarts from step %d: %s", step, penstock.Public(errors.Join(passed...))))
	}
	return step, err
}
