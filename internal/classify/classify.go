// Package classify answers what kind of work a job is, and what that kind of
// work needs. It is pure: the answer depends on the spec alone.
package classify

import (
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Classify gives the class of a checked JobSpec, and the evidence in words. What
// the owner declared wins; else the first of these holds:
//
//	a task serves                  online inference
//	a model is put out, from one   fine-tuning
//	a model is put out             training
//	metrics of a model are put out evaluation
//	a model reads data             batch inference
//	a dataset is put out           data preparation
//	a model is used                batch inference
//	samples are fed, or checkpoints are kept: training
//	data is read                   data preparation
//	nothing of all that            training, which needs the most care
func Classify(s v1.JobSpec) (penstock.Class, string) {
	if s.Class != "" {
		return s.Class, "declared"
	}
	for _, t := range s.Tasks {
		if t.Serve != nil {
			return penstock.ClassOnlineInference, fmt.Sprintf("task set %s serves", t.Name)
		}
	}
	out := outputsOf(s)
	switch {
	case out.model != "" && len(s.Models) > 0:
		return penstock.ClassFineTuning, fmt.Sprintf("puts out model %s, starting from %s", out.model, s.Models[0].Model)
	case out.model != "":
		return penstock.ClassTraining, fmt.Sprintf("puts out model %s", out.model)
	case out.metrics != "":
		return penstock.ClassEvaluation, fmt.Sprintf("puts out metrics of model %s", out.metrics)
	case len(s.Models) > 0 && len(s.Data) > 0:
		return penstock.ClassBatchInference, fmt.Sprintf("model %s reads dataset %s", s.Models[0].Model, s.Data[0].Dataset)
	case out.dataset != "":
		return penstock.ClassDataPreparation, fmt.Sprintf("puts out dataset %s", out.dataset)
	case len(s.Models) > 0:
		return penstock.ClassBatchInference, fmt.Sprintf("uses model %s and puts out no model", s.Models[0].Model)
	case s.Feed != nil:
		return penstock.ClassTraining, fmt.Sprintf("is fed samples of %s", s.Feed.Data)
	case s.Checkpoints != nil:
		return penstock.ClassTraining, "keeps checkpoints"
	case len(s.Data) > 0:
		return penstock.ClassDataPreparation, fmt.Sprintf("reads dataset %s and puts out no model", s.Data[0].Dataset)
	}
	return penstock.ClassTraining, "has no data, model or output to tell it by"
}

// outputs are the first of each sort of output, or "".
type outputs struct {
	model, dataset, metrics string
}

func outputsOf(s v1.JobSpec) outputs {
	var first outputs
	for _, o := range s.Outputs {
		switch {
		case o.Metrics != nil && first.metrics == "":
			first.metrics = modelOf(s, o.Metrics.Model)
		case o.Model != "" && first.model == "":
			first.model = o.Model
		case o.Dataset != "" && first.dataset == "":
			first.dataset = o.Dataset
		}
	}
	return first
}

// modelOf is the model that a job mounts under a name.
func modelOf(s v1.JobSpec, name string) string {
	for _, m := range s.Models {
		if m.Name == name {
			return m.Model
		}
	}
	return name
}
