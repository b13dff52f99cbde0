package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/place"
	"github.com/penstock/penstock/internal/snapshot"
	"github.com/penstock/penstock/internal/store"
)

// maxEvents is how many events an explanation tells.
const maxEvents = 20

// Explain says why an object is where it is. For a queued job it plans again,
// on the present state, and tries fixes on copies of it.
func (c *Control) Explain(ctx context.Context, ref penstock.Ref) (v1.Explanation, error) {
	x := v1.Explanation{Ref: ref}
	err := c.Store.View(ctx, func(tx store.Tx) error {
		o, err := tx.Get(ref)
		if err != nil {
			return err
		}
		x.Phase, x.Since = o.Metadata.Phase, o.Metadata.UpdatedAt
		events, err := tx.Events(ref.Project, o.Metadata.UID, maxEvents)
		if err != nil {
			return err
		}
		for _, e := range events {
			x.Events = append(x.Events, v1.Event{At: e.At, Reason: e.Reason, Message: e.Message})
		}
		switch ref.Kind {
		case penstock.KindJob:
			return explainJob(tx, o, &x)
		case penstock.KindModelVersion:
			return explainVersion(tx, o, &x)
		case penstock.KindEndpoint:
			e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](o)
			x.Reasons = e.Status.Reasons
			return err
		}
		return nil
	})
	return x, err
}

func explainJob(tx store.Tx, o v1.Object, x *v1.Explanation) error {
	job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
	if err != nil {
		return err
	}
	x.Wants, x.Reasons = wants(job), job.Status.Reasons
	switch job.Metadata.Phase {
	case penstock.PhaseQueued:
		x.Since = job.Status.QueuedAt
		return explainWaiting(tx, job, x)
	case penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping:
		a, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, attemptRef(job))
		if err != nil {
			return err
		}
		x.Since, x.Placed = a.Metadata.CreatedAt, placed(a)
	}
	return nil
}

func explainWaiting(tx store.Tx, job v1.Job, x *v1.Explanation) error {
	state, _, err := takeSnapshot(tx)
	if err != nil {
		return err
	}
	for _, d := range place.Plan(state) {
		if d.Job.UID != job.Metadata.UID {
			continue
		}
		x.Reasons = d.Reasons
		if d.Start != nil {
			x.Placed = "starts now: " + d.Start.Why
			return nil
		}
		if held(d.Reasons) {
			return nil
		}
		x.Holders, x.Fixes = place.Holders(state, d.Job), place.Fixes(state, d.Job.UID)
	}
	return nil
}

// held reports that the job waits for nothing that others hold.
func held(reasons []penstock.Reason) bool {
	for _, r := range reasons {
		if r.Code == penstock.DependencyUnmet || r.Code == penstock.BackingOff {
			return true
		}
	}
	return false
}

func wants(job v1.Job) string {
	var parts []string
	for _, set := range jobPicture(job).Sets {
		parts = append(parts, fmt.Sprintf("%d × %s (%s)", set.Count, set.Name, amounts(set)))
	}
	return strings.Join(parts, " + ")
}

func amounts(set snapshot.Set) string {
	var parts []string
	for _, name := range set.Each.Names() {
		parts = append(parts, name.Short(set.Each[name])+" "+string(name))
	}
	return strings.Join(parts, ", ")
}

func placed(a v1.Attempt) string {
	var parts []string
	for _, t := range a.Spec.Tasks {
		at := fmt.Sprintf("rank %d on %s", t.Rank, t.Node)
		if len(t.Devices) > 0 {
			at += " with " + strings.Join(t.Devices, ", ")
		}
		parts = append(parts, at)
	}
	return fmt.Sprintf("attempt %d: %s (%s)", a.Spec.Number, strings.Join(parts, "; "), a.Spec.Why)
}

// explainVersion tells, alias by alias, what the gates still ask for.
func explainVersion(tx store.Tx, o v1.Object, x *v1.Explanation) error {
	v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
	if err != nil {
		return err
	}
	model, err := store.Load[v1.ModelSpec, v1.ModelStatus](tx, penstock.Ref{Kind: penstock.KindModel, Project: o.Metadata.Project, Name: v.Spec.Model})
	if err != nil {
		return err
	}
	x.Reasons = gateReasons(model, v)
	return nil
}
