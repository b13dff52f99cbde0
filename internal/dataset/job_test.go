package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
)

// job sets up the environment that an agent gives to a job, and gives the
// folder of the outputs.
func job(t *testing.T, s v1.DatasetSpec) (outputs, metrics string) {
	t.Helper()
	dir := t.TempDir()
	outputs, metrics = filepath.Join(dir, "outputs"), filepath.Join(dir, "metrics.jsonl")
	if err := errors.Join(os.MkdirAll(filepath.Join(outputs, Output), 0o700), os.WriteFile(metrics, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PENSTOCK_PARAM_SPEC", string(must(json.Marshal(s))))
	t.Setenv("PENSTOCK_OUTPUTS", outputs)
	t.Setenv("PENSTOCK_METRICS", metrics)
	return outputs, metrics
}

// manifest is a dataset as people write it, checked and completed.
func manifest(t *testing.T, source, prepare string) v1.DatasetSpec {
	t.Helper()
	objects, err := spec.Parse("dataset.yaml", []byte("apiVersion: penstock/v1\nkind: Dataset\nmetadata: {project: p, name: d}\nspec:\n  source: "+source+"\n  prepare: "+prepare+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return must(v1.As[v1.DatasetSpec, v1.DatasetStatus](objects[0])).Spec
}

func TestTheJobPreparesWhatAManifestDeclares(t *testing.T) {
	src := t.TempDir()
	for name, text := range map[string]string{"a.txt": "one", "sub/b.txt": "two", "c.md": "three"} {
		name = filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	outputs, metrics := job(t, manifest(t, `{path: `+src+`, include: ["**/*.txt"]}`, "{}"))
	var stdout bytes.Buffer
	if err := Main(t.Context(), nil, &stdout); err != nil {
		t.Fatal(err)
	}
	var version v1.DatasetVersionSpec
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(outputs, Output, Manifest))), &version); err != nil {
		t.Fatal(err)
	}
	written := map[string][]byte{}
	for _, e := range must(os.ReadDir(filepath.Join(outputs, Output))) {
		written[e.Name()] = must(os.ReadFile(filepath.Join(outputs, Output, e.Name())))
	}
	if err := Verify(version, fileList(written)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, decode(t, version, written, "train")); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if got, want := string(must(os.ReadFile(metrics))), `{"step":4,"pass":2,"documents":2,"bytes":6}`+"\n"; got != want {
		t.Errorf("metrics %q, want %q", got, want)
	}
	if !strings.Contains(stdout.String(), string(version.Digest)+": 2 of 2 documents, 6 bytes") {
		t.Errorf("stdout %q", stdout.String())
	}
}

func TestGOROOTIsTheParameterOrWhatGoSays(t *testing.T) {
	fake := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(fake, "src", "fmt"), 0o700), os.WriteFile(filepath.Join(fake, "src", "fmt", "x.go"), []byte("package fmt\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := manifest(t, `{path: $GOROOT/src/fmt, include: ["*.go"], exclude: ["*_test.go"], maxFiles: 3}`, "{deduplicate: near}")
	for name, c := range map[string]struct {
		goroot string
		want   int64
	}{"parameter": {fake, 1}, "go env": {"", 3}} {
		t.Run(name, func(t *testing.T) {
			outputs, _ := job(t, s)
			t.Setenv("PENSTOCK_PARAM_GOROOT", c.goroot)
			if err := Main(t.Context(), nil, &bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			var version v1.DatasetVersionSpec
			if err := json.Unmarshal(must(os.ReadFile(filepath.Join(outputs, Output, Manifest))), &version); err != nil {
				t.Fatal(err)
			}
			if version.Counts.In != c.want {
				t.Errorf("%d documents in, want %d", version.Counts.In, c.want)
			}
		})
	}
}

func TestAJobThatCannotStartSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	source := func(path string) v1.DatasetSpec {
		s := plain()
		s.Source.Path = path
		return s
	}
	for name, c := range map[string]struct {
		spec  v1.DatasetSpec
		env   [2]string
		args  []string
		want  penstock.Code
		named string
	}{
		"no such folder":      {spec: source(missing), want: penstock.NotFound, named: missing},
		"a file, no folder":   {spec: source(file), want: penstock.NotFound, named: file},
		"a relative path":     {spec: source("data"), want: penstock.Invalid, named: "data"},
		"another variable":    {spec: source("$HOME/x"), want: penstock.Invalid, named: "$HOME"},
		"a longer variable":   {spec: source("$GOROOTS/src"), want: penstock.Invalid, named: "$GOROOTS"},
		"GOROOT isn't there":  {spec: source("$GOROOT/src"), env: [2]string{"PENSTOCK_PARAM_GOROOT", missing}, want: penstock.NotFound, named: missing + "/src"},
		"no spec":             {env: [2]string{"PENSTOCK_PARAM_SPEC", ""}, want: penstock.Invalid, named: "PENSTOCK_PARAM_SPEC"},
		"a spec that isn't":   {env: [2]string{"PENSTOCK_PARAM_SPEC", "[]"}, want: penstock.Invalid, named: "JSON"},
		"no place for output": {spec: source("/"), env: [2]string{"PENSTOCK_OUTPUTS", ""}, want: penstock.Invalid, named: "PENSTOCK_OUTPUTS"},
		"no metrics":          {spec: source("/"), env: [2]string{"PENSTOCK_METRICS", ""}, want: penstock.Invalid, named: "PENSTOCK_METRICS"},
		"arguments":           {spec: source("/"), args: []string{"--fast"}, want: penstock.Invalid, named: "--fast"},
	} {
		t.Run(name, func(t *testing.T) {
			job(t, c.spec)
			if c.env[0] != "" {
				t.Setenv(c.env[0], c.env[1])
			}
			err := Main(t.Context(), c.args, &bytes.Buffer{})
			if penstock.CodeOf(err) != c.want || !strings.Contains(err.Error(), c.named) {
				t.Errorf("got %v, want %s that names %s", err, c.want, c.named)
			}
		})
	}
}

func TestAnAbsentFolderIsExplained(t *testing.T) {
	s := plain()
	s.Source.Path = "/no/such/folder"
	job(t, s)
	var e *penstock.Error
	if err := Main(t.Context(), nil, &bytes.Buffer{}); !errors.As(err, &e) || !strings.Contains(e.Hint, "machine that prepares") {
		t.Errorf("got %v with hint %q", err, e.Hint)
	}
}
