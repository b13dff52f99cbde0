package classify

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

var (
	plain  = v1.TaskSet{Name: "main", Command: []string{"run"}}
	server = v1.TaskSet{Name: "web", Command: []string{"run"}, Serve: &v1.Serve{Ready: "/health"}}

	books = []v1.DataRef{{Name: "corpus", Dataset: "books"}}
	base  = []v1.ModelRef{{Name: "base", Model: "llama@production"}}

	model   = v1.Output{Name: "m", Model: "tiny"}
	dataset = v1.Output{Name: "d", Dataset: "clean"}
	metrics = v1.Output{Name: "e", Metrics: &v1.MetricsOut{File: "m.json", Model: "base"}}
)

func TestTheClassFollowsFromWhatGoesInAndOut(t *testing.T) {
	cases := []struct {
		name     string
		spec     v1.JobSpec
		class    penstock.Class
		evidence string
	}{
		{
			"what is declared wins over everything",
			v1.JobSpec{Class: penstock.ClassMonitoring, Tasks: []v1.TaskSet{server}, Outputs: []v1.Output{model}},
			penstock.ClassMonitoring, "declared",
		},
		{
			"who serves, serves, whatever it reads",
			v1.JobSpec{Tasks: []v1.TaskSet{plain, server}, Models: base, Data: books},
			penstock.ClassOnlineInference, "task set web serves",
		},
		{
			"a model from a model",
			v1.JobSpec{Models: base, Data: books, Outputs: []v1.Output{dataset, model}},
			penstock.ClassFineTuning, "puts out model tiny, starting from llama@production",
		},
		{
			"a model from data",
			v1.JobSpec{Data: books, Outputs: []v1.Output{model}},
			penstock.ClassTraining, "puts out model tiny",
		},
		{
			"who trains may also measure",
			v1.JobSpec{Models: base, Outputs: []v1.Output{metrics, model}},
			penstock.ClassFineTuning, "puts out model tiny, starting from llama@production",
		},
		{
			"numbers about a model",
			v1.JobSpec{Models: base, Data: books, Outputs: []v1.Output{metrics, dataset}},
			penstock.ClassEvaluation, "puts out metrics of model llama@production",
		},
		{
			"a model reads data and writes answers",
			v1.JobSpec{Models: base, Data: books, Outputs: []v1.Output{dataset}},
			penstock.ClassBatchInference, "model llama@production reads dataset books",
		},
		{
			"a dataset from nothing but code",
			v1.JobSpec{Outputs: []v1.Output{dataset}},
			penstock.ClassDataPreparation, "puts out dataset clean",
		},
		{
			"a model alone",
			v1.JobSpec{Models: base},
			penstock.ClassBatchInference, "uses model llama@production and puts out no model",
		},
		{
			"samples are fed",
			v1.JobSpec{Data: books, Feed: &v1.Feed{Data: "corpus"}},
			penstock.ClassTraining, "is fed samples of corpus",
		},
		{
			"checkpoints are kept",
			v1.JobSpec{Data: books, Checkpoints: &v1.Checkpoints{Keep: 2}},
			penstock.ClassTraining, "keeps checkpoints",
		},
		{
			"data alone",
			v1.JobSpec{Data: books},
			penstock.ClassDataPreparation, "reads dataset books and puts out no model",
		},
		{
			"nothing at all",
			v1.JobSpec{Tasks: []v1.TaskSet{plain}},
			penstock.ClassTraining, "has no data, model or output to tell it by",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			class, evidence := Classify(c.spec)
			if class != c.class || evidence != c.evidence {
				t.Errorf("%s: %q, want %s: %q", class, evidence, c.class, c.evidence)
			}
		})
	}
}

func TestEachClassHasItsNeeds(t *testing.T) {
	want := map[penstock.Class]Needs{
		penstock.ClassDataPreparation: {Preemptible: true, Retries: 2},
		penstock.ClassTraining:        {Retries: 3, Movable: true},
		penstock.ClassFineTuning:      {Retries: 3, Movable: true},
		penstock.ClassEvaluation:      {Retries: 1},
		penstock.ClassBatchInference:  {Preemptible: true, Retries: 3},
		penstock.ClassOnlineInference: {RestartsForEver: true, Movable: true},
		penstock.ClassMonitoring:      {Preemptible: true, RestartsForEver: true, Movable: true},
	}
	got := map[penstock.Class]Needs{}
	for _, class := range penstock.Classes() {
		got[class] = NeedsOf(class)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := NeedsOf("whatever"); n != (Needs{}) {
		t.Errorf("an unknown class needs %+v", n)
	}
}

func TestWorkThatRunsForEverCountsNoRetries(t *testing.T) {
	for _, class := range penstock.Classes() {
		if n := NeedsOf(class); n.RestartsForEver && n.Retries != 0 {
			t.Errorf("%s restarts for ever and has %d retries", class, n.Retries)
		}
	}
}
