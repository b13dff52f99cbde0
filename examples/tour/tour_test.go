package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

func TestTheTourGoesAllTheWay(t *testing.T) {
	repository := filepath.Join("..", "..")
	if err := missing(repository); err != nil {
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED: %s", err)
	}
	dir := t.TempDir()
	if err := run(t.Context(), options{Root: repository, Dir: dir, Out: t.Output(), Pace: fast}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("<h2>")); n != len(steps()) {
		t.Errorf("the report tells of %d steps, want %d", n, len(steps()))
	}
}

// alone finds what a page would fetch from elsewhere.
var alone = regexp.MustCompile(`(?i)<(script|link|img|iframe)|src=|url\(|@import`)

func TestTheReportNeedsNothingFromElsewhere(t *testing.T) {
	r := report{
		Curve: [2][]dot{{{1, 5.5}, {2, 4}}, {{2, 4}, {3, 3}}}, Kill: kill{Step: 2, From: 1, Away: time.Second},
		Latency: latency{TTFT: times{1e6, 2e6}, Whole: times{3e6}},
		Drift:   v1.MonitorStatus{Signals: []v1.SignalStatus{{Name: "<b>", Bins: []float64{32}, Reference: []int64{4, 0}, Current: []int64{0, 4}}}},
	}
	for i, s := range steps() {
		r.Steps = append(r.Steps, told{Number: i + 1, Title: s.title, Facts: []string{"a < b"}})
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if found := alone.Find(page); found != nil {
		t.Errorf("the page has %q", found)
	}
	for _, want := range []string{"worker killed after step 2", "resumed whole from step 1", "a &lt; b", "&lt;b&gt;: PSI"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := bytes.Count(page, []byte("<svg")); n != 4 {
		t.Errorf("the page has %d plots, want loss, two histograms and one signal", n)
	}
}

// Chance must raise no alert: whatever window is looked at, the usual requests
// have the same mix of short and middling prompts.
func TestUsualRequestsKeepTheirMix(t *testing.T) {
	var kept []ask
	for _, a := range usual(300) {
		if !a.Abort {
			kept = append(kept, a)
		}
	}
	for i := range len(kept) - 40 {
		short := 0
		for _, a := range kept[i : i+40] {
			if len(a.Prompt) < 32 {
				short++
			}
		}
		if short < 18 || short > 22 {
			t.Errorf("of the requests %d to %d, %d have short prompts", i, i+40, short)
		}
	}
	for _, a := range shifted(8) {
		if len(a.Prompt) <= 96 {
			t.Errorf("a shifted request has a prompt of %d bytes", len(a.Prompt))
		}
	}
}

func TestTheClientCountsWhatItGotAndBoundsWhatItLeft(t *testing.T) {
	replies := []reply{
		{ask: ask{Prompt: "a"}, Prompted: 3, Completed: 10},
		{ask: ask{Prompt: "a", Stream: true, Abort: true, MaxTokens: 50}, Chunks: 3},
		{ask: ask{Prompt: "b", Stream: true}, Prompted: 5, Completed: 7, Chunks: 7},
	}
	seen, least, most := clientCounts(replies)
	if want := (counts{Requests: 3, Succeeded: 2, Prompt: 11, Completion: 17}); seen != want || least != 3 || most != 50 {
		t.Errorf("counted %+v, between %d and %d; want %+v, between 3 and 50", seen, least, most, want)
	}
}
