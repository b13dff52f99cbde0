package spec

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func raw(kind penstock.Kind, labels map[string]string, spec string) v1.Object {
	return v1.Object{Kind: kind, Metadata: v1.Metadata{Name: "x", Labels: labels}, Spec: json.RawMessage(spec)}
}

func TestDiffNamesEachChangedField(t *testing.T) {
	cases := []struct {
		name     string
		old, new v1.Object
		want     []v1.FieldChange
	}{
		{
			"changed, added, removed",
			raw("Job", map[string]string{"team": "a", "gone": "x"}, `{"tasks":[{"name":"w","replicas":1,"env":{"A B":"1"}}],"grace":"30s"}`),
			raw("Job", map[string]string{"team": "b"}, `{"tasks":[{"name":"w","replicas":2,"env":{"A B":""}}],"pool":"east"}`),
			[]v1.FieldChange{
				{Path: "metadata.labels.gone", From: "x"},
				{Path: "metadata.labels.team", From: "a", To: "b"},
				{Path: "spec.grace", From: "30s"},
				{Path: "spec.pool", To: "east"},
				{Path: `spec.tasks[0].env["A B"]`, From: "1", To: `""`},
				{Path: "spec.tasks[0].replicas", From: "1", To: "2"},
			},
		},
		{
			"lists by index, the tenth after the second",
			raw("Job", nil, `{"after":["a","b","c"]}`),
			raw("Job", nil, `{"after":["a","x","c","d","e","f","g","h","i","j","k"]}`),
			[]v1.FieldChange{
				{Path: "spec.after[1]", From: "b", To: "x"}, {Path: "spec.after[3]", To: "d"}, {Path: "spec.after[4]", To: "e"},
				{Path: "spec.after[5]", To: "f"}, {Path: "spec.after[6]", To: "g"}, {Path: "spec.after[7]", To: "h"},
				{Path: "spec.after[8]", To: "i"}, {Path: "spec.after[9]", To: "j"}, {Path: "spec.after[10]", To: "k"},
			},
		},
		{
			"another shape",
			raw("Model", nil, `{"a":"word","b":{"c":1},"d":null,"e":{}}`),
			raw("Model", nil, `{"a":{"x":true},"b":2,"d":null,"e":[]}`),
			[]v1.FieldChange{
				{Path: "spec.a", From: "word"}, {Path: "spec.a.x", To: "true"},
				{Path: "spec.b.c", From: "1"}, {Path: "spec.b", To: "2"},
				{Path: "spec.e", From: "{}", To: "[]"},
			},
		},
		{
			"control characters don't reach the terminal",
			v1.Object{}, raw("Model", nil, `{"description":"a\u001b[31m\n"}`),
			[]v1.FieldChange{{Path: "spec.description", To: `"a\x1b[31m\n"`}},
		},
		{
			"a secret's values",
			raw("Secret", map[string]string{"team": "a"}, `{"values":{"gone":"s3cret","token":"s3cret","same":"s3cret"}}`),
			raw("Secret", map[string]string{"team": "b"}, `{"values":{"token":"other","same":"s3cret","new":"s3cret"}}`),
			[]v1.FieldChange{
				{Path: "metadata.labels.team", From: "a", To: "b"},
				{Path: "spec.values.gone", From: "(hidden)"},
				{Path: "spec.values.new", To: "(hidden)"},
				{Path: "spec.values.token", From: "(hidden)", To: "(hidden)"},
			},
		},
		{
			"a secret that goes",
			raw("Secret", nil, `{"values":{"token":"s3cret"}}`), v1.Object{},
			[]v1.FieldChange{{Path: "spec.values.token", From: "(hidden)"}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Diff(c.old, c.new)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
