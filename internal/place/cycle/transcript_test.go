package cycle

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite what the transcripts expect")

// TestCyclesAreAsTheTranscriptsSay runs each scenario in testdata. What they may
// say is told at the type scenario.
func TestCyclesAreAsTheTranscriptsSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runTranscript(t, file) })
	}
}

func runTranscript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	c, answer := newScenario(), false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if answer { // the old one is left out
			answer = line != ""
			continue
		}
		got.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if said := c.run(t, line); said != "" {
			got.WriteString("----\n" + said + "\n")
			answer = true
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), got.String()); diff != "" {
		t.Errorf("run with -update if this is right (-transcript +now):\n%s", diff)
	}
}
