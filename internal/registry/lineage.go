package registry

import (
	"maps"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Lineage is what a version made by attempt of job came from: the inputs that
// were pinned when it was placed, the code of its first task set that has any,
// its parameters, who declared it and what triggered it. last is the newest
// committed checkpoint, nil if there is none.
func Lineage(job v1.Job, attempt v1.Attempt, last *v1.Checkpoint) v1.Lineage {
	l := v1.Lineage{
		Job: job.Metadata.Name, JobUID: job.Metadata.UID, Attempt: attempt.Spec.Number, Step: -1,
		Parameters: maps.Clone(job.Spec.Parameters), Author: job.Metadata.CreatedBy, Trigger: job.Metadata.Labels["trigger"],
	}
	if last != nil {
		l.Step, l.Checkpoint = last.Step, last.Digest
	}
	for _, in := range job.Status.Inputs {
		switch in.Kind {
		case penstock.KindModelVersion:
			l.Base = append(l.Base, in)
		case penstock.KindDatasetVersion:
			l.Datasets = append(l.Datasets, in)
		}
	}
	if i := slices.IndexFunc(job.Spec.Tasks, func(t v1.TaskSet) bool { return t.Code != nil }); i >= 0 {
		l.Code = job.Spec.Tasks[i].Code.Digest
	}
	return l
}
