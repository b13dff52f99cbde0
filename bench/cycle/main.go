// Command cycle measures what the scheduler's core costs, in CPU-seconds of one
// core: 10,000 pods onto 1,213 nodes; one round over 320,000 queued jobs on 1,000
// nodes and 10 queues; the same up to a million jobs, and with every job of
// another shape; a cycle when nothing, and when one thing, changed; and memory
// over 10,000 cycles without a change.
//
//	go run ./bench/cycle
//
// It prints a table and, as its last line, one JSON object. The exit status is 1
// if placing or the round over 320,000 takes a second or more.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

const limit = 1.0 // CPU-seconds

type figures struct {
	Place10k  float64 `json:"place_10k_s"`
	Round320k float64 `json:"round_320k_s"`
	Round1M   float64 `json:"round_1m_s"`
}

func main() {
	runtime.GOMAXPROCS(1)
	f, err := measure()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cycle:", err)
		os.Exit(1)
	}
	line, err := json.Marshal(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cycle:", err)
		os.Exit(1)
	}
	fmt.Printf("%s\n", line)
	if f.Place10k >= limit || f.Round320k >= limit {
		os.Exit(1)
	}
}

func measure() (f figures, err error) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "what\tqueued\tstarted\tCPU-s\tCPU-s to submit\tMB")
	row := func(what string, r round) {
		defer table.Flush()
		fmt.Fprintf(table, "%s\t%d\t%d\t%.3f\t%.2f\t%.0f\n", what, r.queued, r.started, r.cpu, r.submit, r.mb)
	}
	r, err := place()
	if err != nil {
		return f, err
	}
	row("10,000 pods onto 1,213 nodes", r)
	f.Place10k = r.cpu
	for _, queued := range []int{10_000, 32_000, 100_000, 320_000, 1_000_000} {
		if r, err = firstRound(queued, alike); err != nil {
			return f, err
		}
		row("a round, 1,000 nodes, 10 queues", r)
		switch queued {
		case 320_000:
			f.Round320k = r.cpu
		case 1_000_000:
			f.Round1M = r.cpu
		}
	}
	for _, queued := range []int{32_000, 100_000, 200_000} {
		if r, err = firstRound(queued, unlike); err != nil {
			return f, err
		}
		row("a round, no two jobs alike", r)
	}
	return f, later(table)
}

type round struct {
	queued, started int
	cpu, submit, mb float64
}

// take measures one cycle of a state.
func take(s *cycle.State, queued int, submit float64, now time.Time) round {
	runtime.GC()
	from := cpu()
	started := starts(s.Cycle(now))
	spent := cpu() - from
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return round{queued, started, spent, submit, float64(m.HeapAlloc) / 1e6}
}

func starts(decisions []cycle.Decision) int {
	n := 0
	for _, d := range decisions {
		if d.Verdict == cycle.Start {
			n++
		}
	}
	return n
}

// cpu is the CPU-seconds that this process has used.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// later measures cycles on a full fleet where nothing or little changed.
func later(table *tabwriter.Writer) error {
	s, err := crowd(320_000, alike)
	if err != nil {
		return err
	}
	now := epoch
	var running []penstock.UID
	for _, d := range s.Cycle(now) {
		if d.Verdict == cycle.Start {
			running = append(running, d.Job)
		}
	}
	cost := func(what string, cycles int, change func(i int) error) error {
		before, from := heap(), cpu()
		for i := range cycles {
			if err := change(i); err != nil {
				return err
			}
			now = now.Add(time.Millisecond)
			s.Cycle(now)
		}
		spent := (cpu() - from) / float64(cycles)
		fmt.Fprintf(table, "%s\t%d\t\t%.6f\t\t%+.1f over %d cycles\n", what, s.Pending(), spent, heap()-before, cycles)
		runtime.KeepAlive(s) // what it holds is what is measured
		return nil
	}
	if err := cost("a cycle when nothing changed", 10_000, func(int) error { return nil }); err != nil {
		return err
	}
	return cost("a cycle after one job ended and one came", 300, func(i int) error {
		if err := s.Finished(running[i]); err != nil {
			return err
		}
		return s.Submit(job(1_000_000+i, alike))
	})
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// place is openb's fleet in outline: 1,213 nodes with 6,212 devices, and 10,000
// pods in the mix of sizes of the default list (Weng et al., ATC'23, table 1).
func place() (round, error) {
	s := cycle.New(cycle.Defaults())
	if err := s.SetPool("openb"); err != nil {
		return round{}, err
	}
	devices := 6212
	for i := range 1213 {
		n := min([]int{8, 8, 2, 4, 1, 8, 5, 5}[i%8], devices)
		devices -= n
		spec := fleet.Spec{Name: fmt.Sprintf("node-%04d", i), Capacity: penstock.Resources{
			penstock.CPU: penstock.Amount(32_000 + 12_000*n), penstock.Memory: penstock.Amount(128+64*n) << 30, "gpu": penstock.Amount(n * 1000),
		}}
		if err := s.SetNode("openb", spec); err != nil {
			return round{}, err
		}
	}
	if err := s.SetQueue(quota.Spec{Name: "all"}, cycle.Backfill); err != nil {
		return round{}, err
	}
	from := cpu()
	for i := range 10_000 {
		j := pod(i)
		if err := s.Submit(j); err != nil {
			return round{}, err
		}
	}
	return take(s, 10_000, cpu()-from, epoch), nil
}

// pod is of one of 40 shapes: 13 % want no device, 38 % a share, 48 % one, and
// few more.
func pod(i int) cycle.Job {
	draw := scatter(i)
	each := penstock.Resources{penstock.CPU: penstock.Amount(1000 + draw%8*1000), penstock.Memory: penstock.Amount(2+draw%5*4) << 30}
	switch part := draw / 64 % 1000; {
	case part < 133:
	case part < 511:
		each["gpu"] = []penstock.Amount{100, 250, 400, 500, 810}[draw/64_000%5]
	case part < 991:
		each["gpu"] = 1000
	default:
		each["gpu"] = []penstock.Amount{2000, 4000, 8000}[draw/64_000%3]
	}
	return cycle.Job{
		ID: penstock.UID(fmt.Sprintf("pod-%05d", i)), Queue: "all", QueuedAt: epoch.Add(time.Duration(i) * time.Millisecond),
		Sets: []cycle.Set{{Name: "pod", Count: 1, Each: each}},
	}
}

// scatter is a fixed, well mixed number for each i (splitmix64).
func scatter(i int) int {
	z := uint64(i+1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return int((z ^ z>>31) >> 1)
}

// likeness is whether queued jobs come in few shapes or in as many as there are
// jobs.
type likeness int

const (
	alike likeness = iota
	unlike
)

// firstRound is the first cycle over a crowd on an empty fleet.
func firstRound(queued int, of likeness) (round, error) {
	from := cpu()
	s, err := crowd(queued, of)
	if err != nil {
		return round{}, err
	}
	return take(s, queued, cpu()-from, epoch), nil
}

// crowd is Armada's setting: 1,000 nodes of 32 cores, 10 queues, and jobs of one
// core or little more; here beside 8 devices, with priorities and limits.
func crowd(queued int, of likeness) (*cycle.State, error) {
	s := cycle.New(cycle.Defaults())
	if err := s.SetPool("pool"); err != nil {
		return nil, err
	}
	for i := range 1000 {
		spec := fleet.Spec{Name: fmt.Sprintf("node-%04d", i), Capacity: penstock.Resources{
			penstock.CPU: 32_000, penstock.Memory: 256 << 30, "gpu": 8000,
		}}
		if err := s.SetNode("pool", spec); err != nil {
			return nil, err
		}
	}
	all := penstock.Resources{penstock.CPU: 32_000_000, penstock.Memory: 256_000 << 30, "gpu": 8_000_000}
	if err := s.SetQueue(quota.Spec{Name: "fleet", Nominal: all}, cycle.Backfill); err != nil {
		return nil, err
	}
	for i := range 10 {
		if err := s.SetQueue(quota.Spec{Name: fmt.Sprintf("queue-%d", i), Parent: "fleet", Weight: 1000 + 100*i}, cycle.Backfill); err != nil {
			return nil, err
		}
	}
	for i := range queued {
		if err := s.Submit(job(i, of)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func job(i int, of likeness) cycle.Job {
	draw := scatter(i)
	each := penstock.Resources{penstock.CPU: 1000, penstock.Memory: penstock.Amount(1+draw%4) << 30}
	if draw/4%8 == 0 {
		each["gpu"] = []penstock.Amount{250, 500, 1000, 2000}[draw/32%4]
	}
	j := cycle.Job{
		ID: penstock.UID(fmt.Sprintf("job-%07d", i)), Queue: "queue-" + string(rune('0'+i%10)), Priority: draw / 128 % 3,
		QueuedAt: epoch.Add(time.Duration(i-2_000_000) * time.Millisecond), Limit: time.Duration(1+draw/1024%4) * time.Hour,
		Sets: []cycle.Set{{Name: "w", Count: 1, Each: each}},
	}
	if of == unlike {
		each[penstock.Memory] += penstock.Amount(i) << 10
		j.Limit += time.Duration(i) * time.Second
	}
	return j
}
