package main

import (
	"fmt"
	"math"
	"slices"
	"syscall"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

const (
	width      = 8                // GPUs of a node
	restart    = time.Minute      // what it costs a job to start again
	checkpoint = 30 * time.Minute // from one to the next
	asked      = 5 * time.Minute  // how often the loop runs at least, while a job waits
	window     = 28 * 24 * time.Hour
	fill       = 0.9 // of the fleet, by the work of the busiest window
	parts      = 20  // of the curve of use
)

// arm is one way to run the fleet.
type arm struct {
	name    string
	borrows core.Borrows
	passing cycle.Passing
}

func arms() []arm {
	return []arm{
		{"borrow-backfill", core.Everything, cycle.Backfill},
		{"borrow-strict", core.Everything, cycle.Strict},
		{"own-backfill", core.Nothing, cycle.Backfill},
		{"own-strict", core.Nothing, cycle.Strict},
	}
}

// outcome is what came of an arm.
type outcome struct {
	arm
	result *replay.Result
	cpu    time.Duration
}

type outcomes []outcome

// replayed runs all arms, one after the other, so that each has its CPU time.
func replayed(jobs []replay.Job, queues []core.Queue, nodes int) (outcomes, error) {
	for i := range jobs {
		jobs[i].Restart, jobs[i].Checkpoint = restart, checkpoint
	}
	var done outcomes
	for _, a := range arms() {
		its := slices.Clone(queues)
		for i := range its {
			its[i].Borrows, its[i].Passing = a.borrows, a.passing
		}
		fleet := replay.Nodes(nodes, width)
		s, err := core.New(cycle.Defaults(), fleet, its, nil)
		if err != nil {
			return nil, err
		}
		began, err := cpu()
		if err != nil {
			return nil, err
		}
		r, err := replay.Run(jobs, fleet, s, replay.Options{Every: asked})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		ended, err := cpu()
		if err != nil {
			return nil, err
		}
		done = append(done, outcome{a, r, ended - began})
	}
	return done, nil
}

// cpu is what the process has used, system calls included.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// figures are those of an arm. Held is which part of the GPUs was held until the
// last job came, Peak the same in the busiest days, Curve in each of equal parts
// of the time to the end of the last job. Jain is the index over the
// clusters' paces; Rho and Worst are the mean and the largest of their
// finish-time fairness against the arm without borrowing.
type figures struct {
	Wait   replay.Spread `json:"wait"`
	JCT    float64       `json:"avg_jct_s"`
	Held   float64       `json:"utilisation"`
	Peak   float64       `json:"utilisation_busiest_28d"`
	Curve  []float64     `json:"utilisation_over_time"`
	Jain   float64       `json:"jain"`
	Rho    float64       `json:"rho_mean"`
	Worst  float64       `json:"rho_worst"`
	Stops  int           `json:"evictions"`
	Lost   float64       `json:"lost_gpu_h"`
	Cycles int           `json:"cycles"`
	CPU    float64       `json:"cpu_s"`
}

func (d outcomes) figures(i int, l load) figures {
	o, r := d[i], d[i].result
	alone := slices.IndexFunc(d, func(a outcome) bool { return a.borrows == core.Nothing && a.passing == o.passing })
	rho := r.Rho(d[alone].result)
	var pace []float64
	for _, q := range r.Queues() {
		pace = append(pace, q.Pace)
	}
	return figures{
		Wait: r.Spread(replay.Record.Wait), JCT: r.Spread(replay.Record.JCT).Mean,
		Held: r.Utilisation(0, l.span), Peak: r.Utilisation(l.from, l.to), Curve: r.Curve(parts),
		Jain: replay.Jain(pace), Rho: stat.Mean(rho, nil), Worst: slices.Max(rho),
		Stops: r.Stops(), Lost: r.LostGPUSeconds() / 3600, Cycles: r.Cycles, CPU: o.cpu.Seconds(),
	}
}

// load is how much work a trace brings, in GPUs that it would keep busy: mean
// over the time in which jobs come, peak over the busiest window of it.
type load struct {
	span, from, to time.Duration
	mean, peak     float64
	widest         int
}

func loadOf(jobs []replay.Job) load {
	l := load{span: max(time.Hour, jobs[len(jobs)-1].Arrive)}
	long := min(window, l.span)
	work, total, first := 0.0, 0.0, 0
	service := func(j replay.Job) float64 { return j.Duration.Seconds() * float64(j.GPUs) }
	for _, j := range jobs {
		total += service(j)
		work += service(j)
		for ; j.Arrive-jobs[first].Arrive > long; first++ {
			work -= service(jobs[first])
		}
		if p := work / long.Seconds(); p > l.peak {
			l.peak, l.from, l.to = p, jobs[first].Arrive, jobs[first].Arrive+long
		}
		l.widest = max(l.widest, j.GPUs)
	}
	l.mean = total / l.span.Seconds()
	return l
}

// nodes is how large a fleet the busiest window fills as far as it should, and
// on which the widest job fits.
func (l load) nodes() int {
	return max(int(math.Ceil(l.peak/fill/width)), (l.widest+width-1)/width)
}
