package control

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/dataset"
	"github.com/penstock/penstock/internal/registry"
	"github.com/penstock/penstock/internal/store"
)

// deriveDatasets keeps one preparation job per generation of each dataset, and
// takes over what it made.
func (c *Control) deriveDatasets(ctx context.Context) error {
	return c.each(ctx, penstock.KindDataset, deriveDataset)
}

func deriveDataset(tx store.Tx, ref penstock.Ref) error {
	d, err := store.Load[v1.DatasetSpec, v1.DatasetStatus](tx, ref)
	if err != nil {
		return err
	}
	if d.Status.Generation == d.Metadata.Generation {
		if d.Metadata.Phase != penstock.PhasePreparing {
			return nil
		}
		return followPreparation(tx, d)
	}
	job, err := preparation(d)
	if err != nil {
		return err
	}
	if err := create(tx, &job, penstock.PhasePending); err != nil && penstock.CodeOf(err) != penstock.Exists {
		return err
	}
	d.Status.Job, d.Status.Generation = job.Metadata.Name, d.Metadata.Generation
	return move(tx, &d, penstock.PhasePreparing, "Preparing", "by job "+job.Metadata.Name)
}

// preparation is the job that makes a dataset's next version: a built-in of the
// agent, placed, metered and supervised like any other work.
func preparation(d v1.Dataset) (v1.Job, error) {
	spec, err := json.Marshal(d.Spec)
	if err != nil {
		return v1.Job{}, fmt.Errorf("encode recipe: %w", err)
	}
	resources := d.Spec.Resources
	if len(resources) == 0 {
		resources = penstock.Resources{penstock.CPU: 500, penstock.Memory: 512 << 20}
	}
	return v1.Job{
		Kind: penstock.KindJob,
		Metadata: v1.Metadata{
			Project: d.Metadata.Project, Name: fmt.Sprintf("%s-prepare-%d", d.Metadata.Name, d.Metadata.Generation),
			Owner: d.Metadata.UID, Labels: withLabel(d.Metadata.Labels, "dataset", d.Metadata.Name), CreatedBy: d.Metadata.CreatedBy,
		},
		Spec: v1.JobSpec{
			Class:      penstock.ClassDataPreparation,
			Tasks:      []v1.TaskSet{{Name: "prepare", Replicas: 1, Command: []string{"penstock-agent", "prepare"}, Resources: resources}},
			Parameters: map[string]string{"spec": string(spec)},
			Outputs:    []v1.Output{{Name: "version", Dataset: d.Metadata.Name}},
			Retries:    v1.Retries{Max: 1},
		},
	}, nil
}

// followPreparation moves the dataset on once its job has ended.
func followPreparation(tx store.Tx, d v1.Dataset) error {
	job, err := store.Load[v1.JobSpec, v1.JobStatus](tx, penstock.Ref{Kind: penstock.KindJob, Project: d.Metadata.Project, Name: d.Status.Job})
	switch {
	case penstock.CodeOf(err) == penstock.NotFound:
		return failDataset(tx, d, "job "+d.Status.Job+" was deleted")
	case err != nil || !job.Metadata.Phase.Final():
		return err
	case job.Metadata.Phase != penstock.PhaseSucceeded:
		return failDataset(tx, d, fmt.Sprintf("job %s is %s: %s", job.Metadata.Name, job.Metadata.Phase, penstock.Join(job.Status.Reasons)))
	}
	return nil // registerDataset moved it on in the job's own transaction
}

func failDataset(tx store.Tx, d v1.Dataset, why string) error {
	d.Status.Conditions = condition(d.Status.Conditions, "Prepared", notSo, string(penstock.PreparingFailed), why)
	return move(tx, &d, penstock.PhaseFailed, string(penstock.PreparingFailed), why)
}

// registerDataset adds an immutable version and makes it the dataset's newest.
// The same content again is the same version.
func registerDataset(tx store.Tx, job v1.Job, out v1.Output, spec v1.DatasetVersionSpec) (v1.Result, error) {
	d, err := store.Load[v1.DatasetSpec, v1.DatasetStatus](tx, penstock.Ref{Kind: penstock.KindDataset, Project: job.Metadata.Project, Name: out.Dataset})
	if err != nil {
		return v1.Result{}, err
	}
	spec.Digest = dataset.Digest(spec)
	result := v1.Result{Kind: penstock.KindDatasetVersion, Name: registry.VersionName(out.Dataset, spec.Digest), Digest: spec.Digest}
	version := v1.DatasetVersion{
		Kind: result.Kind,
		Metadata: v1.Metadata{
			Project: job.Metadata.Project, Name: result.Name, Owner: d.Metadata.UID, Labels: job.Metadata.Labels, CreatedBy: job.Metadata.CreatedBy,
		},
		Spec: spec,
	}
	switch err := create(tx, &version, penstock.PhaseReady); {
	case err == nil:
		if err := tx.Link(store.Edge{From: version.Metadata.UID, To: job.Metadata.UID, Relation: "job"}); err != nil {
			return result, err
		}
	case penstock.CodeOf(err) != penstock.Exists:
		return result, err
	}
	d.Status.Version, d.Status.Counts = spec.Digest, &spec.Counts
	said := fmt.Sprintf("version %s: %d of %d documents", spec.Digest.Short(), spec.Counts.Out, spec.Counts.In)
	d.Status.Conditions = condition(d.Status.Conditions, "Prepared", so, "Prepared", said)
	return result, move(tx, &d, penstock.PhaseReady, "Prepared", said)
}
