package crash

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/blob/fs"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/sim"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// audit opens the data folder of the stopped server and checks every promise.
func (r *tour) audit(ctx context.Context, served *traffic) {
	t := r.t
	st, err := sqlite.Open(ctx, filepath.Join(r.data, "penstock.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	faults, err := sim.Check(ctx, st)
	if err != nil || len(faults) > 0 {
		t.Errorf("the state breaks its invariants: %q, %v", faults, err)
	}
	report, err := audit.Verify(ctx, st)
	if err != nil || report.Err() != nil || report.Entries == 0 {
		t.Errorf("the audit chain of %d entries isn't whole: %v, %v", report.Entries, err, report.Err())
	}
	err = st.View(ctx, func(tx store.Tx) error {
		f, err := readFacts(tx)
		if err != nil {
			return err
		}
		f.checkPhases(t)
		f.checkUsage(t)
		f.checkCost(t)
		if err := f.checkCurve(t, tx); err != nil {
			return err
		}
		if err := checkRequests(t, tx, served); err != nil {
			return err
		}
		return r.checkBlobs(ctx, tx, f)
	})
	if err != nil {
		t.Error(err)
	}
}

// facts are what the store knows of the work that was done.
type facts struct {
	jobs     map[string]v1.Job
	attempts []v1.Attempt
	uses     []store.Usage
	rates    []store.Rate
	tallies  []store.Tally
	window   meter.Window
}

func readFacts(tx store.Tx) (facts, error) {
	f := facts{jobs: map[string]v1.Job{}, window: meter.Window{From: time.Now().Add(-time.Hour), To: time.Now()}}
	jobs, err := tx.List(store.Query{Kind: penstock.KindJob})
	if err != nil {
		return f, err
	}
	for _, o := range jobs {
		if f.jobs[o.Metadata.Name], err = v1.As[v1.JobSpec, v1.JobStatus](o); err != nil {
			return f, err
		}
	}
	attempts, err := tx.List(store.Query{Kind: penstock.KindAttempt})
	if err != nil {
		return f, err
	}
	for _, o := range attempts {
		a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
		if err != nil {
			return f, err
		}
		f.attempts = append(f.attempts, a)
	}
	if f.uses, err = tx.Usage(f.window.From, f.window.To.Add(time.Hour)); err != nil {
		return f, err
	}
	if f.rates, err = tx.Rates(f.window.To); err != nil {
		return f, err
	}
	f.tallies, err = tx.Tally(f.window.From, f.window.To)
	return f, err
}

// checkPhases: every job came to its proper end.
func (f facts) checkPhases(t *testing.T) {
	t.Helper()
	got := map[string]penstock.Phase{}
	for name, job := range f.jobs {
		if job.Metadata.Labels["endpoint"] != "" {
			name = "serving"
		}
		got[name] = job.Metadata.Phase
	}
	want := map[string]penstock.Phase{
		"go-prepare-1": penstock.PhaseSucceeded, "train": penstock.PhaseSucceeded, "evaluate": penstock.PhaseSucceeded, "serving": penstock.PhaseStopped,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("jobs (-want +got):\n%s", d)
	}
}

// checkUsage: each resource of each task of each attempt is in the ledger once,
// from its placement to its end, and the attempts of a job follow one another.
func (f facts) checkUsage(t *testing.T) {
	t.Helper()
	want, got := map[string][2]time.Time{}, map[string][2]time.Time{}
	ended := map[penstock.UID]time.Time{} // the attempt before
	for _, a := range f.attempts {
		job := f.jobs[a.Spec.Job]
		from, to := a.Metadata.CreatedAt, a.Status.EndedAt
		if from.Before(ended[a.Spec.JobUID]) || from.Before(job.Metadata.CreatedAt) || to.After(job.Status.EndedAt) {
			t.Errorf("%s held its resources from %s to %s; the attempt before ended at %s, and the job lived from %s to %s", a.Ref(), from, to,
				ended[a.Spec.JobUID], job.Metadata.CreatedAt, job.Status.EndedAt)
		}
		ended[a.Spec.JobUID] = to
		for _, task := range a.Spec.Tasks {
			for _, name := range task.Resources.Names() {
				want[fmt.Sprintf("%s/%d/%s", a.Metadata.UID, task.Rank, name)] = [2]time.Time{from, to}
			}
		}
	}
	for _, u := range f.uses {
		if _, twice := got[u.ID]; twice {
			t.Errorf("use %s is in the ledger twice", u.ID)
		}
		got[u.ID] = [2]time.Time{u.From, u.To}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("uses in the ledger (-want +got):\n%s", d)
	}
	t.Logf("%d jobs, %d attempts, %d uses", len(f.jobs), len(f.attempts), len(f.uses))
}

// checkCost: what was used and what was idle is what the pools cost.
func (f facts) checkCost(t *testing.T) {
	t.Helper()
	report, err := meter.Cost(f.window, f.uses, f.rates, f.tallies)
	if err != nil {
		t.Error(err)
		return
	}
	var sum penstock.Money
	for _, row := range report.Rows {
		sum += row.Cost
	}
	if sum != report.Cost() || sum == 0 || len(report.Imbalances) > 0 {
		t.Errorf("the rows sum to %s, the pools cost %s; imbalances: %v", sum, report.Cost(), report.Imbalances)
	}
}

// checkCurve: the loss of each step is there, and a step that was trained again
// after a kill had the same loss again, to the last bit.
func (f facts) checkCurve(t *testing.T, tx store.Tx) error {
	t.Helper()
	points, err := tx.Metrics(f.jobs["train"].Metadata.UID, 1<<20)
	if err != nil {
		return err
	}
	losses := map[int64]float64{}
	for _, p := range points {
		loss, there := p.Values["loss"]
		if before, again := losses[p.Step]; !there || again && before != loss {
			t.Errorf("step %d has the values %v; its loss was %v before", p.Step, p.Values, before)
		}
		losses[p.Step] = loss
	}
	var want []int64
	for step := range int64(steps) {
		want = append(want, step+1)
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(losses))); d != "" {
		t.Errorf("steps of the loss curve (-want +got):\n%s", d)
	}
	t.Logf("%d steps were reported for %d that count", len(points), len(losses))
	return nil
}

// checkRequests: every answer that a client had whole is settled once with its
// tokens, and no request is open.
func checkRequests(t *testing.T, tx store.Tx, served *traffic) error {
	t.Helper()
	open, err := tx.Requests(store.RequestQuery{Open: true})
	if err != nil {
		return err
	}
	if len(open) > 0 {
		t.Errorf("%d requests were never settled: %v", len(open), open)
	}
	all, err := tx.Requests(store.RequestQuery{})
	if err != nil {
		return err
	}
	got, outcomes := map[string]usage{}, map[string]int{}
	for _, r := range all {
		outcomes[r.Outcome]++
		if _, answered := served.answered[r.ID]; !answered {
			continue
		}
		if _, twice := got[r.ID]; twice || r.Outcome != "ok" {
			t.Errorf("request %s was answered; the ledger has it as %q (a second time: %v)", r.ID, r.Outcome, twice)
		}
		got[r.ID] = usage{Prompt: r.PromptTokens, Completion: r.CompletionTokens}
	}
	if d := cmp.Diff(served.answered, got); d != "" {
		t.Errorf("tokens of the answered requests (-clients +ledger):\n%s", d)
	}
	t.Logf("requests in the ledger: %v", outcomes)
	return nil
}

// checkBlobs: what is committed can be read to the last byte.
func (r *tour) checkBlobs(ctx context.Context, tx store.Tx, f facts) error {
	blobs, err := fs.Open(filepath.Join(r.data, "blobs"))
	if err != nil {
		return err
	}
	defer blobs.Close()
	kept, err := tx.Checkpoints(f.jobs["train"].Metadata.UID)
	if err != nil {
		return err
	}
	if len(kept) == 0 || kept[0].Step != steps {
		r.t.Errorf("the newest of %d committed checkpoints isn't that of step %d", len(kept), steps)
	}
	for _, c := range kept {
		if err := readable(ctx, blobs, c.Files); err != nil {
			r.t.Errorf("committed step %d: %v", c.Step, err)
		}
	}
	versions, err := tx.List(store.Query{Kind: penstock.KindModelVersion})
	if err != nil {
		return err
	}
	for _, o := range versions {
		v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
		if err != nil {
			return err
		}
		if err := readable(ctx, blobs, v.Spec.Files); err != nil {
			r.t.Errorf("%s: %v", v.Ref(), err)
		}
	}
	return nil
}
