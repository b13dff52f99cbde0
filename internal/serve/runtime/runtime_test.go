package runtime_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/serve/runtime"
)

var digest = penstock.Digest("sha256:" + strings.Repeat("ab", 32))

func endpoint(spec v1.EndpointSpec) v1.Endpoint {
	return v1.Endpoint{Kind: penstock.KindEndpoint, Metadata: v1.Metadata{Project: "vision", Name: "writer"}, Spec: spec}
}

func version(files ...string) v1.ModelVersion {
	v := v1.ModelVersion{Spec: v1.ModelVersionSpec{Model: "tiny", Digest: digest}}
	for _, path := range files {
		v.Spec.Files = append(v.Spec.Files, v1.File{Path: path})
	}
	return v
}

func TestLlamaEndpointBecomesAJobPinnedToTheVersion(t *testing.T) {
	e := endpoint(v1.EndpointSpec{Model: "tiny@production", Runtime: v1.Runtime{Name: "llama"}, Priority: 7})
	want := v1.JobSpec{
		Class: penstock.ClassOnlineInference,
		Tasks: []v1.TaskSet{{
			Name: "serve", Replicas: 1,
			Command:   []string{"penstock-llama", "--name", "writer", "--file", "tiny.gguf", "--threads", "1"},
			Resources: penstock.Resources{penstock.CPU: 1000, penstock.Memory: 512 << 20},
			Serve:     &v1.Serve{Ready: "/health"},
		}},
		Models:   []v1.ModelRef{{Name: "model", Model: "tiny@" + string(digest)}},
		Priority: 7,
	}
	got, err := runtime.Job(e, version("README.md", "tiny.gguf", "old/tiny.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestWhatTheEndpointSaysIsKept(t *testing.T) {
	e := endpoint(v1.EndpointSpec{
		Model: "tiny@" + string(digest), Replicas: 3, Resources: penstock.Resources{penstock.CPU: 2500, "h100": 1000},
		Runtime: v1.Runtime{Name: "llama", File: "q8/tiny.gguf", Context: 128},
	})
	got, err := runtime.Job(e, version("a.gguf", "q8/tiny.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	set := got.Tasks[0]
	want := []string{"penstock-llama", "--name", "writer", "--file", "q8/tiny.gguf", "--threads", "3", "--context", "128"}
	if diff := cmp.Diff(want, set.Command); diff != "" {
		t.Fatal(diff)
	}
	resources := penstock.Resources{penstock.CPU: 2500, penstock.Memory: 512 << 20, "h100": 1000}
	if diff := cmp.Diff(resources, set.Resources); diff != "" || set.Replicas != 3 {
		t.Fatalf("%d replicas, %s", set.Replicas, diff)
	}
}

func TestCommandEndpointRunsItsOwnCommand(t *testing.T) {
	e := endpoint(v1.EndpointSpec{Model: "tiny@production", Runtime: v1.Runtime{Name: "command", Command: []string{"vllm", "serve"}}})
	got, err := runtime.Job(e, version("model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"vllm", "serve"}, got.Tasks[0].Command); diff != "" {
		t.Fatal(diff)
	}
}

func TestWhatCannotServeIsRefusedWithAHint(t *testing.T) {
	llama := func(file string) v1.EndpointSpec {
		return v1.EndpointSpec{Model: "tiny@production", Runtime: v1.Runtime{Name: "llama", File: file}}
	}
	for name, c := range map[string]struct {
		spec    v1.EndpointSpec
		version v1.ModelVersion
		code    penstock.Code
	}{
		"no gguf":         {llama(""), version("README.md"), penstock.Invalid},
		"two ggufs":       {llama(""), version("a.gguf", "b.gguf"), penstock.Invalid},
		"no such file":    {llama("c.gguf"), version("a.gguf"), penstock.Invalid},
		"other model":     {v1.EndpointSpec{Model: "large@production", Runtime: v1.Runtime{Name: "llama"}}, version("a.gguf"), penstock.Invalid},
		"other digest":    {v1.EndpointSpec{Model: "tiny@sha256:" + strings.Repeat("cd", 32), Runtime: v1.Runtime{Name: "llama"}}, version("a.gguf"), penstock.Invalid},
		"no digest":       {llama(""), v1.ModelVersion{Spec: v1.ModelVersionSpec{Model: "tiny"}}, penstock.Invalid},
		"no command":      {v1.EndpointSpec{Model: "tiny@x", Runtime: v1.Runtime{Name: "command"}}, version(), penstock.Invalid},
		"unknown runtime": {v1.EndpointSpec{Model: "tiny@x", Runtime: v1.Runtime{Name: "onnx"}}, version(), penstock.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := runtime.Job(endpoint(c.spec), c.version)
			var e *penstock.Error
			if !errors.As(err, &e) || e.Code != c.code || e.Hint == "" || e.Where != "endpoint/vision/writer" {
				t.Fatalf("got %#v", err)
			}
		})
	}
}
