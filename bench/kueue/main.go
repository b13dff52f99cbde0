// Command kueue runs Kueue's own scheduler performance configurations through
// Penstock's core in virtual time: the same cohorts, queues, quotas, arrivals and
// run times (kubernetes-sigs/kueue, test/performance/scheduler/configs at commit
// ff69552), with no API server, store or pods in between. What it measures is
// the core alone; Kueue's figures are those of a whole controller.
//
//	go run ./bench/kueue
//
// It prints a table and, as its last line, one JSON object: CPU-seconds on one
// core for each configuration. The exit status is 1 if one of them takes 10 s or
// more, or if a workload didn't finish.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"text/tabwriter"
)

const limit = 10.0 // CPU-seconds

type figures struct {
	Baseline float64 `json:"baseline_s"`
	Large    float64 `json:"large_s"`
	TAS      float64 `json:"tas_s"`
}

func main() {
	runtime.GOMAXPROCS(1)
	f, err := measure()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kueue:", err)
		os.Exit(1)
	}
	line, err := json.Marshal(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kueue:", err)
		os.Exit(1)
	}
	fmt.Printf("%s\n", line)
	if max(f.Baseline, f.Large, f.TAS) >= limit {
		os.Exit(1)
	}
}

func measure() (f figures, err error) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "config\tworkloads\tqueues\tCPU-s\tvirtual s\tfloor s\tcycles\tevictions\tmean wait s: large\tmedium\tsmall")
	for _, run := range []struct {
		config config
		figure *float64
	}{{baseline(), &f.Baseline}, {large(), &f.Large}, {tas(), &f.TAS}} {
		r, err := simulate(run.config)
		if err != nil {
			return f, fmt.Errorf("%s: %w", run.config.name, err)
		}
		*run.figure = r.cpu
		fmt.Fprintf(table, "%s\t%d\t%d\t%.2f\t%.1f\t%.1f\t%d\t%d\t%.2f\t%.2f\t%.2f\n", run.config.name, r.workloads, run.config.cohorts*run.config.queues,
			r.cpu, r.end.Seconds(), run.config.floor(), r.cycles, r.evictions, r.wait("large"), r.wait("medium"), r.wait("small"))
		table.Flush()
	}
	return f, nil
}

// cpu is the CPU-seconds that this process has used.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
