package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/pack"
)

// traces is openb's folder. Where it is absent the test is skipped, unless
// PENSTOCK_TRACES names the folder and PENSTOCK_CI asks for all tests.
func traces(t *testing.T) string {
	t.Helper()
	folder := tracesFolder()
	if _, err := os.Stat(folder); err != nil {
		if os.Getenv("PENSTOCK_TRACES") != "" && os.Getenv("PENSTOCK_CI") == "1" {
			t.Fatalf("PENSTOCK_TRACES promises openb's lists: %v", err)
		}
		t.Skipf("NOT TESTED: openb's lists aren't there: %v", err)
	}
	return folder
}

// TestOneListEqualsThePublishedRowsBitForBit replays one seed of the list with
// the most shapes under all deterministic policies.
func TestOneListEqualsThePublishedRowsBitForBit(t *testing.T) {
	folder := traces(t)
	f, err := readFleet(filepath.Join(folder, "openb_node_list_gpu_node.csv"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := readWorkload("gpuspec10", filepath.Join(folder, "openb_pod_list_gpuspec10.csv"), f)
	if err != nil {
		t.Fatal(err)
	}
	known, err := readPublished(filepath.Join(folder, "published_allocation.csv"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	var fgd, own figures
	for _, c := range contenders(f) {
		if !c.exact && c.name != "Penstock" {
			continue
		}
		runs, err := replaySeeds(f, w, c, 1)
		if err != nil {
			t.Fatal(err)
		}
		switch c.name {
		case "Penstock":
			own = summary(runs, nil)
			continue
		case "FGD":
			fgd = summary(runs, nil)
		}
		compared++
		want := known[publishedRun{"openb_pod_list_gpuspec10", c.published, firstSeed}]
		if diff := cmp.Diff(want, runs[0].curve); diff != "" {
			t.Errorf("%s (- published, + here): %s", c.name, diff)
		}
	}
	if compared != 5 {
		t.Errorf("%d policies were compared, want 5", compared)
	}
	if own.Mean < fgd.Mean+0.5 || own.FirstShortfall < fgd.FirstShortfall {
		t.Errorf("Penstock allocates %.2f %% and falls short at %.1f %%, FGD %.2f and %.1f", own.Mean, own.FirstShortfall, fgd.Mean, fgd.FirstShortfall)
	}
}

// write makes a small trace: two nodes, and pods in all forms.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const (
	nodeList = "sn,cpu_milli,memory_mib,gpu,model\nb,96000,393216,8,G2\na,104000,524288,2,T4\n"
	podList  = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n" +
		"p3,4000,1024,1,460,\np1,8000,2048,1,1000,T4\np2,2000,512,0,0,\np4,16000,4096,4,1000,G2|T4\n"
)

func TestAnyListsOfTheFormatAreReplayed(t *testing.T) {
	var out bytes.Buffer
	err := run(&out, options{Nodes: write(t, "nodes.csv", nodeList), Pods: write(t, "mine.csv", podList), Seeds: 2})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got map[string]map[string]struct {
		Mean           float64 `json:"mean"`
		SD             float64 `json:"sd"`
		FirstShortfall float64 `json:"first_shortfall"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("the last line is no JSON object: %v", err)
	}
	for _, policy := range []string{"Random", "DotProduct", "Clustering", "Packing", "BestFit", "FGD", "Spread", "Penstock", "Penstock-knows"} {
		if p := got["mine"][policy]; p.Mean <= 0 || p.FirstShortfall <= 0 {
			t.Errorf("%s is missing in %s", policy, lines[len(lines)-1])
		}
	}
}

func TestBadListsAreRefusedWithTheLine(t *testing.T) {
	good := func(name, text string) string { return write(t, name, text) }
	for _, c := range []struct{ nodes, pods, where string }{
		{"sn,cpu_milli,memory_mib,gpu,model\na,-1,1,1,X\n", podList, "nodes.csv:2"},
		{"sn,cpu_milli,memory_mib,gpu,model\na,1,1,65,X\n", podList, "nodes.csv:2"},
		{"sn,cpu_milli,memory_mib,gpu,model\na,1,1,0,X\n", podList, "nodes.csv"},
		{"sn,cpu_milli,memory_mib,gpu,model\n", podList, "nodes.csv"},
		{nodeList, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,1,1001\n", "pods.csv:2"},
		{nodeList, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,2,500\n", "pods.csv:2"},
		{nodeList, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,9e9,1,1,100\n", "pods.csv:2"},
		{nodeList, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,0,0\n", "pods.csv"},
	} {
		err := run(&bytes.Buffer{}, options{Nodes: good("nodes.csv", c.nodes), Pods: good("pods.csv", c.pods), Seeds: 1})
		if e := (*penstock.Error)(nil); !errors.As(err, &e) || !strings.HasSuffix(e.Where, c.where) || e.Hint == "" {
			t.Errorf("%v, want an error at %s with a hint", err, c.where)
		}
	}
}

func TestAMissingFolderIsSaidLoudly(t *testing.T) {
	t.Setenv("PENSTOCK_TRACES", t.TempDir())
	err := run(&bytes.Buffer{}, options{Seeds: 1})
	if err == nil || !strings.Contains(err.Error(), "NOTHING WAS REPLAYED") {
		t.Error(err)
	}
}

// TestWhatWantsAnUnknownModelFitsNowhere: the list of models isn't empty, so it
// must not turn into any.
func TestWhatWantsAnUnknownModelFitsNowhere(t *testing.T) {
	f, err := readFleet(write(t, "nodes.csv", nodeList))
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]pack.Types{"G2": 1, "T4": 2, "T4|G2|X": 3, "X": noType} {
		if got := f.typesOf(spec); got != want {
			t.Errorf("%s is %b, want %b", spec, got, want)
		}
	}
}

// TestMeansAddUpAsNumpyDoes: 1e16 swallows a 1 that is added to it, so that the
// order of adding shows.
func TestMeansAddUpAsNumpyDoes(t *testing.T) {
	a := make([]float64, 9)
	a[0], a[1], a[8] = 1e16, 1, 1
	if got := sum(a); got != 1e16 {
		t.Errorf("nine numbers add up to %v, want 1e16", got)
	}
	b := make([]float64, 16)
	b[0], b[1], b[9] = 1e16, 1, 1 // the second and the tenth meet before the first
	if got := sum(b); got != 1e16+2 {
		t.Errorf("sixteen numbers add up to %v, want 1e16+2", got)
	}
}

func TestShortfallIsTheFirstGapOverFifteenHundredths(t *testing.T) {
	steps := []step{{arrived: 500, allocated: 500, placed: true}, {arrived: 501, allocated: 500}, {arrived: 900, allocated: 899, placed: true}, {arrived: 902, allocated: 899}}
	if got := firstShortfall(steps, 1000); got != 90.2 {
		t.Errorf("first shortfall at %v %%, want 90.2", got)
	}
	if diff := cmp.Diff([]int{1}, failed(steps, 1000, 90)); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprintf("%.2f", curve(steps, 1000)[90]); got != "89.90" {
		t.Errorf("allocation at 90 %% is %s, want 89.90", got)
	}
}
