package control

import (
	"maps"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// withLabel is a copy of labels with one more.
func withLabel(labels map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(labels)+1)
	maps.Copy(out, labels)
	out[key] = value
	return out
}

// jobLabels fills in the FinOps labels that a job's own spec tells; what its
// owner wrote stands.
func jobLabels(labels map[string]string, spec v1.JobSpec) map[string]string {
	known := map[string]string{}
	for _, o := range spec.Outputs {
		if o.Model != "" {
			known["model"] = o.Model
		}
	}
	for _, m := range spec.Models {
		if name, _, _ := strings.Cut(m.Model, "@"); known["model"] == "" {
			known["model"] = name
		}
	}
	for _, d := range spec.Data {
		if known["dataset"] == "" {
			known["dataset"] = d.Dataset
		}
	}
	maps.Copy(known, labels)
	return known
}

// projectLabels fills in what the project tells.
func projectLabels(labels map[string]string, p v1.ProjectSpec) map[string]string {
	known := map[string]string{}
	if p.Environment != "" {
		known["environment"] = p.Environment
	}
	if p.Team != "" {
		known["team"] = p.Team
	}
	maps.Copy(known, labels)
	if len(known) == 0 {
		return nil
	}
	return known
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// fillLabels adds what Penstock knows to the labels of a new or changed object.
func fillLabels(o *v1.Object, project v1.ProjectSpec) error {
	if o.Kind.Global() {
		return nil
	}
	o.Metadata.Labels = projectLabels(o.Metadata.Labels, project)
	if o.Kind != penstock.KindJob {
		return nil
	}
	job, err := v1.As[v1.JobSpec, v1.JobStatus](*o)
	if err != nil {
		return err
	}
	o.Metadata.Labels = jobLabels(o.Metadata.Labels, job.Spec)
	return nil
}
