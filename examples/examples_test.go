// Package examples has no code: its test holds that what a newcomer copies is accepted.
package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
)

// parse reads the objects of one manifest.
func parse(t *testing.T, path string) []v1.Object {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := spec.Parse(path, text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return objects
}

func TestEveryManifestIsAccepted(t *testing.T) {
	seen := map[penstock.Ref]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		for _, o := range parse(t, path) {
			if other := seen[o.Ref()]; other != "" {
				t.Errorf("%s is in %s and in %s", o.Ref(), other, path)
			}
			seen[o.Ref()] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 10 {
		t.Errorf("found %d objects, want 10 at least", len(seen))
	}
}

// Training is reproducible to the last bit: with the same seed as well, a new
// run would give the same version.
func TestRetrainingRunsTheJobsOfTheTourWithAnotherSeed(t *testing.T) {
	pipeline, err := v1.As[v1.PipelineSpec, v1.PipelineStatus](parse(t, "tour/pipeline.yaml")[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"train", "evaluate"} {
		job, err := v1.As[v1.JobSpec, v1.JobStatus](parse(t, "tour/"+name+".yaml")[0])
		if err != nil {
			t.Fatal(err)
		}
		step := pipeline.Spec.Steps[i]
		if step.Name != name {
			t.Errorf("step %d is %s, want %s", i, step.Name, name)
		}
		if job.Spec.Feed != nil {
			if job.Spec.Feed.Seed == step.Job.Feed.Seed {
				t.Errorf("step %s has the seed of %s.yaml, %d", name, name, step.Job.Feed.Seed)
			}
			step.Job.Feed.Seed = job.Spec.Feed.Seed
		}
		if diff := cmp.Diff(job.Spec, step.Job); diff != "" {
			t.Errorf("step %s differs from %s.yaml (-job +step):\n%s", name, name, diff)
		}
	}
}
