package spec

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

var update = flag.Bool("update", false, "rewrite the transcripts and the reference")

// TestManifestsReadAsTheTranscriptsSay runs each manifest in testdata and
// compares what came of it: the completed objects, or the errors with their
// hints, as the command line shows them.
func TestManifestsReadAsTheTranscriptsSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runTranscript(t, file) })
	}
}

func runTranscript(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		if !strings.HasSuffix(f.Name, ".yaml") && !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		result := txtar.File{Name: f.Name + ".out", Data: []byte(outcome(t, f.Name, f.Data))}
		out.Files = append(out.Files, f, result)
	}
	got := string(txtar.Format(out))
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(txtar.Format(archive)), got); diff != "" {
		t.Errorf("run with -update if this is right (-transcript +now):\n%s", diff)
	}
}

// outcome is what Parse, and then CheckSet and CheckAccelerators for pools with
// h100 and a100, say to a manifest.
func outcome(t *testing.T, name string, data []byte) string {
	objs, err := Parse(name, data)
	if err == nil {
		err = CheckSet(objs)
	}
	for _, o := range objs {
		if err == nil {
			err = CheckAccelerators(o, []penstock.Resource{"h100", "a100"})
		}
	}
	if err != nil {
		return render(t, err)
	}
	return rendered(t, objs)
}

func rendered(t *testing.T, objs []v1.Object) string {
	b, err := Marshal(objs)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func render(t *testing.T, err error) string {
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("%v is %T, not Errors", err, err)
	}
	var b strings.Builder
	for _, e := range all {
		if e.Code != penstock.Invalid {
			t.Errorf("%v has code %s", e, e.Code)
		}
		b.WriteString("error: " + e.Error() + "\n")
		if e.Hint != "" {
			b.WriteString("  hint: " + e.Hint + "\n")
		}
	}
	return b.String()
}
