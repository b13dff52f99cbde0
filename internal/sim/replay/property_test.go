package replay_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

// witness stands between engine and scheduler and keeps books of its own, from
// the decisions and events alone. It takes schedulers that stop before they start.
type witness struct {
	replay.Scheduler
	nodes  []replay.Node
	held   []int // GPUs of each node
	on     map[int][]replay.Share
	since  map[int]time.Duration
	spans  map[int]time.Duration // by job: how long it held GPUs
	starts []replay.Decision     // that were decided last
	last   time.Duration
	faults []string
}

func watch(s replay.Scheduler, nodes []replay.Node) *witness {
	return &witness{Scheduler: s, nodes: nodes, held: make([]int, len(nodes)), on: map[int][]replay.Share{}, since: map[int]time.Duration{}, spans: map[int]time.Duration{}}
}

func (w *witness) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *witness) Tell(e replay.Event) error {
	if e.Kind != replay.Stopped { // stops are told before the starts of the same breath
		w.begin()
	}
	if e.At < w.last {
		w.fault("time went back from %s to %s", w.last, e.At)
	}
	w.last = e.At
	if e.Kind == replay.Finished || e.Kind == replay.Stopped {
		w.spans[e.Job.ID] += e.At - w.since[e.Job.ID]
		for _, s := range w.on[e.Job.ID] {
			w.held[s.Node] -= s.GPUs
		}
		delete(w.on, e.Job.ID)
	}
	return w.Scheduler.Tell(e)
}

func (w *witness) Decide(v replay.View) ([]replay.Decision, error) {
	w.begin()
	out, err := w.Scheduler.Decide(v)
	w.last = v.Now
	for _, d := range out {
		if d.Verb == replay.Start {
			w.starts = append(w.starts, d)
		}
	}
	return out, err
}

// begin books the starts that were decided last.
func (w *witness) begin() {
	for _, d := range w.starts {
		if w.on[d.Job] != nil {
			w.fault("at %s job %d was started, and runs", w.last, d.Job)
		}
		for _, s := range d.At {
			if w.held[s.Node] += s.GPUs; w.held[s.Node] > w.nodes[s.Node].GPUs {
				w.fault("at %s node %d gives %d of %d GPUs", w.last, s.Node, w.held[s.Node], w.nodes[s.Node].GPUs)
			}
		}
		w.on[d.Job], w.since[d.Job] = d.At, w.last
	}
	w.starts = nil
}

// chaos starts and stops jobs by lot.
type chaos struct {
	draw  *rand.Rand
	nodes []replay.Node
	jobs  []*replay.Job
	stops int
}

func (c *chaos) Tell(e replay.Event) error {
	switch e.Kind {
	case replay.Arrived:
		c.jobs = append(c.jobs, e.Job)
	case replay.Finished:
		c.jobs = slices.DeleteFunc(c.jobs, func(j *replay.Job) bool { return j == e.Job })
	}
	return nil
}

func (c *chaos) Decide(v replay.View) ([]replay.Decision, error) {
	free := make([]int, len(c.nodes))
	for i, n := range c.nodes {
		free[i] = n.GPUs
	}
	for _, j := range c.jobs {
		for _, s := range v.At(j.ID) {
			free[s.Node] -= s.GPUs
		}
	}
	c.draw.Shuffle(len(c.jobs), func(i, j int) { c.jobs[i], c.jobs[j] = c.jobs[j], c.jobs[i] })
	for _, j := range c.jobs {
		if v.At(j.ID) != nil && c.stops > 0 && c.draw.IntN(3) == 0 {
			c.stops--
			return []replay.Decision{{Verb: replay.Stop, Job: j.ID}}, nil
		}
	}
	var out []replay.Decision
	for _, j := range c.jobs {
		if v.At(j.ID) != nil {
			continue
		}
		var at []replay.Share
		want := j.GPUs
		for i := range free {
			if n := min(want, free[i]); n > 0 {
				at = append(at, replay.Share{Node: i, GPUs: n})
				want -= n
			}
		}
		if want > 0 {
			continue
		}
		for _, s := range at {
			free[s.Node] -= s.GPUs
		}
		out = append(out, replay.Decision{Verb: replay.Start, Job: j.ID, At: at})
	}
	return out, nil
}

// schedulers makes, by name, everybody who can run a replay.
func schedulers(t interface{ Fatal(...any) }, nodes []replay.Node, seed uint64) map[string]func() replay.Scheduler {
	gpus := 0
	for _, n := range nodes {
		gpus += n.GPUs
	}
	production := func(borrows core.Borrows, passing cycle.Passing, levels core.Levels) func() replay.Scheduler {
		return func() replay.Scheduler {
			queues := []core.Queue{{Name: "a", Nominal: gpus / 2, Borrows: borrows, Passing: passing}, {Name: "b", Nominal: gpus - gpus/2, Borrows: borrows, Passing: passing}}
			if borrows == core.Nothing {
				queues[0].Nominal, queues[1].Nominal = gpus, gpus
			}
			s, err := core.New(cycle.Defaults(), nodes, queues, levels)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	return map[string]func() replay.Scheduler{
		"srtf":            func() replay.Scheduler { return replay.NewShortest(replay.Time, nodes) },
		"srsf":            func() replay.Scheduler { return replay.NewShortest(replay.Service, nodes) },
		"chaos":           func() replay.Scheduler { return &chaos{draw: rand.New(rand.NewPCG(seed, 1)), nodes: nodes, stops: 50} },
		"arrival":         production(core.Nothing, cycle.Backfill, nil),
		"strict":          production(core.Nothing, cycle.Strict, nil),
		"borrowing":       production(core.Everything, cycle.Backfill, nil),
		"service":         production(core.Nothing, cycle.Backfill, core.Steps(time.Hour, 2, 100*time.Hour)),
		"service borrows": production(core.Everything, cycle.Strict, core.Steps(time.Hour, 4, 100*time.Hour)),
	}
}

// traces draws small fleets and traces that all schedulers can place on them.
func traces(t *rapid.T) ([]replay.Job, []replay.Node) {
	count := rapid.IntRange(1, 4).Draw(t, "nodes")
	nodes := replay.Nodes(count, rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "width"))
	jobs := make([]replay.Job, rapid.IntRange(1, 25).Draw(t, "jobs"))
	for i := range jobs {
		jobs[i] = replay.Job{
			Name: fmt.Sprint(i), Queue: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"),
			GPUs:       rapid.IntRange(1, count*nodes[0].GPUs).Draw(t, "gpus"),
			Arrive:     time.Duration(rapid.IntRange(0, 20).Draw(t, "arrive")) * 10 * time.Minute,
			Duration:   time.Duration(rapid.IntRange(1, 40_000).Draw(t, "duration")) * time.Second,
			Restart:    time.Duration(rapid.SampledFrom([]int{0, 1, 60, 900}).Draw(t, "restart")) * time.Second,
			Checkpoint: time.Duration(rapid.SampledFrom([]int{0, 7, 600, 7200}).Draw(t, "checkpoint")) * time.Second,
		}
	}
	replay.Sort(jobs)
	return jobs, nodes
}

// TestEveryJobRunsToItsEndOnceAndNoGPUIsGivenTwice is of every scheduler, by the
// witness's books: nothing is over-allocated, every job ends, and what it held is
// its duration and what it lost, to the nanosecond.
func TestEveryJobRunsToItsEndOnceAndNoGPUIsGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs, nodes := traces(t)
		seed := rapid.Uint64().Draw(t, "seed")
		all := schedulers(t, nodes, seed)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			w := watch(all[name](), nodes)
			r, err := replay.Run(jobs, nodes, w, replay.Options{Every: time.Minute})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, f := range w.faults {
				t.Errorf("%s: %s", name, f)
			}
			for i, rec := range r.Records {
				if rec.Job != &jobs[i] || rec.Started < rec.Job.Arrive || rec.Ended < rec.Started+rec.Job.Duration || rec.Lost < 0 || rec.Queued() < rec.Wait() {
					t.Errorf("%s: job %d can't have fared so: %+v", name, i, rec)
				}
				if rec.Held-rec.Lost != rec.Job.Duration {
					t.Errorf("%s: job %d held GPUs for %s and lost %s of it; it works for %s", name, i, rec.Held, rec.Lost, rec.Job.Duration)
				}
				if rec.Held != w.spans[i] {
					t.Errorf("%s: job %d held GPUs for %s by the engine, for %s by what it was told", name, i, rec.Held, w.spans[i])
				}
			}
		}
	})
}

// TestTheSameTraceGivesTheSameResult replays twice with new schedulers.
func TestTheSameTraceGivesTheSameResult(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs, nodes := traces(t)
		seed := rapid.Uint64().Draw(t, "seed")
		all := schedulers(t, nodes, seed)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			var results [2]*replay.Result
			for i := range results {
				r, err := replay.Run(jobs, nodes, all[name](), replay.Options{Every: time.Minute})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				results[i] = r
			}
			if d := cmp.Diff(results[0], results[1]); d != "" {
				t.Errorf("%s: the second replay differs:\n%s", name, d)
			}
		}
	})
}

// TestWhatIsHeldOverTimeIsWhatJobsHeld compares the curve of use with the records.
func TestWhatIsHeldOverTimeIsWhatJobsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs, nodes := traces(t)
		r, err := replay.Run(jobs, nodes, replay.NewShortest(replay.Service, nodes), replay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		held := 0.0
		for _, rec := range r.Records {
			held += rec.Held.Seconds() * float64(rec.Job.GPUs)
		}
		curve := 0.0
		for i, s := range r.Steps {
			if s.Busy < 0 || s.Busy > r.GPUs {
				t.Errorf("%d of %d GPUs are held at %s", s.Busy, r.GPUs, s.At)
			}
			if i+1 < len(r.Steps) {
				curve += float64(s.Busy) * (r.Steps[i+1].At - s.At).Seconds()
			}
		}
		whole := r.Utilisation(0, r.Makespan()) * r.Makespan().Seconds() * float64(r.GPUs)
		if d := held - curve; d > 1 || d < -1 {
			t.Errorf("jobs held %f GPU-s, the curve says %f", held, curve)
		}
		if d := held - whole; d > 1 || d < -1 {
			t.Errorf("jobs held %f GPU-s, the utilisation says %f", held, whole)
		}
	})
}
