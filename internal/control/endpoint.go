package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/serve/runtime"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/watch"
)

// deriveEndpoints keeps one serving job for each replica of each endpoint, for
// the version that its model reference means now.
func (c *Control) deriveEndpoints(ctx context.Context) error {
	return c.each(ctx, penstock.KindEndpoint, deriveEndpoint)
}

func deriveEndpoint(tx store.Tx, ref penstock.Ref) error {
	e, err := store.Load[v1.EndpointSpec, v1.EndpointStatus](tx, ref)
	if err != nil || !e.Metadata.DeletedAt.IsZero() {
		return err
	}
	before := e
	version, err := resolveModel(tx, e.Metadata.Project, e.Spec.Model)
	switch code := penstock.CodeOf(err); {
	case code == penstock.NotFound, code == penstock.Pending:
		// What serves already goes on serving; a revoked version is stopped below.
		e.Status.Reasons = []penstock.Reason{penstock.Because(penstock.DependencyUnmet, penstock.Wait, "%s", err)}
	case err != nil:
		return err
	default:
		e.Status.Reasons = nil
		if err := ensureReplicas(tx, &e, version); err != nil {
			return err
		}
	}
	jobs, err := serveJobs(tx, e)
	if err != nil {
		return err
	}
	if e.Status.Replicas, err = replicasOf(tx, jobs); err != nil {
		return err
	}
	if err := retireReplicas(tx, e, jobs); err != nil {
		return err
	}
	if err := judgeEndpoint(tx, &e); err != nil {
		return err
	}
	return settleEndpoint(tx, before, e)
}

// judged is how many of the newest requests are held against an objective.
const judged = 200

// judgeEndpoint says whether the endpoint keeps its objective. The condition is
// written when the answer turns, not with each request.
func judgeEndpoint(tx store.Tx, e *v1.Endpoint) error {
	if e.Spec.Objective.TTFT <= 0 {
		return nil
	}
	requests, err := tx.Requests(store.RequestQuery{Endpoint: e.Metadata.UID, Limit: judged})
	if err != nil {
		return err
	}
	var ttft []time.Duration
	for _, r := range requests {
		if r.Outcome == "ok" && r.TTFT > 0 {
			ttft = append(ttft, r.TTFT)
		}
	}
	status, reason, said := so, "ObjectiveKept", "time to first token is within the objective"
	if h := watch.Objective(e.Spec.Objective, ttft); len(h.Missed) > 0 {
		status, reason, said = notSo, string(h.Missed[0].Code), h.Missed[0].Message
	}
	for _, c := range e.Status.Conditions {
		if c.Type == "Objective" && c.Status == (status == so) {
			return nil
		}
	}
	e.Status.Conditions = condition(slices.Clone(e.Status.Conditions), "Objective", status, reason, said)
	return event(tx, e.Kind, e.Metadata, reason, said)
}

// ensureReplicas makes the serving jobs of the wanted version that don't exist.
func ensureReplicas(tx store.Tx, e *v1.Endpoint, version v1.ModelVersion) error {
	e.Status.Version = version.Spec.Digest
	spec, err := runtime.Job(*e, version)
	if err != nil {
		return err
	}
	labels := withLabel(withLabel(e.Metadata.Labels, "endpoint", e.Metadata.Name), "model", version.Spec.Model)
	for i := range max(1, e.Spec.Replicas) {
		job := v1.Job{
			Kind: penstock.KindJob,
			Metadata: v1.Metadata{
				Project: e.Metadata.Project, Name: serveName(*e, i), Owner: e.Metadata.UID, Labels: labels, CreatedBy: e.Metadata.CreatedBy,
			},
			Spec: spec,
		}
		if _, err := tx.Get(job.Ref()); penstock.CodeOf(err) != penstock.NotFound {
			if err != nil {
				return err
			}
			continue
		}
		if err := create(tx, &job, penstock.PhasePending); err != nil {
			return err
		}
		e.Status.Job = job.Metadata.Name
	}
	return nil
}

// serveName names a replica's job by what it serves, so that a new version or a
// changed endpoint gets new jobs beside the old ones.
func serveName(e v1.Endpoint, i int) string {
	return fmt.Sprintf("%s-%.8s-g%d-%d", e.Metadata.Name, e.Status.Version.Hex(), e.Metadata.Generation, i)
}

func serveJobs(tx store.Tx, e v1.Endpoint) ([]v1.Job, error) {
	return store.LoadAll[v1.JobSpec, v1.JobStatus](tx, store.Query{
		Kind: penstock.KindJob, Owner: e.Metadata.UID,
		Phases: []penstock.Phase{penstock.PhasePending, penstock.PhaseQueued, penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping},
	})
}

// replicasOf reads from the jobs' newest attempts who answers where.
func replicasOf(tx store.Tx, jobs []v1.Job) ([]v1.Replica, error) {
	replicas := []v1.Replica{}
	for i, job := range jobs {
		r := v1.Replica{Rank: i}
		for _, in := range job.Status.Inputs {
			if in.Kind == penstock.KindModelVersion {
				r.Version = in.Digest
			}
		}
		if job.Metadata.Phase == penstock.PhaseRunning {
			a, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, attemptRef(job))
			if err != nil {
				return nil, err
			}
			for _, t := range a.Status.Tasks {
				if t.State == "ready" && a.Metadata.Phase == penstock.PhaseRunning {
					r.Ready, r.Address = true, t.Address
				}
			}
		}
		replicas = append(replicas, r)
	}
	return replicas, nil
}

func attemptRef(job v1.Job) penstock.Ref {
	return penstock.Ref{Kind: penstock.KindAttempt, Project: job.Metadata.Project, Name: fmt.Sprintf("%s-%d", job.Metadata.Name, job.Status.Attempt)}
}

// retireReplicas stops the jobs of older versions once all wanted ones answer,
// and at once those whose version was refused.
func retireReplicas(tx store.Tx, e v1.Endpoint, jobs []v1.Job) error {
	wanted := map[string]bool{}
	for i := range max(1, e.Spec.Replicas) {
		wanted[serveName(e, i)] = true
	}
	ready := 0
	for i, job := range jobs {
		if wanted[job.Metadata.Name] && e.Status.Replicas[i].Ready {
			ready++
		}
	}
	for _, job := range jobs {
		refused, err := servesRefused(tx, job)
		if err != nil {
			return err
		}
		if old := !wanted[job.Metadata.Name] && ready >= len(wanted); !old && !refused {
			continue
		}
		why := penstock.Because(penstock.StoppedByUser, penstock.Wait, "endpoint %s serves another version now", e.Metadata.Name)
		if refused {
			why = penstock.Because(penstock.StoppedByUser, penstock.Ask, "the version was refused")
		}
		if err := stopJob(tx, job, why); err != nil {
			return err
		}
	}
	return nil
}

func servesRefused(tx store.Tx, job v1.Job) (bool, error) {
	for _, in := range job.Status.Inputs {
		if in.Kind != penstock.KindModelVersion {
			continue
		}
		o, err := tx.ByUID(in.UID)
		if err != nil {
			return false, err
		}
		return o.Metadata.Phase == penstock.PhaseRefused, nil
	}
	return false, nil
}

// settleEndpoint gives the endpoint the phase that its replicas add up to.
func settleEndpoint(tx store.Tx, before, e v1.Endpoint) error {
	ready := 0
	for _, r := range e.Status.Replicas {
		if r.Ready {
			ready++
		}
	}
	want, to := max(1, e.Spec.Replicas), penstock.PhaseStarting
	switch {
	case len(e.Status.Replicas) == 0 && e.Metadata.Phase == penstock.PhasePending:
		to = penstock.PhasePending
	case ready >= want:
		to = penstock.PhaseReady
	case ready > 0, e.Metadata.Phase == penstock.PhaseReady, e.Metadata.Phase == penstock.PhaseDegraded:
		to = penstock.PhaseDegraded
	}
	if to == e.Metadata.Phase {
		if sameJSON(before.Status, e.Status) {
			return nil
		}
		return save(tx, &e)
	}
	if e.Metadata.Phase == penstock.PhasePending && to != penstock.PhaseStarting {
		if err := move(tx, &e, penstock.PhaseStarting, "Starting", "version "+e.Status.Version.Short()); err != nil {
			return err
		}
	}
	return move(tx, &e, to, string(to), fmt.Sprintf("%d of %d replicas are ready", ready, want))
}
