package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/sim/replay"
)

// TestTheFleetIsWhatTheBusiestDaysFill: 60 days with one job of a GPU-day each
// day, and on 28 of them nine more.
func TestTheFleetIsWhatTheBusiestDaysFill(t *testing.T) {
	var jobs []replay.Job
	for day := range 61 {
		n := 1
		if day >= 20 && day < 49 { // both ends of 28 days
			n = 10
		}
		for range n {
			jobs = append(jobs, replay.Job{GPUs: 1, Arrive: time.Duration(day) * 24 * time.Hour, Duration: 24 * time.Hour})
		}
	}
	l := loadOf(jobs)
	if l.from != 20*24*time.Hour || l.to != 48*24*time.Hour || math.Abs(l.peak-290.0/28) > 1e-9 || math.Abs(l.mean-(61+29*9)/60.0) > 1e-9 {
		t.Errorf("the load is %+v", l)
	}
	if l.nodes() != 2 { // 10.36 GPUs are 90 % of 11.5
		t.Errorf("%d nodes of 8 GPUs, want 2", l.nodes())
	}
	l.widest = 129
	if l.nodes() != 17 {
		t.Errorf("%d nodes for a job of 129 GPUs, want 17", l.nodes())
	}
}

// TestBorrowingServesNobodyWorse runs a small list end to end: one cluster's jobs
// come while the other has none.
func TestBorrowingServesNobodyWorse(t *testing.T) {
	var list strings.Builder
	list.WriteString("timestamp,duration,num_gpus,gpu_time,cluster\n")
	for i := range 16 {
		fmt.Fprintf(&list, "2017-10-09 0%d:00:00,3600.0,8,28800.0,%s\n", i/8*5, []string{"a", "b"}[i/8])
	}
	path := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(&out, path, 2); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last report
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("the last line is no JSON object: %v", err)
	}
	shared, own := last.Arms["borrow-backfill"], last.Arms["own-backfill"]
	// Two at a time wait 0, 0, 1, 1, 2, 2, 3, 3 hours; one at a time 0 to 7 hours.
	if last.Jobs != 16 || last.Clusters != 2 || last.Quota != 16 || shared.Wait.Mean != 1.5*3600 || own.Wait.Mean != 3.5*3600 || shared.Worst >= 1 {
		t.Errorf("the figures are %+v", last)
	}
}
