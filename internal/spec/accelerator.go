package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// CheckAccelerators refuses work that asks for a resource that no pool has:
// known are the types of accelerator of all pools, in any order. o is as Parse
// or Check gave it; of kinds that ask for nothing, nothing is refused. The
// error is Errors whose Where is the path of the field.
func CheckAccelerators(o v1.Object, known []penstock.Resource) error {
	asked, err := asks(o)
	if err != nil {
		return err
	}
	types := make([]string, 0, len(known))
	for _, r := range known {
		if r.Accelerator() {
			types = append(types, string(r))
		}
	}
	slices.Sort(types)
	types = slices.Compact(types)
	var faults []fault
	for _, a := range asked {
		for _, r := range a.amounts.Names() {
			if r.Accelerator() && !slices.Contains(types, string(r)) {
				faults = append(faults, fault{
					path: under(a.path, string(r)), msg: fmt.Sprintf("accelerator %q is in no pool", string(r)), hint: offer(string(r), types),
				})
			}
		}
	}
	if len(faults) > 0 {
		return newErrors("", faults)
	}
	return nil
}

// offer names the nearest type and all that there are.
func offer(word string, types []string) string {
	there := "the pools have " + strings.Join(types, ", ")
	if len(types) == 0 {
		there = "the pools have no accelerators"
	}
	if hit := nearest(word, append([]string{"cpu", "memory"}, types...)); hit != "" {
		return "did you mean " + hit + "? " + there
	}
	return there
}

// ask is what one part of an object takes.
type ask struct {
	path    string
	amounts penstock.Resources
}

func asks(o v1.Object) ([]ask, error) {
	switch o.Kind {
	case penstock.KindJob:
		job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		return asksOfJob("spec", job.Spec), err
	case penstock.KindPipeline:
		pipeline, err := v1.As[v1.PipelineSpec, v1.PipelineStatus](o)
		var all []ask
		for i, step := range pipeline.Spec.Steps {
			all = append(all, asksOfJob(at("spec.steps", i)+".job", step.Job)...)
		}
		return all, err
	case penstock.KindEndpoint:
		endpoint, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](o)
		return []ask{{"spec.resources", endpoint.Spec.Resources}}, err
	case penstock.KindDataset:
		dataset, err := v1.As[v1.DatasetSpec, v1.DatasetStatus](o)
		return []ask{{"spec.resources", dataset.Spec.Resources}}, err
	}
	return nil, nil
}

func asksOfJob(path string, s v1.JobSpec) []ask {
	var all []ask
	for i, t := range s.Tasks {
		all = append(all, ask{at(path+".tasks", i) + ".resources", t.Resources})
	}
	return all
}
