package spec

import (
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// CheckSet checks what only shows in several objects together: names that come
// twice, jobs that wait for each other in a circle, pipelines that start each
// other for ever. A reference to what isn't in the set is no error: it may be
// on the server. The objects are as Parse or Check gave them. The error is
// Errors whose Where is a Ref.
func CheckSet(objs []v1.Object) error {
	var faults []fault
	seen := map[penstock.Ref]bool{}
	for _, o := range objs {
		if seen[o.Ref()] {
			faults = append(faults, fault{path: o.Ref().String(), msg: "is declared twice", hint: "remove one, or give it another name"})
		}
		seen[o.Ref()] = true
	}
	g := graph{}
	for _, o := range objs {
		if err := g.add(o); err != nil {
			return err
		}
	}
	for _, circle := range g.circles() {
		faults = append(faults, fault{path: circle[0], msg: "circular: " + strings.Join(circle, " -> "), hint: "take one of these references out"})
	}
	if len(faults) > 0 {
		return newErrors("", faults)
	}
	return nil
}

// graph says which object can only start when which others did something.
type graph map[string][]string

func (g graph) edge(from, to penstock.Ref) {
	g[from.String()] = append(g[from.String()], to.String())
}

func (g graph) add(o v1.Object) error {
	other := func(k penstock.Kind, name string) penstock.Ref {
		return penstock.Ref{Kind: k, Project: o.Metadata.Project, Name: name}
	}
	switch o.Kind {
	case penstock.KindJob:
		job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		if err != nil {
			return err
		}
		for _, name := range job.Spec.After {
			g.edge(o.Ref(), other(penstock.KindJob, name))
		}
	case penstock.KindPipeline:
		pipeline, err := v1.As[v1.PipelineSpec, v1.PipelineStatus](o)
		if err != nil {
			return err
		}
		for _, t := range pipeline.Spec.Triggers {
			if t.Dataset != "" {
				g.edge(o.Ref(), other(penstock.KindDataset, t.Dataset))
			}
		}
		for _, step := range pipeline.Spec.Steps {
			for _, out := range step.Job.Outputs {
				if out.Dataset != "" {
					g.edge(other(penstock.KindDataset, out.Dataset), o.Ref())
				}
			}
		}
	}
	return nil
}

// circles gives each circle that a walk in the order of names meets, as the
// refs on it, the first one again at the end.
func (g graph) circles() [][]string {
	var found [][]string
	done := map[string]bool{}
	for _, start := range sortedKeys(g) {
		g.walk(start, nil, done, &found)
	}
	return found
}

// walk goes no deeper than the longest chain of one set, MaxDocuments a file.
func (g graph) walk(ref string, path []string, done map[string]bool, found *[][]string) {
	if i := slices.Index(path, ref); i >= 0 {
		*found = append(*found, append(slices.Clone(path[i:]), ref))
		return
	}
	if done[ref] {
		return
	}
	path = append(path, ref)
	for _, next := range slices.Compact(slices.Sorted(slices.Values(g[ref]))) {
		g.walk(next, path, done, found)
	}
	done[ref] = true
}
