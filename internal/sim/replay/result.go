package replay

import (
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
)

// Record is what became of a job.
type Record struct {
	Job     *Job
	Started time.Duration // for the first time
	Ended   time.Duration
	Held    time.Duration // how long it held its GPUs, in all
	Lost    time.Duration // of that: restarts, and work that had to be done again
	Stops   int           // how often it gave way, or was moved
}

// Wait is the time from arrival to the first start.
func (r Record) Wait() time.Duration { return r.Started - r.Job.Arrive }

// Queued is the time for which it held nothing.
func (r Record) Queued() time.Duration { return r.JCT() - r.Held }

// JCT is the job's completion time: from arrival to its end.
func (r Record) JCT() time.Duration { return r.Ended - r.Job.Arrive }

// Step is how many GPUs are held from a moment on.
type Step struct {
	At   time.Duration
	Busy int
}

// Result is what came of a replay.
type Result struct {
	GPUs    int // of the fleet
	Cycles  int // how often the scheduler was asked
	Records []Record
	Steps   []Step
}

func (r *Result) book(now time.Duration, busy int) {
	if last := len(r.Steps) - 1; last < 0 || r.Steps[last].Busy != busy {
		r.Steps = append(r.Steps, Step{now, busy})
	}
}

// Makespan is the time from the trace's beginning to the end of its last job.
func (r *Result) Makespan() time.Duration {
	end := time.Duration(0)
	for i := range r.Records {
		end = max(end, r.Records[i].Ended)
	}
	return end
}

// Stops is how often jobs gave way or were moved.
func (r *Result) Stops() int {
	n := 0
	for i := range r.Records {
		n += r.Records[i].Stops
	}
	return n
}

// LostGPUSeconds is what restarts took, and work that had to be done again.
func (r *Result) LostGPUSeconds() float64 {
	lost := 0.0
	for i := range r.Records {
		lost += r.Records[i].Lost.Seconds() * float64(r.Records[i].Job.GPUs)
	}
	return lost
}

// Utilisation is which part of the fleet's GPUs was held between two times, on
// average: 0 to 1.
func (r *Result) Utilisation(from, to time.Duration) float64 {
	held := 0.0
	for i, s := range r.Steps {
		end := to
		if i+1 < len(r.Steps) {
			end = min(to, r.Steps[i+1].At)
		}
		if begin := max(from, s.At); begin < end {
			held += float64(s.Busy) * (end - begin).Seconds()
		}
	}
	return held / (to - from).Seconds() / float64(r.GPUs)
}

// Curve is the Utilisation over time: of so many equal parts of the makespan.
func (r *Result) Curve(parts int) []float64 {
	curve, whole := make([]float64, parts), r.Makespan()
	for i := range curve {
		curve[i] = r.Utilisation(whole/time.Duration(parts)*time.Duration(i), whole/time.Duration(parts)*time.Duration(i+1))
	}
	return curve
}

// Spread is the mean, quantiles and largest of some times, in seconds. A
// quantile is the smallest of them that at least that part doesn't exceed.
type Spread struct {
	Mean float64 `json:"mean_s"`
	P50  float64 `json:"p50_s"`
	P95  float64 `json:"p95_s"`
	P99  float64 `json:"p99_s"`
	Max  float64 `json:"max_s"`
}

// Spread is that of one time of each job: Record.Wait, Record.JCT.
func (r *Result) Spread(of func(Record) time.Duration) Spread {
	all := make([]float64, len(r.Records))
	for i := range all {
		all[i] = of(r.Records[i]).Seconds()
	}
	if len(all) == 0 {
		return Spread{}
	}
	slices.Sort(all)
	at := func(p float64) float64 { return stat.Quantile(p, stat.Empirical, all, nil) }
	return Spread{Mean: stat.Mean(all, nil), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: all[len(all)-1]}
}
