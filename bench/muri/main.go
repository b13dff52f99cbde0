// Command muri replays the job traces of Muri (Zhao et al., SIGCOMM'22) on its
// 8 nodes of 8 GPUs, and sets the results beside those that its authors printed
// (simulator/draw_fig9-10.py of github.com/Rivendile/Muri).
//
//	go run ./bench/muri [-trace FILE]
//
// SRTF and SRSF know how long every job will work. They are there to show that
// the replay is right: a mean completion time more than 7 % from the printed one
// is an exit status of 1. Penstock knows no durations, each start but the first
// costs it 60 s, and it is the production scheduler that decides:
//
//   - penstock runs it by least attained service: a job's priority falls by one
//     whenever the GPU-time that it has had is four times as much as at the last
//     fall, from 1 GPU-hour on, and jobs of higher priority have others give way.
//     The replay sets these priorities; the scheduler's policy is its default.
//   - penstock-arrival is that default alone: the order of arrival, with backfill.
//
// Without -trace it takes traces 1, 1' and 2 from $PENSTOCK_TRACES, by default
// ../shared/traces. The last line is one JSON object:
// {"<trace>":{"<policy>":{"avg_jct_s":…,"makespan_s":…}}}.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/sim/replay"
)

func main() {
	trace := flag.String("trace", "", "a trace of the same format, instead of Muri's 1, 1' and 2")
	flag.Parse()
	if err := run(os.Stdout, *trace); err != nil {
		hint := ""
		if e := (*penstock.Error)(nil); errors.As(err, &e) && e.Hint != "" {
			hint = "; " + e.Hint
		}
		fmt.Fprintf(os.Stderr, "muri: %v%s\n", err, hint)
		os.Exit(1)
	}
}

// figures are what came of a policy on a trace.
type figures struct {
	JCT      float64 `json:"avg_jct_s"`
	Makespan float64 `json:"makespan_s"`
}

func run(out io.Writer, file string) error {
	files := []string{file}
	if file == "" {
		files = nil
		for _, name := range []string{"trace1", "trace1_pr", "trace2"} {
			path, err := replay.File("muri/" + name + ".csv")
			if err != nil {
				return err
			}
			files = append(files, path)
		}
	}
	all, far := map[string]map[string]figures{}, []string(nil)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".csv")
		jobs, err := replay.Read(path, replay.ReadMuri)
		if err != nil {
			return err
		}
		if all[name], err = compare(out, name, jobs, published()[name]); err != nil {
			return fmt.Errorf("replay %s: %w", path, err)
		}
		far = append(far, distant(name, all[name], published()[name])...)
	}
	line, err := json.Marshal(all)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n", line)
	if len(far) > 0 {
		return fmt.Errorf("not within %.0f %% of what was published: %s", reach*100, strings.Join(far, ", "))
	}
	return nil
}

// compare replays one trace by every policy and prints a table.
func compare(out io.Writer, trace string, jobs []replay.Job, printed map[string]figures) (map[string]figures, error) {
	ours := map[string]figures{}
	fmt.Fprintf(out, "%s: %d jobs on %d nodes of %d GPUs\n", trace, len(jobs), nodes, width)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "policy\tmean JCT s\tpublished\tdiffers\tmakespan s\tpublished\tdiffers\tp99 JCT s\tGPUs held\tstops\tlost GPU-h\t")
	for _, p := range policies() {
		r, err := p.replay(jobs)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.name, err)
		}
		s, told := r.Spread(replay.Record.JCT), printed[p.name]
		f := figures{math.Round(s.Mean), math.Round(r.Makespan().Seconds())}
		ours[p.name] = f
		fmt.Fprintf(table, "%s\t%.0f\t%s\t%s\t%.0f\t%s\t%s\t%.0f\t%.1f %%\t%d\t%.0f\t\n", p.name,
			f.JCT, number(told.JCT), differs(f.JCT, told.JCT), f.Makespan, number(told.Makespan), differs(f.Makespan, told.Makespan),
			s.P99, 100*r.Utilisation(0, r.Makespan()), r.Stops(), r.LostGPUSeconds()/3600)
	}
	others := make([]string, 0, len(printed))
	for name := range printed {
		if _, replayed := ours[name]; !replayed {
			others = append(others, name)
		}
	}
	slices.SortFunc(others, func(a, b string) int { return cmp.Compare(printed[b].JCT, printed[a].JCT) })
	for _, name := range others {
		fmt.Fprintf(table, "%s\t-\t%s\t-\t-\t%s\t-\t-\t-\t-\t-\t\n", name, number(printed[name].JCT), number(printed[name].Makespan))
	}
	return ours, table.Flush()
}

// reach is how far from the printed completion time a replayed policy may be.
const reach = 0.07

// distant lists which policies are further away.
func distant(trace string, ours, printed map[string]figures) []string {
	var far []string
	for _, p := range policies() {
		if told := printed[p.name].JCT; told > 0 && math.Abs(ours[p.name].JCT/told-1) > reach {
			far = append(far, fmt.Sprintf("%s on %s (%s)", p.name, trace, differs(ours[p.name].JCT, told)))
		}
	}
	return far
}

func number(x float64) string {
	if x == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", x)
}

func differs(ours, told float64) string {
	if told == 0 {
		return "-"
	}
	return fmt.Sprintf("%+.2f %%", 100*(ours/told-1))
}
