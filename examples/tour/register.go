package main

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// register looks at the version that training made, and shows one that isn't
// let in.
func (t *tour) register(ctx context.Context) error {
	v, err := t.versionOf(ctx, "train")
	if err != nil {
		return err
	}
	t.version = v.Spec.Digest
	if _, err := t.do(ctx, "ann", "model", "show", "tiny-go"); err != nil {
		return err
	}
	t.check(v.Metadata.Phase == penstock.PhaseReady && v.Status.Scan.Verdict == "clean", "%d files are %s by ruleset %s, and the version is %s",
		len(v.Spec.Files), v.Status.Scan.Verdict, v.Status.Scan.Ruleset, v.Metadata.Phase)
	l := v.Spec.Lineage
	t.check(l.Job == "train" && l.Attempt == 2 && l.Author == "ann", "it was made by job %s, attempt %d, for %s", l.Job, l.Attempt, l.Author)
	t.check(len(l.Datasets) == 1 && l.Datasets[0].Digest == t.dataset, "from the dataset version %s", t.dataset.Short())
	t.check(l.Step == int64(t.Pace.Steps) && l.Checkpoint != "", "after checkpoint %d, %s", l.Step, l.Checkpoint.Short())
	t.check(l.Code != "" && l.Parameters["steps"] == fmt.Sprint(t.Pace.Steps), "by the code %s with %d parameters", l.Code.Short(), len(l.Parameters))
	t.report.Version = v
	return t.refusePickle(ctx)
}

// versionOf waits for the scan of the model version that a job made.
func (t *tour) versionOf(ctx context.Context, name string) (v1.ModelVersion, error) {
	job, err := client.GetAs[v1.JobSpec, v1.JobStatus](ctx, t.api, ref(penstock.KindJob, name))
	if err != nil {
		return v1.ModelVersion{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, r := range job.Status.Results {
		if r.Kind != penstock.KindModelVersion {
			continue
		}
		var v v1.ModelVersion
		err := t.api.WaitFor(ctx, ref(r.Kind, r.Name), func(o v1.Object) (scanned bool, err error) {
			v, err = v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
			return v.Status.Scan != nil, err
		})
		return v, err
	}
	return v1.ModelVersion{}, fmt.Errorf("job %s is %s and made no model version", name, job.Metadata.Phase)
}

func (t *tour) refusePickle(ctx context.Context) error {
	if _, err := t.do(ctx, "ann", "apply", "-f", t.manifests("extra", "unsafe.yaml")); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "wait", "job/unsafe", "--timeout", "2m"); err != nil {
		return err
	}
	v, err := t.versionOf(ctx, "unsafe")
	if err != nil {
		return err
	}
	found := ""
	for _, f := range v.Status.Scan.Findings {
		found = fmt.Sprintf("%s: %s", f.Path, f.Detail)
	}
	t.check(v.Metadata.Phase == penstock.PhaseRefused && v.Status.Scan.Verdict == "malicious", "a version with a pickle is %s as %s: %s",
		v.Metadata.Phase, v.Status.Scan.Verdict, found)
	_, err = t.refused(ctx, 4, "bob", "model", "promote", "unsafe")
	return err
}
