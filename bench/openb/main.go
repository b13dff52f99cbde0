// Command openb replays the FGD paper's packing experiment (Weng et al., Beware
// of Fragmentation, ATC'23) on Alibaba's openb lists with our own policies.
//
//	go run ./bench/openb [-nodes FILE -pods FILE] [-seeds N]
//
// Without files it takes all five pod lists in $PENSTOCK_TRACES, by default
// ../shared/traces beside the repository. Pods arrive in a random order until
// 130 % of the fleet's GPUs are asked for; who fits nowhere is dropped, nobody
// leaves, and what counts is how much of the GPUs is allocated. Seeds are 42 and
// up, and all draws are those of the authors' simulator, so that the five
// deterministic policies can be compared with its published numbers cell by
// cell. Random can't: there the authors' draws follow a concurrent filter.
//
// Penstock is the default policy: it starts from a prior and learns from what
// arrives. Penstock-knows is told the list beforehand, as FGD is.
//
// Columns: mean and standard deviation of the allocation at 130 % of demand, in
// percent of all GPUs; the published mean; the demand at which more than 0.15
// points were missing first; how many pods failed up to 95 % of demand, and how
// many of those FGD had placed; CPU seconds of a run, of this whole process.
// The last line is one JSON object.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/penstock/penstock"
)

// firstSeed is the first of the published ones.
const firstSeed = 42

// options say what is replayed.
type options struct {
	Nodes, Pods string // files; both empty for all that is in the traces' folder
	Seeds       int
}

func main() {
	var o options
	flag.StringVar(&o.Nodes, "nodes", "", "a node list (CSV) in place of openb's")
	flag.StringVar(&o.Pods, "pods", "", "a pod list (CSV) in place of openb's five")
	flag.IntVar(&o.Seeds, "seeds", 10, "how many seeds, from 42 on")
	flag.Parse()
	if err := run(os.Stdout, o); err != nil {
		line := "openb: " + err.Error()
		if e := (*penstock.Error)(nil); errors.As(err, &e) && e.Hint != "" {
			line += "; " + e.Hint
		}
		fmt.Fprintln(os.Stderr, line)
		os.Exit(1)
	}
}

func run(out io.Writer, o options) error {
	if o.Seeds < 1 || o.Seeds > 1000 {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%d seeds", o.Seeds), Hint: "take 1 to 1000"}
	}
	files, err := inputs(o)
	if err != nil {
		return err
	}
	f, err := readFleet(files.nodes)
	if err != nil {
		return err
	}
	known := published{}
	if files.published != "" {
		if known, err = readPublished(files.published); err != nil {
			return err
		}
	}
	results := map[string]map[string]figures{}
	for _, file := range files.pods {
		w, err := readWorkload(listName(file), file, f)
		if err != nil {
			return err
		}
		if results[w.name], err = replayList(out, f, w, known, o.Seeds); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(results)
}

// figures are one policy's on one list, over all seeds.
type figures struct {
	Mean           float64 `json:"mean"`
	SD             float64 `json:"sd"`
	FirstShortfall float64 `json:"first_shortfall"`
	Failed95       float64 `json:"failed_95"`         // pods a seed
	Beside95       float64 `json:"failed_95_not_fgd"` // of these, placed by FGD
	CPU            float64 `json:"cpu_s"`
}

func replayList(out io.Writer, f *fleet, w *workload, known published, seeds int) (map[string]figures, error) {
	fmt.Fprintf(out, "%s: %d pods, %d nodes, %d GPUs, %d seeds\n", w.name, len(w.pods), len(f.nodes), f.milli/1000, seeds)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "policy\tmean\tsd\tpublished\tfirst shortfall\tfailed by 95 %\tnot by FGD\tCPU-s\t")
	all := map[string]figures{}
	var equal, of int
	fgd := map[int64][]int{} // what failed under FGD by 95 %, by seed
	for _, c := range inOrder(contenders(f)) {
		runs, err := replaySeeds(f, w, c, seeds)
		if err != nil {
			return nil, err
		}
		var theirs []float64
		for _, r := range runs {
			run := publishedRun{"openb_pod_list_" + w.name, c.published, r.seed}
			if curve, there := known[run]; there {
				theirs = append(theirs, curve[columns-1])
			}
			if c.exact {
				e, n := known.equalCells(run, r.curve)
				equal, of = equal+e, of+n
			}
			if c.name == "FGD" {
				fgd[r.seed] = r.failed
			}
		}
		all[c.name] = summary(runs, fgd)
		printRow(table, c.name, all[c.name], theirs)
	}
	if err := table.Flush(); err != nil {
		return nil, err
	}
	if of > 0 {
		fmt.Fprintf(out, "of the five deterministic policies' published cells, %d of %d are equal\n", equal, of)
	}
	fmt.Fprintln(out)
	return all, nil
}

// inOrder puts FGD first: the others' failures are held against its.
func inOrder(all []contender) []contender {
	for i := range all {
		if all[i].name == "FGD" {
			all[0], all[i] = all[i], all[0]
		}
	}
	return all
}

func printRow(table io.Writer, name string, f figures, theirs []float64) {
	publishedMean := "-"
	if len(theirs) > 0 {
		mean, _ := meanAndDeviation(theirs)
		publishedMean = fmt.Sprintf("%.2f", mean)
	}
	fmt.Fprintf(table, "%s\t%.2f\t%.2f\t%s\t%.1f\t%.1f\t%.1f\t%.2f\t\n", name, f.Mean, f.SD, publishedMean, f.FirstShortfall, f.Failed95, f.Beside95, f.CPU)
}

// outcome is one run.
type outcome struct {
	seed      int64
	curve     [columns]float64
	shortfall float64
	failed    []int // arrivals up to 95 % of demand
	cpu       time.Duration
}

func replaySeeds(f *fleet, w *workload, c contender, seeds int) ([]outcome, error) {
	var runs []outcome
	for seed := int64(firstSeed); seed < int64(firstSeed+seeds); seed++ {
		s, before := newScenario(f, w, seed), cpuTime()
		chooser, err := c.new(f, w, s)
		if err != nil {
			return nil, err
		}
		steps, err := replay(s.arrivals, chooser)
		if err != nil {
			return nil, err
		}
		runs = append(runs, outcome{seed, curve(steps, f.milli), firstShortfall(steps, f.milli), failed(steps, f.milli, 95), cpuTime() - before})
	}
	return runs, nil
}

func summary(runs []outcome, fgd map[int64][]int) figures {
	var means, shortfalls []float64
	var f figures
	n := float64(len(runs))
	for _, r := range runs {
		means, shortfalls = append(means, r.curve[columns-1]), append(shortfalls, r.shortfall)
		f.CPU += r.cpu.Seconds() / n
		f.Failed95 += float64(len(r.failed)) / n
		f.Beside95 += float64(lostBeside(r.failed, fgd[r.seed])) / n
	}
	f.Mean, f.SD = meanAndDeviation(means)
	f.FirstShortfall, _ = meanAndDeviation(shortfalls)
	return f
}

// cpuTime is what this process used: user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// listName is "default" for openb_pod_list_default.csv.
func listName(file string) string {
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "openb_pod_list_"), ".csv")
}
