package core_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

// TestQuotasFollowUseAndFitTheWidestJob: a uses three quarters of the GPU-time;
// c uses next to nothing, but one of its jobs is 6 GPUs wide.
func TestQuotasFollowUseAndFitTheWidestJob(t *testing.T) {
	got := core.Quotas([]replay.Job{
		{Queue: "b", GPUs: 1, Duration: 1000 * time.Second},
		{Queue: "c", GPUs: 6, Duration: time.Millisecond},
		{Queue: "a", GPUs: 2, Duration: 1500 * time.Second},
	}, 16)
	want := []core.Queue{{Name: "a", Nominal: 12}, {Name: "b", Nominal: 4}, {Name: "c", Nominal: 6}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
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
