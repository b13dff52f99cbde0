// Command philly replays the job list of Microsoft's Philly cluster (Jeon et al.,
// ATC'19; 82,247 jobs of 15 virtual clusters) through the production scheduler,
// with and without borrowing between the clusters, and with and without backfill.
//
//	go run ./bench/philly [-trace FILE] [-nodes N]
//
// The list says when a job came, for how long it ran and on how many GPUs, and
// not what machines there were. So the fleet is nodes of 8 GPUs, as many as make
// the work that came in the busiest 28 days 90 % of what they can do in 28 days.
// A virtual cluster is a queue whose quota is its part of the fleet by the
// GPU-seconds of its jobs, but never less than its widest job, so that each can
// run without borrowing; the others then share the rest.
//
// The scheduler's policy is its default, and it isn't told how long a job will
// run. A strict queue lets nobody pass who waits for room; who waits for quota is
// passed in any case, so that without borrowing, where quota is all that is
// waited for, strictness changes nothing. A job that gives way loses the work
// since its last checkpoint, of which there is one every 30 minutes, and starts
// again in 60 s.
//
// Without -trace it takes philly/philly.csv from $PENSTOCK_TRACES, by default
// ../shared/traces. The last line is one JSON object with the figures of the table.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

func main() {
	trace := flag.String("trace", "", "a job list of the same format, instead of Philly's own")
	nodes := flag.Int("nodes", 0, "how many nodes of 8 GPUs there are; 0 is what the busiest 28 days fill to 90 %")
	flag.Parse()
	if err := run(os.Stdout, *trace, *nodes); err != nil {
		hint := ""
		if e := (*penstock.Error)(nil); errors.As(err, &e) && e.Hint != "" {
			hint = "; " + e.Hint
		}
		fmt.Fprintf(os.Stderr, "philly: %v%s\n", err, hint)
		os.Exit(1)
	}
}

// report is the last line.
type report struct {
	Jobs     int                `json:"jobs"`
	Clusters int                `json:"clusters"`
	Nodes    int                `json:"nodes"`
	GPUs     int                `json:"gpus"`
	Quota    int                `json:"quota_gpus"`
	Offered  float64            `json:"offered_load"`
	Busiest  float64            `json:"offered_load_busiest_28d"`
	Arms     map[string]figures `json:"arms"`
}

func run(out io.Writer, file string, nodes int) error {
	if file == "" {
		var err error
		if file, err = replay.File("philly/philly.csv"); err != nil {
			return err
		}
	}
	jobs, err := replay.Read(file, replay.ReadPhilly)
	if err != nil {
		return err
	}
	load := loadOf(jobs)
	if nodes <= 0 {
		nodes = load.nodes()
	}
	queues := core.Quotas(jobs, nodes*width)
	r := report{Jobs: len(jobs), Clusters: len(queues), Nodes: nodes, GPUs: nodes * width, Arms: map[string]figures{}}
	r.Offered, r.Busiest = load.mean/float64(r.GPUs), load.peak/float64(r.GPUs)
	for _, q := range queues {
		r.Quota += q.Nominal
	}
	fmt.Fprintf(out, "%d jobs of %d virtual clusters on %d nodes of %d GPUs = %d; quotas %d GPUs in all\n", r.Jobs, r.Clusters, nodes, width, r.GPUs, r.Quota)
	fmt.Fprintf(out, "offered load %.1f %% over all, %.1f %% in the busiest days, %s to %s of the trace\n",
		100*r.Offered, 100*r.Busiest, days(load.from), days(load.to))
	done, err := replayed(jobs, queues, nodes)
	if err != nil {
		return fmt.Errorf("replay %s: %w", file, err)
	}
	for i, a := range arms() {
		r.Arms[a.name] = done.figures(i, load)
	}
	if err := errors.Join(r.print(out), done.clusters(out, queues)); err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

func days(d time.Duration) string { return fmt.Sprintf("day %.1f", d.Hours()/24) }

// print shows what the arms came to, side by side.
func (r report) print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\twait s mean\tp50\tp95\tp99\tJCT s mean\theld, busiest\theld, all\tpace, Jain\trho mean\tworst\tstops\tlost GPU-h\tcycles\tCPU s\t")
	for _, a := range arms() {
		f := r.Arms[a.name]
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f %%\t%.1f %%\t%.3f\t%.3f\t%.3f\t%d\t%.0f\t%d\t%.1f\t\n", a.name,
			f.Wait.Mean, f.Wait.P50, f.Wait.P95, f.Wait.P99, f.JCT, 100*f.Peak, 100*f.Held, f.Jain, f.Rho, f.Worst, f.Stops, f.Lost, f.Cycles, f.CPU)
	}
	return table.Flush()
}

// clusters prints how each virtual cluster fared.
func (d outcomes) clusters(out io.Writer, queues []core.Queue) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "cluster\tjobs\tGPU-h\tquota\t")
	for _, a := range arms() {
		fmt.Fprintf(table, "wait s, %s\t", a.name)
	}
	fmt.Fprintln(table)
	for i, q := range d[0].result.Queues() {
		fmt.Fprintf(table, "%s\t%d\t%.0f\t%d\t", q.Name, q.Jobs, q.GPUSeconds/3600, queues[i].Nominal)
		for _, o := range d {
			fmt.Fprintf(table, "%.0f\t", o.result.Queues()[i].Wait)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
