package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/sim/replay"
)

const head = "job_id,num_gpu,submit_time,iterations,model_name,iteration_time\n"

// TestTheOraclesComeOutAsPublished replays trace 1 by all policies; run itself
// fails if an oracle is more than 7 % off.
func TestTheOraclesComeOutAsPublished(t *testing.T) {
	if os.Getenv("PENSTOCK_TRACES") == "" {
		t.Setenv("PENSTOCK_TRACES", filepath.Join("..", "..", "..", "shared", "traces")) // a test runs in its own folder
	}
	path, err := replay.File("muri/trace1.csv")
	if err != nil {
		t.Skip(err) // the traces aren't part of the project
	}
	if err := run(io.Discard, path); err != nil {
		t.Error(err)
	}
}

func TestAnOracleThatIsOffIsNamed(t *testing.T) {
	printed := published()["trace1"]
	near, off := map[string]figures{}, map[string]figures{}
	for name, f := range printed {
		near[name], off[name] = figures{f.JCT * 1.069, f.Makespan}, figures{f.JCT * 1.071, f.Makespan}
	}
	if far := distant("trace1", near, printed); far != nil {
		t.Errorf("6.9 %% counts as far: %v", far)
	}
	if far := distant("trace1", off, printed); len(far) != 2 || !strings.HasPrefix(far[0], "srtf on trace1 (+7.10 %)") {
		t.Errorf("7.1 %% off gives %v; want srtf and srsf named", far)
	}
}

func TestAnyTraceOfTheFormatCanBeTried(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.csv")
	if err := os.WriteFile(path, []byte(head+"a,8,0,20,dqn,1000\nb,64,5000,100,gpt2,500\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(&out, path); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last map[string]map[string]figures
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("the last line is no JSON object: %v", err)
	}
	for _, p := range policies() {
		if f := last["mine"][p.name]; f.Makespan != 71 || f.JCT != 43 { // the mean of 20.3 and 66.05
			t.Errorf("%s: %+v, want a makespan of 20.3 s + 50.75 s and a mean of 43.175 s", p.name, f)
		}
	}
}

func TestATraceThatNoFleetCanRunIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wide.csv")
	if err := os.WriteFile(path, []byte(head+"a,65,0,1000,dqn,1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(io.Discard, path); err == nil || !strings.Contains(err.Error(), "wide.csv:2: job a wants 65 GPUs; the fleet has 64") {
		t.Errorf("it gave %v", err)
	}
}
