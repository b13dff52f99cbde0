// Command kubernetes measures Penstock's placement beside kube-scheduler's, on
// one real Kubernetes with 500 fake GPU nodes, one after the other in one run,
// with the same jobs: of one GPU to sixteen, gangs among them.
//
//	go run ./bench/kubernetes
//
// On Penstock's side its control plane runs in this process, on SQLite and the
// Kubernetes executor that places pods itself; since nothing runs in the pods of
// fake nodes, the agents are played. On the other side Kubernetes gets a plain
// Job for each job, Indexed ones for gangs, and does all by itself.
//
// A witness watches the pods of the whole cluster and holds every node's GPUs
// against the live pods that are bound to it: double_booked is how often more
// were bound than there are. The last line is one JSON object; calls_per_job
// counts the placing program and who submits. It needs root, for hack/cluster,
// which it starts if it must and leaves up. The exit status is 1 if a job of
// Penstock's didn't complete or a GPU was given away twice.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// options say how much is measured.
type options struct {
	Jobs  int
	Nodes int
	Run   time.Duration // of a job, about
	Limit time.Duration // for each side
}

// figures are what came of one side's jobs. Rates are per second of wall time.
type figures struct {
	Jobs         int     `json:"jobs"`
	Completed    int     `json:"completed"`
	DoubleBooked int     `json:"double_booked"`
	BindingsPerS float64 `json:"bindings_per_s"`
	CallsPerJob  float64 `json:"calls_per_job"`
}

func main() {
	var o options
	flag.IntVar(&o.Jobs, "jobs", 2000, "how many jobs each side runs")
	flag.IntVar(&o.Nodes, "nodes", 500, "how many fake nodes of eight GPUs there are")
	flag.DurationVar(&o.Run, "run", 5*time.Second, "how long a job runs, about")
	flag.DurationVar(&o.Limit, "limit", 20*time.Minute, "how long each side may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	good, err := measure(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

func measure(ctx context.Context, o options) (good bool, err error) {
	c, err := bringUp(ctx, o.Nodes)
	if err != nil {
		return false, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return false, fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1 // who submits and who watches isn't what is measured
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return false, err
	}
	jobs := workload(o.Jobs, o.Run)
	pods, gpus, gangs := sum(jobs)
	fmt.Printf("%d jobs, %d of them gangs: %d pods, %d GPUs, on %d nodes; %d CPUs, load %s\n",
		len(jobs), gangs, pods, gpus, o.Nodes, runtime.NumCPU(), load())
	m := measurement{options: o, cluster: c, config: config, client: client, jobs: jobs, own: countOwn()}
	scheduler, err := m.side(ctx, side{"kube-scheduler", "kube-scheduler", byScheduler})
	if err != nil {
		return false, err
	}
	penstock, err := m.side(ctx, side{"penstock", "", byPenstock})
	if err != nil {
		return false, err
	}
	if err := table(os.Stdout, scheduler, penstock); err != nil {
		return false, err
	}
	line, err := json.Marshal(struct {
		figures
		KubeScheduler figures `json:"kube_scheduler"`
	}{penstock.figures, scheduler.figures})
	fmt.Printf("%s\n", line)
	return penstock.Completed == penstock.Jobs && penstock.DoubleBooked == 0, err
}

// measurement is what both sides have in common.
type measurement struct {
	options
	cluster cluster
	config  *rest.Config
	client  kubernetes.Interface
	jobs    []job
	own     *counter
}

// side is one way to have the jobs run.
type side struct {
	name string
	// placer is the program that places, a key of calls, where it isn't this one.
	placer string
	// do runs the jobs and tells how many completed.
	do func(ctx context.Context, m measurement) (completed int, err error)
}

// result is what was measured of a side.
type result struct {
	figures
	name    string
	seconds float64 // from the first submission to the last completion
	load    string
	calls   calls
	cpu     map[string]float64
}

func (m measurement) side(ctx context.Context, s side) (result, error) {
	r := result{name: s.name, figures: figures{Jobs: len(m.jobs)}}
	if err := clean(ctx, m.client); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.Limit, fmt.Errorf("it took longer than %s", m.Limit))
	defer cancel()
	w, err := newWitness(unmeasured(ctx), m.client)
	if err != nil {
		return r, err
	}
	before, cpuBefore, err := m.count(ctx)
	if err != nil {
		return r, err
	}
	began, own := time.Now(), m.own.Load()
	completed, err := s.do(ctx, m)
	if err != nil {
		return r, err
	}
	r.seconds, r.load = time.Since(began).Seconds(), load()
	after, cpuAfter, err := m.count(ctx)
	if err != nil {
		return r, err
	}
	seen, err := w.testify()
	if err != nil {
		return r, err
	}
	r.Completed, r.DoubleBooked = completed, seen.DoubleBooked
	r.BindingsPerS = float64(seen.Bindings) / seen.Last.Sub(began).Seconds()
	r.calls, r.cpu = less(after, before), less(cpuAfter, cpuBefore)
	r.CallsPerJob = (r.calls[s.placer] + float64(m.own.Load()-own)) / float64(len(m.jobs))
	return r, clean(ctx, m.client)
}

func (m measurement) count(ctx context.Context) (calls, map[string]float64, error) {
	n, err := countCalls(ctx, m.cluster, m.config)
	if err != nil {
		return nil, nil, err
	}
	used, err := m.cluster.cpu()
	return n, used, err
}

func less[M ~map[string]float64](a, b M) M {
	d := M{}
	for name := range a {
		d[name] = a[name] - b[name]
	}
	return d
}

func table(out io.Writer, sides ...result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, of func(result) string) {
		fmt.Fprint(w, what)
		for _, s := range sides {
			fmt.Fprint(w, "\t", of(s))
		}
		fmt.Fprint(w, "\t\n")
	}
	row("", func(r result) string { return r.name })
	row("jobs", func(r result) string { return fmt.Sprint(r.Jobs) })
	row("completed", func(r result) string { return fmt.Sprint(r.Completed) })
	row("double booked", func(r result) string { return fmt.Sprint(r.DoubleBooked) })
	row("seconds in all", func(r result) string { return fmt.Sprintf("%.1f", r.seconds) })
	row("bindings/s", func(r result) string { return fmt.Sprintf("%.1f", r.BindingsPerS) })
	row("calls/job, placer and submitter", func(r result) string { return fmt.Sprintf("%.1f", r.CallsPerJob) })
	for _, name := range slices.Sorted(maps.Keys(sides[0].calls)) {
		row("calls/job, "+name, func(r result) string { return fmt.Sprintf("%.1f", r.calls[name]/float64(r.Jobs)) })
	}
	for _, name := range slices.Sorted(maps.Keys(sides[0].cpu)) {
		row("CPU s, "+name, func(r result) string { return fmt.Sprintf("%.1f", r.cpu[name]) })
	}
	row("load at the end", func(r result) string { return r.load })
	return w.Flush()
}
