package core_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

// TestQuotasFollowUseAndFitTheWidestJob: a uses three quarters of the GPU-time;
// c uses next to nothing, but one of its jobs is 6 GPUs wide, so that a and b
// share 10 of 16 GPUs: 7.5 and 2.5.
func TestQuotasFollowUseAndFitTheWidestJob(t *testing.T) {
	jobs := []replay.Job{
		{Queue: "b", GPUs: 1, Duration: 1000 * time.Second},
		{Queue: "c", GPUs: 6, Duration: time.Nanosecond},
		{Queue: "a", GPUs: 2, Duration: 1500 * time.Second},
	}
	for gpus, want := range map[int][]core.Queue{
		16: {{Name: "a", Nominal: 8}, {Name: "b", Nominal: 2}, {Name: "c", Nominal: 6}},
		6:  {{Name: "a", Nominal: 2}, {Name: "b", Nominal: 1}, {Name: "c", Nominal: 6}},
	} {
		if d := cmp.Diff(want, core.Quotas(jobs, gpus)); d != "" {
			t.Errorf("%d GPUs: (-want +got)\n%s", gpus, d)
		}
	}
}

// TestQuotasAddUpToTheFleet, unless the widest jobs don't fit side by side.
func TestQuotasAddUpToTheFleet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := make([]replay.Job, rapid.IntRange(1, 30).Draw(t, "jobs"))
		widest, wide := map[string]int{}, 0
		for i := range jobs {
			j := replay.Job{
				Queue:    rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "queue"),
				GPUs:     rapid.IntRange(1, 64).Draw(t, "gpus"),
				Duration: time.Duration(rapid.Int64Range(1, 1e15).Draw(t, "duration")),
			}
			jobs[i], widest[j.Queue] = j, max(widest[j.Queue], j.GPUs)
		}
		for _, w := range widest {
			wide += w
		}
		gpus, sum := rapid.IntRange(1, 2000).Draw(t, "fleet"), 0
		for _, q := range core.Quotas(jobs, gpus) {
			if sum += q.Nominal; q.Nominal < widest[q.Name] {
				t.Errorf("queue %s has %d GPUs, and a job of %d", q.Name, q.Nominal, widest[q.Name])
			}
		}
		if sum != max(gpus, wide) {
			t.Errorf("quotas of %d GPUs in all, of %d; the widest jobs want %d", sum, gpus, wide)
		}
	})
}

func TestStepsRiseByTheirFactor(t *testing.T) {
	got := core.Steps(time.Hour, 4, 60*time.Hour)
	if d := cmp.Diff(core.Levels{time.Hour, 4 * time.Hour, 16 * time.Hour}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// ends replays and gives when each job ended.
func ends(t *testing.T, jobs []replay.Job, gpus int, queues []core.Queue, levels core.Levels) []time.Duration {
	t.Helper()
	nodes := replay.Nodes(1, gpus)
	s, err := core.New(cycle.Defaults(), nodes, queues, levels)
	if err != nil {
		t.Fatal(err)
	}
	r, err := replay.Run(jobs, nodes, s, replay.Options{Every: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var all []time.Duration
	for _, rec := range r.Records {
		all = append(all, rec.Ended)
	}
	return all
}

// TestWhoHadLessServiceGoesFirst: a job of 10 h runs; one of 10 minutes comes
// after 5 h. By arrival it waits for the end; by service it goes first as soon as
// the loop looks, and the long job, which is long past the first level, goes on
// after it.
func TestWhoHadLessServiceGoesFirst(t *testing.T) {
	jobs := []replay.Job{
		{ID: 0, Queue: "q", GPUs: 1, Duration: 10 * time.Hour, Restart: time.Minute},
		{ID: 1, Queue: "q", GPUs: 1, Arrive: 5 * time.Hour, Duration: 10 * time.Minute},
	}
	queues := []core.Queue{{Name: "q", Nominal: 1}}
	for name, c := range map[string]struct {
		levels core.Levels
		want   []time.Duration
	}{
		"by arrival": {nil, []time.Duration{10 * time.Hour, 10*time.Hour + 10*time.Minute}},
		"by service": {core.Steps(time.Hour, 4, 100*time.Hour), []time.Duration{10*time.Hour + 11*time.Minute, 5*time.Hour + 10*time.Minute}},
	} {
		if d := cmp.Diff(c.want, ends(t, jobs, 1, queues, c.levels)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}

// TestOnlyWhoMayBorrowTakesWhatIsIdle: a queue of quota 1 has two jobs on two
// GPUs, and the other queue has none.
func TestOnlyWhoMayBorrowTakesWhatIsIdle(t *testing.T) {
	jobs := []replay.Job{{ID: 0, Queue: "a", GPUs: 1, Duration: time.Hour}, {ID: 1, Queue: "a", GPUs: 1, Duration: time.Hour}}
	for borrows, want := range map[core.Borrows][]time.Duration{core.Everything: {time.Hour, time.Hour}, core.Nothing: {time.Hour, 2 * time.Hour}} {
		queues := []core.Queue{{Name: "a", Nominal: 1, Borrows: borrows}, {Name: "b", Nominal: 1, Borrows: borrows}}
		if d := cmp.Diff(want, ends(t, jobs, 2, queues, nil)); d != "" {
			t.Errorf("borrows %d: (-want +got)\n%s", borrows, d)
		}
	}
}

// TestLentQuotaIsGivenBack: a queue borrows the second GPU; when its owner wants
// it, one borrower gives way.
func TestLentQuotaIsGivenBack(t *testing.T) {
	jobs := []replay.Job{
		{ID: 0, Queue: "a", GPUs: 1, Duration: 2 * time.Hour},
		{ID: 1, Queue: "a", GPUs: 1, Duration: 2 * time.Hour},
		{ID: 2, Queue: "b", GPUs: 1, Arrive: time.Hour, Duration: 10 * time.Minute},
	}
	queues := []core.Queue{{Name: "a", Nominal: 1, Borrows: core.Everything}, {Name: "b", Nominal: 1, Borrows: core.Everything}}
	got := ends(t, jobs, 2, queues, nil)
	if got[2] != time.Hour+10*time.Minute || max(got[0], got[1]) != 2*time.Hour+10*time.Minute || min(got[0], got[1]) != 2*time.Hour {
		t.Errorf("the jobs ended at %s; the owner's starts at once, and one borrower ends 10 minutes later", got)
	}
}
