package replay_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/sim/replay"
)

const (
	s       = time.Second
	century = 100 * 365 * 24 * time.Hour
)

// fared is what of a Record is computed by hand.
type fared struct {
	Started, Ended, Held, Lost time.Duration
	Stops                      int
}

func run(t *testing.T, jobs []replay.Job, nodes []replay.Node, by replay.By) *replay.Result {
	t.Helper()
	r, err := replay.Run(jobs, nodes, replay.NewShortest(by, nodes), replay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAJobThatGivesWayLosesWhatItHadNotSaved is computed by hand: a job of 100 s
// is interrupted at 20 s by one of 10 s.
func TestAJobThatGivesWayLosesWhatItHadNotSaved(t *testing.T) {
	for name, c := range map[string]struct {
		restart, checkpoint time.Duration
		want                fared
	}{
		"it saves when told to":            {0, 0, fared{0, 110 * s, 100 * s, 0, 1}},
		"it starts again in 5 s":           {5 * s, 0, fared{0, 115 * s, 105 * s, 5 * s, 1}},
		"it saved at 15 s":                 {5 * s, 15 * s, fared{0, 120 * s, 110 * s, 10 * s, 1}},
		"it saved at that very moment":     {5 * s, 20 * s, fared{0, 115 * s, 105 * s, 5 * s, 1}},
		"it would have saved at 30 s only": {5 * s, 30 * s, fared{0, 135 * s, 125 * s, 25 * s, 1}},
	} {
		jobs := []replay.Job{
			{ID: 0, GPUs: 1, Duration: 100 * s, Restart: c.restart, Checkpoint: c.checkpoint},
			{ID: 1, GPUs: 1, Arrive: 20 * s, Duration: 10 * s},
		}
		r := run(t, jobs, replay.Nodes(1, 1), replay.Time)
		first := r.Records[0]
		if d := cmp.Diff(c.want, fared{first.Started, first.Ended, first.Held, first.Lost, first.Stops}); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
		if short := r.Records[1]; short.Wait() != 0 || short.JCT() != 10*s || short.Lost != 0 {
			t.Errorf("%s: the short job fared %+v", name, short)
		}
	}
}

// TestARestartThatIsInterruptedIsLostAndPaidAgain: the long job starts again at
// 30 s, gives way after 4 s of its 10 s of restart, and starts again at 36 s.
func TestARestartThatIsInterruptedIsLostAndPaidAgain(t *testing.T) {
	r := run(t, []replay.Job{
		{ID: 0, GPUs: 1, Duration: 100 * s, Restart: 10 * s},
		{ID: 1, GPUs: 1, Arrive: 20 * s, Duration: 10 * s},
		{ID: 2, GPUs: 1, Arrive: 34 * s, Duration: 2 * s},
	}, replay.Nodes(1, 1), replay.Time)
	got := r.Records[0]
	if got.Ended != 126*s || got.Lost != 14*s || got.Held != 114*s || got.Stops != 2 || r.Stops() != 2 || r.LostGPUSeconds() != 14 {
		t.Errorf("it fared %+v; by hand it ends at 126 s, with 14 s lost of 114 s held, after two stops", got)
	}
}

// TestTheOracleTakesTheShortestFirst: with remaining time the 8-GPU job of 10 s
// goes first, with remaining service the four jobs of one GPU do.
func TestTheOracleTakesTheShortestFirst(t *testing.T) {
	jobs := []replay.Job{{ID: 0, GPUs: 8, Duration: 10 * s}}
	for id := 1; id <= 4; id++ {
		jobs = append(jobs, replay.Job{ID: id, GPUs: 1, Duration: 20 * s})
	}
	for by, want := range map[replay.By][]time.Duration{
		replay.Time:    {10 * s, 30 * s, 30 * s, 30 * s, 30 * s},
		replay.Service: {30 * s, 20 * s, 20 * s, 20 * s, 20 * s},
	} {
		var ends []time.Duration
		for _, rec := range run(t, jobs, replay.Nodes(1, 8), by).Records {
			ends = append(ends, rec.Ended)
		}
		if d := cmp.Diff(want, ends); d != "" {
			t.Errorf("by %d: (-want +got)\n%s", by, d)
		}
	}
}

// TestAWideJobTakesWholeNodesAndTheRestOfOne: at 30 s the third job takes 2 GPUs
// of the first node; at 40 s the second node is free whole, and 4 of the first.
func TestAWideJobTakesWholeNodesAndTheRestOfOne(t *testing.T) {
	nodes := replay.Nodes(2, 8)
	jobs := []replay.Job{
		{ID: 0, GPUs: 7, Duration: 30 * s},
		{ID: 1, GPUs: 7, Duration: 40 * s},
		{ID: 2, GPUs: 2, Duration: 50 * s},
		{ID: 3, GPUs: 12, Duration: 100 * s},
	}
	r := run(t, jobs, nodes, replay.Time)
	for id, started := range []time.Duration{0, 0, 30 * s, 40 * s} {
		if r.Records[id].Started != started {
			t.Errorf("job %d started at %s; by hand it's %s", id, r.Records[id].Started, started)
		}
	}
}

// TestFiguresAreThoseComputedByHand is of two jobs one after the other on half
// of a fleet of two GPUs, then one on both.
func TestFiguresAreThoseComputedByHand(t *testing.T) {
	jobs := []replay.Job{
		{ID: 0, Queue: "a", GPUs: 1, Duration: 10 * s},
		{ID: 1, Queue: "b", GPUs: 2, Duration: 20 * s},
	}
	r := run(t, jobs, replay.Nodes(1, 2), replay.Time)
	if r.Makespan() != 30*s || math.Abs(r.Utilisation(0, 30*s)-50.0/60) > 1e-12 {
		t.Errorf("makespan %s, utilisation %v; by hand 30 s and 5/6", r.Makespan(), r.Utilisation(0, 30*s))
	}
	if d := cmp.Diff([]float64{0.5, 1, 1}, r.Curve(3)); d != "" {
		t.Errorf("the curve of use: (-want +got)\n%s", d)
	}
	want := []replay.Queue{{"a", 1, 10, 0, 10, 1}, {"b", 1, 40, 10, 30, 20.0 / 30}}
	if d := cmp.Diff(want, r.Queues()); d != "" {
		t.Errorf("queues: (-want +got)\n%s", d)
	}
	alone := run(t, []replay.Job{jobs[0], {ID: 1, Queue: "b", GPUs: 2, Duration: 60 * s}}, replay.Nodes(2, 2), replay.Time)
	if d := cmp.Diff([]float64{1, 0.5}, r.Rho(alone)); d != "" {
		t.Errorf("rho: (-want +got)\n%s", d)
	}
	if d := cmp.Diff(replay.Spread{Mean: 5, P50: 0, P95: 10, P99: 10, Max: 10}, r.Spread(replay.Record.Wait)); d != "" {
		t.Errorf("waits: (-want +got)\n%s", d)
	}
	for want, of := range map[float64][]float64{1: {3, 3, 3}, 0.25: {5, 0, 0, 0}, 0.9: {1, 2}} {
		if got := replay.Jain(of); math.Abs(got-want) > 1e-12 {
			t.Errorf("Jain's index of %v is %v, want %v", of, got, want)
		}
	}
}

// script gives prepared decisions, one list at a time, and notes what it's told.
type script struct {
	lists [][]replay.Decision
	told  []replay.Event
}

func (c *script) Tell(e replay.Event) error { c.told = append(c.told, e); return nil }

func (c *script) Decide(replay.View) ([]replay.Decision, error) {
	if len(c.lists) == 0 {
		return nil, nil
	}
	next := c.lists[0]
	c.lists = c.lists[1:]
	return next, nil
}

func TestWorkIsToldAsSavedAtEachCheckpoint(t *testing.T) {
	c := &script{lists: [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: 1})}}}
	jobs := []replay.Job{{GPUs: 1, Duration: 35 * s, Checkpoint: 10 * s}}
	if _, err := replay.Run(jobs, replay.Nodes(1, 1), c, replay.Options{}); err != nil {
		t.Fatal(err)
	}
	var got []replay.Event
	for _, e := range c.told {
		got = append(got, replay.Event{Kind: e.Kind, At: e.At})
	}
	want := []replay.Event{{Kind: replay.Arrived}, {Kind: replay.Saved, At: 10 * s}, {Kind: replay.Saved, At: 20 * s}, {Kind: replay.Saved, At: 30 * s}, {Kind: replay.Finished, At: 35 * s}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func start(job int, at ...replay.Share) replay.Decision {
	return replay.Decision{Verb: replay.Start, Job: job, At: at}
}

// TestWhatCannotBeIsRefused is of decisions that no fleet can carry out, and of
// jobs that can't be run.
func TestWhatCannotBeIsRefused(t *testing.T) {
	half, other := replay.Share{Node: 0, GPUs: 1}, replay.Share{Node: 1, GPUs: 1}
	stop := replay.Decision{Verb: replay.Stop, Job: 0}
	two := []replay.Job{{GPUs: 2, Duration: s, Name: "x"}, {ID: 1, GPUs: 2, Duration: s}}
	for name, c := range map[string]struct {
		jobs  []replay.Job
		lists [][]replay.Decision
		want  string
	}{
		"a node's GPUs twice":   {two, [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: 2}), start(1, replay.Share{Node: 0, GPUs: 2})}}, "hasn't so many free"},
		"a node twice":          {two, [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: 2}, half)}}, "hasn't so many free"},
		"part of a gang":        {two, [][]replay.Decision{{start(0, half)}}, "started on 1 GPUs; it wants 2"},
		"too much":              {two, [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: 2}, other)}}, "started on 3 GPUs; it wants 2"},
		"a node that isn't":     {two, [][]replay.Decision{{start(0, replay.Share{Node: 2, GPUs: 2})}}, "node 2"},
		"less than nothing":     {two, [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: -2})}}, "-2 GPUs"},
		"who runs":              {two, [][]replay.Decision{{start(0, half, other), start(0, half, other)}}, "doesn't wait"},
		"the stop of who waits": {two, [][]replay.Decision{{stop}}, "doesn't run"},
		"a job that isn't":      {two, [][]replay.Decision{{start(2, half, other)}}, "job 2 of 2"},
		"three hundred years":   {[]replay.Job{{GPUs: 4, Arrive: century, Duration: 2 * century}}, [][]replay.Decision{{start(0, replay.Share{Node: 0, GPUs: 2}, replay.Share{Node: 1, GPUs: 2})}}, "292 years"},
		"waiting for ever":      {two, nil, "2 jobs wait for ever, job x"},
		"a job too wide":        {[]replay.Job{{GPUs: 5, Duration: s, Where: "t.csv:3"}}, nil, "t.csv:3"},
		"a job of no GPU":       {[]replay.Job{{GPUs: 0, Duration: s}}, nil, "wants 0 GPUs"},
		"a job of no time":      {[]replay.Job{{GPUs: 1}}, nil, "a time that can't be"},
		"a job out of order":    {[]replay.Job{{ID: 3, GPUs: 1, Duration: s}}, nil, "number 3 at place 0"},
	} {
		_, err := replay.Run(c.jobs, replay.Nodes(2, 2), &script{lists: c.lists}, replay.Options{Every: time.Hour})
		var e *penstock.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.want)
		}
	}
}

// dither stops and starts a job for ever.
type dither struct{}

func (dither) Tell(replay.Event) error { return nil }

func (dither) Decide(v replay.View) ([]replay.Decision, error) {
	if v.At(0) == nil {
		return []replay.Decision{start(0, replay.Share{Node: 0, GPUs: 1})}, nil
	}
	return []replay.Decision{{Verb: replay.Stop}, start(0, replay.Share{Node: 0, GPUs: 1})}, nil
}

func TestASchedulerThatNeverSettlesEndsTheReplay(t *testing.T) {
	jobs := []replay.Job{{GPUs: 1, Duration: s}, {ID: 1, GPUs: 1, Arrive: s / 2, Duration: s}}
	_, err := replay.Run(jobs, replay.Nodes(1, 1), dither{}, replay.Options{})
	if penstock.CodeOf(err) != penstock.Internal || !strings.Contains(err.Error(), "still stopped jobs") {
		t.Errorf("it gave %v", err)
	}
}
