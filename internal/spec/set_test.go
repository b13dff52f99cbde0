package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func mustParse(t *testing.T, manifest string) []v1.Object {
	t.Helper()
	objs, err := Parse("m", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func jobAfter(project, name string, after ...string) string {
	return fmt.Sprintf("apiVersion: penstock/v1\nkind: Job\nmetadata: {project: %s, name: %s}\nspec: {tasks: [{name: t, command: [a]}], after: [%s]}\n---\n",
		project, name, strings.Join(after, ", "))
}

func TestASetMayShareAncestorsAndNamesAcrossProjects(t *testing.T) {
	diamond := jobAfter("p", "a") + jobAfter("p", "b", "a") + jobAfter("p", "c", "a") + jobAfter("p", "d", "b", "c", "elsewhere") +
		jobAfter("q", "a", "d") + jobAfter("q", "d")
	if err := CheckSet(mustParse(t, diamond)); err != nil {
		t.Error(err)
	}
	if err := CheckSet(nil); err != nil {
		t.Error(err)
	}
}

func TestALoopThroughDriftIsNoCircle(t *testing.T) {
	manifest := `
apiVersion: penstock/v1
kind: Endpoint
metadata: {name: chat}
spec: {model: tiny@production, runtime: {name: llama}}
---
apiVersion: penstock/v1
kind: Monitor
metadata: {name: drift}
spec: {endpoint: chat, signals: [{name: ttft_ms}]}
---
apiVersion: penstock/v1
kind: Pipeline
metadata: {name: retrain}
spec:
  triggers: [{monitor: drift}]
  steps: [{name: s, job: {tasks: [{name: a, command: [x]}], outputs: [{name: o, model: tiny}]}}]
`
	if err := CheckSet(mustParse(t, manifest)); err != nil {
		t.Error(err)
	}
}

func TestEveryCircleIsTold(t *testing.T) {
	manifest := jobAfter("p", "a", "b") + jobAfter("p", "b", "a") + jobAfter("q", "x", "y") + jobAfter("q", "y", "z") + jobAfter("q", "z", "x")
	want := []string{
		"job/p/a: circular: job/p/a -> job/p/b -> job/p/a",
		"job/q/x: circular: job/q/x -> job/q/y -> job/q/z -> job/q/x",
	}
	if diff := cmp.Diff(want, lines(t, CheckSet(mustParse(t, manifest)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAcceleratorsAreCheckedInEveryKindThatTakesSome(t *testing.T) {
	cases := map[string]string{
		"spec.tasks[0].resources.h200":              "kind: Job\nspec: {tasks: [{name: a, command: [a], resources: {h200: 1}}]}",
		"spec.steps[0].job.tasks[0].resources.h200": "kind: Pipeline\nspec: {triggers: [{every: 1h}], steps: [{name: s, job: {tasks: [{name: a, command: [a], resources: {h200: 1}}]}}]}",
		"spec.resources.h200":                       "kind: Endpoint\nspec: {model: m@a, runtime: {name: llama}, resources: {h200: 1}}",
	}
	for path, manifest := range cases {
		o := mustParse(t, "apiVersion: penstock/v1\nmetadata: {name: x}\n"+manifest)[0]
		got := lines(t, CheckAccelerators(o, []penstock.Resource{"cpu", "h100", "h100"}))
		if diff := cmp.Diff([]string{path + `: accelerator "h200" is in no pool`}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := CheckAccelerators(o, []penstock.Resource{"h200"}); err != nil {
			t.Error(err)
		}
	}
	dataset := mustParse(t, "apiVersion: penstock/v1\nkind: Dataset\nmetadata: {name: x}\nspec: {source: {path: /d}, resources: {memry: 1}}")[0]
	err := CheckAccelerators(dataset, nil)
	if hint := err.(Errors)[0].Hint; hint != "did you mean memory? the pools have no accelerators" {
		t.Errorf("hint %q", hint)
	}
	project := mustParse(t, "apiVersion: penstock/v1\nkind: Project\nmetadata: {name: x}\nspec: {owner: a, costCentre: b, quota: {nominal: {h300: 1}}}")[0]
	if err := CheckAccelerators(project, nil); err != nil {
		t.Errorf("a quota takes nothing: %v", err)
	}
}

func TestLocateGivesTheLineOfAServersFault(t *testing.T) {
	manifest := []byte("# a remark\n---\n" + jobAfter("p", "a") + `apiVersion: penstock/v1
kind: Job
metadata: {name: b}
spec:
  tasks:
    - name: t
      command: [a]
      resources:
        cpu: 1
        h10o: 8
`)
	for path, want := range map[string]string{
		"spec.tasks[0].resources.h10o": "m:17",
		"spec.tasks[0].replicas":       "m:13",
		"spec.grace":                   "m:11",
		"metadata.name":                "m:10",
	} {
		if got := Locate("m", manifest, 1, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := Locate("m", manifest, 2, "spec.grace"); got != "spec.grace" {
		t.Errorf("an object that isn't there: %s", got)
	}
}
