package webui

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// Bounds of what the overview looks back at.
const (
	recentEvents = 400
	recentJobs   = 10
)

// overview is the state of everything that the reader may see.
type overview struct {
	now       time.Time
	project   string // of the token; empty is the whole installation
	fleet     []poolUse
	queue     []v1.Job // in the order in which they were queued
	running   []v1.Job
	ended     []v1.Job // the newest first
	endpoints []v1.Endpoint
	models    []v1.Model
	alerts    []alert
}

// alert is something that somebody should look at.
type alert struct {
	about  penstock.Ref
	at     time.Time
	reason penstock.Reason
}

// poolUse is a pool and what is held of it, as far as the reader may see.
type poolUse struct {
	pool v1.Pool
	held penstock.Resources
}

func (s *site) overview(v visit) (content, error) {
	o := overview{now: v.now, project: v.who.Project}
	err := s.Store.View(v.Context(), func(tx store.Tx) error {
		for _, read := range []func(visit, store.Tx) error{o.readFleet, o.readJobs, o.readEnded, o.readServing} {
			if err := read(v, tx); err != nil {
				return err
			}
		}
		return nil
	})
	return content{"Overview", true, overviewPage(o)}, err
}

func (o *overview) readFleet(v visit, tx store.Tx) (err error) {
	o.fleet, err = poolUses(v, tx)
	for _, p := range o.fleet {
		if p.pool.Metadata.Phase == penstock.PhaseDegraded {
			o.alerts = append(o.alerts, alert{p.pool.Ref(), p.pool.Metadata.UpdatedAt, conditionReason(p.pool.Status.Conditions)})
		}
	}
	return err
}

// poolUses are the pools with what the visible live attempts hold of them.
func poolUses(v visit, tx store.Tx) ([]poolUse, error) {
	pools, err := list[v1.PoolSpec, v1.PoolStatus](v, tx, store.Query{Kind: penstock.KindPool})
	if err != nil {
		return nil, err
	}
	attempts, err := list[v1.AttemptSpec, v1.AttemptStatus](v, tx, store.Query{Kind: penstock.KindAttempt, Phases: livePhases()})
	if err != nil {
		return nil, err
	}
	held := map[string]penstock.Resources{}
	for _, a := range attempts {
		for _, task := range a.Spec.Tasks {
			held[a.Spec.Pool] = held[a.Spec.Pool].Plus(task.Resources)
		}
	}
	uses := make([]poolUse, len(pools))
	for i, p := range pools {
		uses[i] = poolUse{p, held[p.Metadata.Name]}
	}
	return uses, nil
}

// conditionReason words what a condition says as a Reason.
func conditionReason(conditions []v1.Condition) penstock.Reason {
	for _, c := range conditions {
		if !c.Status {
			return penstock.Because(penstock.ReasonCode(cmp.Or(c.Reason, c.Type)), penstock.Ask, "%s", c.Message)
		}
	}
	return penstock.Because(penstock.NotReady, penstock.Ask, "it doesn't work as it should")
}

func (o *overview) readJobs(v visit, tx store.Tx) error {
	jobs, err := list[v1.JobSpec, v1.JobStatus](v, tx, store.Query{Kind: penstock.KindJob, Phases: append(livePhases(), penstock.PhasePending, penstock.PhaseQueued)})
	for _, job := range jobs {
		if phase := job.Metadata.Phase; phase == penstock.PhasePending || phase == penstock.PhaseQueued {
			o.queue = append(o.queue, job)
		} else {
			o.running = append(o.running, job)
		}
	}
	slices.SortStableFunc(o.queue, func(a, b v1.Job) int {
		return cmp.Or(cmp.Compare(b.Spec.Priority, a.Spec.Priority), a.Status.QueuedAt.Compare(b.Status.QueuedAt))
	})
	return err
}

// readEnded finds the jobs that ended last by their events: a list of all that
// ever ended has no bound.
func (o *overview) readEnded(v visit, tx store.Tx) error {
	if err := auth.Allow(v.who, auth.List, penstock.KindJob, v.who.Project); err != nil {
		return err
	}
	events, err := tx.Events(v.who.Project, "", recentEvents)
	if err != nil {
		return err
	}
	seen := map[penstock.UID]bool{}
	for _, e := range slices.Backward(events) {
		if e.Kind != penstock.KindJob || seen[e.UID] || len(o.ended) == recentJobs {
			continue
		}
		seen[e.UID] = true
		object, err := tx.ByUID(e.UID)
		if penstock.CodeOf(err) == penstock.NotFound {
			continue // retired since
		}
		if err != nil {
			return err
		}
		if !object.Metadata.Phase.Final() {
			continue
		}
		job, err := v1.As[v1.JobSpec, v1.JobStatus](object)
		if err != nil {
			return err
		}
		o.ended = append(o.ended, job)
	}
	slices.SortStableFunc(o.ended, func(a, b v1.Job) int { return b.Status.EndedAt.Compare(a.Status.EndedAt) })
	return nil
}

func (o *overview) readServing(v visit, tx store.Tx) (err error) {
	if o.models, err = list[v1.ModelSpec, v1.ModelStatus](v, tx, store.Query{Kind: penstock.KindModel}); err != nil {
		return err
	}
	if o.endpoints, err = list[v1.EndpointSpec, v1.EndpointStatus](v, tx, store.Query{Kind: penstock.KindEndpoint}); err != nil {
		return err
	}
	for _, e := range o.endpoints {
		if phase := e.Metadata.Phase; phase != penstock.PhaseDegraded && phase != penstock.PhaseFailed {
			continue
		}
		for _, r := range e.Status.Reasons {
			o.alerts = append(o.alerts, alert{e.Ref(), e.Metadata.UpdatedAt, r})
		}
	}
	monitors, err := list[v1.MonitorSpec, v1.MonitorStatus](v, tx, store.Query{Kind: penstock.KindMonitor})
	for _, m := range monitors {
		if m.Status.Alert == nil {
			continue
		}
		about := penstock.Ref{Kind: penstock.KindEndpoint, Project: m.Metadata.Project, Name: m.Spec.Endpoint}
		o.alerts = append(o.alerts, alert{about, m.Status.Alert.At, m.Status.Alert.Reason})
	}
	slices.SortStableFunc(o.alerts, func(a, b alert) int { return b.at.Compare(a.at) })
	return err
}

// since is when the job came to where it is.
func since(j v1.Job) time.Time {
	switch phase := j.Metadata.Phase; {
	case phase.Final():
		return j.Status.EndedAt
	case phase == penstock.PhaseQueued:
		return j.Status.QueuedAt
	case !j.Status.StartedAt.IsZero():
		return j.Status.StartedAt
	}
	return j.Metadata.CreatedAt
}

// wants is what a job asks for: 2 × worker (8 h100, 32 cpu).
func wants(j v1.Job) string {
	text := ""
	for i, set := range j.Spec.Tasks {
		if i > 0 {
			text += " + "
		}
		text += fmt.Sprintf("%d × %s", max(set.Replicas, 1), set.Name)
		if len(set.Resources) > 0 {
			text += " (" + resources(set.Resources) + ")"
		}
	}
	return text
}

// ready is how many replicas of an endpoint answer, of how many.
func ready(e v1.Endpoint) string {
	n := 0
	for _, r := range e.Status.Replicas {
		if r.Ready {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, max(e.Spec.Replicas, 1))
}
