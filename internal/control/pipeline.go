package control

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// triggerPipelines starts a run for each trigger that has something new.
func (c *Control) triggerPipelines(ctx context.Context) error {
	return c.each(ctx, penstock.KindPipeline, triggerPipeline)
}

func triggerPipeline(tx store.Tx, ref penstock.Ref) error {
	p, err := store.Load[v1.PipelineSpec, v1.PipelineStatus](tx, ref)
	if err != nil {
		return err
	}
	changed := p.Metadata.Phase != penstock.PhaseReady
	for i, trigger := range p.Spec.Triggers {
		key := strconv.Itoa(i)
		cause, err := findCause(tx, p, trigger, p.Status.Seen[key])
		if err != nil {
			return err
		}
		if cause.mark == p.Status.Seen[key] {
			continue
		}
		seen := maps.Clone(p.Status.Seen)
		if seen == nil {
			seen = map[string]string{}
		}
		seen[key] = cause.mark
		p.Status.Seen, changed = seen, true
		if cause.what == "" {
			continue // the first look only notes where things stand
		}
		if err := startRun(tx, &p, cause); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return move(tx, &p, penstock.PhaseReady, "Watching", fmt.Sprintf("%d triggers, %d runs so far", len(p.Spec.Triggers), p.Status.Next))
}

// cause is something new that a trigger found: a mark to remember, and what to
// call it; no name means that there is nothing to start.
type cause struct {
	mark, what string
	uid        penstock.UID
}

func findCause(tx store.Tx, p v1.Pipeline, t v1.Trigger, seen string) (cause, error) {
	switch {
	case t.Monitor != "":
		m, err := store.Load[v1.MonitorSpec, v1.MonitorStatus](tx, penstock.Ref{Kind: penstock.KindMonitor, Project: p.Metadata.Project, Name: t.Monitor})
		if err != nil || m.Status.Alert == nil {
			return cause{mark: seen}, ignoreMissing(err)
		}
		return cause{strconv.Itoa(m.Status.Alerts), fmt.Sprintf("monitor/%s#%d", t.Monitor, m.Status.Alerts), m.Metadata.UID}, nil
	case t.Dataset != "":
		d, err := store.Load[v1.DatasetSpec, v1.DatasetStatus](tx, penstock.Ref{Kind: penstock.KindDataset, Project: p.Metadata.Project, Name: t.Dataset})
		if err != nil || d.Status.Version == "" {
			return cause{mark: seen}, ignoreMissing(err)
		}
		found := cause{string(d.Status.Version), fmt.Sprintf("dataset/%s@%s", t.Dataset, d.Status.Version.Short()), d.Metadata.UID}
		if seen == "" {
			found.what = "" // the version that was there before the pipeline
		}
		return found, nil
	case t.Every > 0:
		every := int64(time.Duration(t.Every) / time.Second)
		mark := strconv.FormatInt(now().Unix()/max(1, every), 10)
		found := cause{mark: mark, what: "schedule/" + time.Duration(t.Every).String()}
		if seen == "" {
			found.what = ""
		}
		return found, nil
	}
	return cause{mark: seen}, nil
}

func ignoreMissing(err error) error {
	if penstock.CodeOf(err) == penstock.NotFound {
		return nil
	}
	return err
}

// maxRuns is how many runs a pipeline's status remembers.
const maxRuns = 20

// startRun makes the jobs of one run, each after the one before.
func startRun(tx store.Tx, p *v1.Pipeline, why cause) error {
	p.Status.Next++
	r := v1.PipelineRun{Number: p.Status.Next, Trigger: why.what, At: now()}
	previous := ""
	for _, step := range p.Spec.Steps {
		job := v1.Job{
			Kind: penstock.KindJob,
			Metadata: v1.Metadata{
				Project: p.Metadata.Project, Name: fmt.Sprintf("%s-%d-%s", p.Metadata.Name, r.Number, step.Name),
				Owner: p.Metadata.UID, CreatedBy: p.Metadata.CreatedBy,
				Labels: jobLabels(withLabel(withLabel(p.Metadata.Labels, "pipeline", p.Metadata.Name), "trigger", why.what), step.Job),
			},
			Spec: step.Job,
		}
		if previous != "" {
			job.Spec.After = append([]string{previous}, job.Spec.After...)
		}
		if err := create(tx, &job, penstock.PhasePending); err != nil {
			return err
		}
		if why.uid != "" {
			if err := tx.Link(store.Edge{From: job.Metadata.UID, To: why.uid, Relation: "trigger"}); err != nil {
				return err
			}
		}
		previous = job.Metadata.Name
		r.Jobs = append(r.Jobs, job.Metadata.Name)
	}
	p.Status.Runs = append(p.Status.Runs, r)
	if extra := len(p.Status.Runs) - maxRuns; extra > 0 {
		p.Status.Runs = p.Status.Runs[extra:]
	}
	return event(tx, p.Kind, p.Metadata, "Triggered", fmt.Sprintf("run %d by %s", r.Number, why.what))
}
