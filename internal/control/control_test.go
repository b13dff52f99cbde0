package control_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/blob/fs"
	"github.com/penstock/penstock/internal/checkpoint"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/sim"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// plant is an installation on a virtual fleet whose server can be crashed and
// started again.
type plant struct {
	t      *testing.T
	store  store.Store
	blobs  *fs.Store
	fleet  *sim.Fleet
	mu     sync.Mutex
	server *control.Control
	stop   context.CancelFunc
	ended  chan struct{}
}

func newPlant(t *testing.T, cpus ...penstock.Amount) *plant {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlite.Open(t.Context(), filepath.Join(dir, "penstock.db"))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := fs.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	p := &plant{t: t, store: st, blobs: blobs}
	var nodes []v1.Node
	for i, n := range cpus {
		nodes = append(nodes, v1.Node{Name: fmt.Sprintf("node-%d", i), Capacity: penstock.Resources{penstock.CPU: n, penstock.Memory: 8 << 30}})
	}
	p.fleet = sim.New(nodes, p.report)
	p.start()
	t.Cleanup(p.close)
	p.apply(penstock.KindPool, "", "virtual", v1.PoolSpec{Executor: "local", Prices: map[penstock.Resource]penstock.Money{penstock.CPU: penstock.Unit}})
	p.apply(penstock.KindProject, "", "lab", v1.ProjectSpec{Owner: "ann", CostCentre: "1"})
	return p
}

// report is how the fleet's agents reach the server, when there is one.
func (p *plant) report(ctx context.Context, attempt penstock.UID, r []v1.Report) (int64, error) {
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	if server == nil {
		return 0, &penstock.Error{Code: penstock.Unavailable, Msg: "the server is away"}
	}
	return server.Report(ctx, attempt, r)
}

func (p *plant) start(change ...func(*control.Options)) {
	ctx, cancel := context.WithCancel(context.Background())
	o := control.Options{Store: p.store, Blobs: p.blobs, Sealer: noSealer{}, Executors: map[string]run.Executor{"local": p.fleet}}
	for _, change := range change {
		change(&o)
	}
	server := control.New(o)
	p.mu.Lock()
	p.server, p.stop, p.ended = server, cancel, make(chan struct{})
	p.mu.Unlock()
	go func() {
		defer close(p.ended)
		_ = server.Run(ctx) // it ends with the context
	}()
}

// crash takes the server away in the middle of whatever it does.
func (p *plant) crash() {
	p.mu.Lock()
	p.server = nil
	p.mu.Unlock()
	p.stop()
	<-p.ended
}

func (p *plant) close() {
	p.fleet.Close()
	p.crash()
	if err := p.store.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.blobs.Close(); err != nil {
		p.t.Error(err)
	}
}

func (p *plant) apply(kind penstock.Kind, project, name string, spec any) {
	p.t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		p.t.Fatal(err)
	}
	o := v1.Object{APIVersion: v1.Version, Kind: kind, Metadata: v1.Metadata{Project: project, Name: name}, Spec: raw}
	if _, err := p.server.Apply(p.t.Context(), "ann", []v1.Object{o}, control.Commit); err != nil {
		p.t.Fatal(err)
	}
}

func gang(replicas int, cpu penstock.Amount, parameters map[string]string) v1.JobSpec {
	return v1.JobSpec{
		Class: penstock.ClassTraining, Parameters: parameters,
		Tasks: []v1.TaskSet{{Name: "worker", Replicas: replicas, Command: []string{"work"}, Resources: penstock.Resources{penstock.CPU: cpu}}},
	}
}

func (p *plant) job(name string) v1.Job {
	p.t.Helper()
	var job v1.Job
	err := p.store.View(p.t.Context(), func(tx store.Tx) error {
		o, err := tx.Get(penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: name})
		if err != nil {
			return err
		}
		job, err = v1.As[v1.JobSpec, v1.JobStatus](o)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return job
}

// until waits in virtual time for the job to get into a phase.
func (p *plant) until(name string, phase penstock.Phase, limit time.Duration) v1.Job {
	p.t.Helper()
	for end := time.Now().Add(limit); ; {
		job := p.job(name)
		if job.Metadata.Phase == phase {
			return job
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s is %s after %s, not %s: %s", name, job.Metadata.Phase, limit, phase, penstock.Join(job.Status.Reasons))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (p *plant) check() {
	p.t.Helper()
	faults, err := sim.Check(p.t.Context(), p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range faults {
		p.t.Error(f)
	}
}

// noSealer serves tests that have no secrets.
type noSealer struct{}

func (noSealer) Seal(map[string]string) ([]byte, error) { return nil, nil }
func (noSealer) Open([]byte) (map[string]string, error) { return nil, nil }

func TestGangRunsAndIsPaidForFromPlacementToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		p.apply(penstock.KindJob, "lab", "train", gang(2, 1000, map[string]string{sim.RunFor: "10m"}))
		job := p.until("train", penstock.PhaseSucceeded, 11*time.Minute)
		if job.Status.Attempt != 1 {
			t.Errorf("it took %d attempts", job.Status.Attempt)
		}
		var uses []store.Usage
		if err := p.store.View(t.Context(), func(tx store.Tx) (err error) {
			uses, err = tx.Usage(time.Time{}, time.Now())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(uses) != 2 {
			t.Fatalf("%d uses are in the ledger, want one for each task", len(uses))
		}
		for _, u := range uses {
			if d := u.To.Sub(u.From); d < 10*time.Minute || d > 10*time.Minute+10*time.Second || u.Amount != 1000 || u.Outcome != "succeeded" {
				t.Errorf("use of %d for %s, %s", u.Amount, d, u.Outcome)
			}
		}
		p.check()
	})
}

func TestGangWaitsWholeAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 2000, 1000)
		p.apply(penstock.KindJob, "lab", "first", gang(1, 2000, map[string]string{sim.RunFor: "5m"}))
		p.until("first", penstock.PhaseRunning, time.Minute)
		p.apply(penstock.KindJob, "lab", "second", gang(3, 1000, map[string]string{sim.RunFor: "1m"}))
		time.Sleep(time.Minute)
		second := p.job("second")
		if second.Metadata.Phase != penstock.PhaseQueued || second.Status.Reasons[0].Code != penstock.NoCapacity {
			t.Errorf("second is %s: %s", second.Metadata.Phase, penstock.Join(second.Status.Reasons))
		}
		x, err := p.server.Explain(t.Context(), second.Ref())
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Holders) != 1 || x.Holders[0].Job.Name != "first" || len(x.Fixes) == 0 {
			t.Errorf("explain names holders %v and fixes %v", x.Holders, x.Fixes)
		}
		p.until("second", penstock.PhaseSucceeded, 10*time.Minute)
		p.check()
	})
}

func TestOneDeadWorkerRestartsTheWholeGangAndDoesNotCountAsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		for name, kill := range map[string]func(penstock.UID, int) error{"worker": p.fleet.Kill, "agent": p.fleet.KillAgent} {
			p.apply(penstock.KindJob, "lab", name, gang(2, 1000, map[string]string{sim.RunFor: "2m"}))
			p.until(name, penstock.PhaseRunning, time.Minute)
			for _, attempt := range p.fleet.Live() {
				if err := kill(attempt, 1); err != nil {
					t.Fatal(err)
				}
			}
			job := p.until(name, penstock.PhaseSucceeded, 10*time.Minute)
			if job.Status.Attempt != 2 || job.Status.Failures != 0 {
				t.Errorf("%s: %d attempts, %d failures; want 2 and 0", name, job.Status.Attempt, job.Status.Failures)
			}
		}
		p.check()
	})
}

// The others of a gang fail at once for want of the one that was killed, and are
// heard of first.
func TestAGangThatFailsForWantOfALostTaskIsLostAndHasNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		for name, kill := range map[string]func(penstock.UID, int) error{"worker": p.fleet.Kill, "agent": p.fleet.KillAgent} {
			for _, rank := range []int{0, 1} {
				name := fmt.Sprint(name, rank)
				p.apply(penstock.KindJob, "lab", name, gang(2, 1000, map[string]string{sim.RunFor: "2m", sim.NeedsPeers: "true"}))
				p.until(name, penstock.PhaseRunning, time.Minute)
				if err := kill(p.fleet.Live()[0], rank); err != nil {
					t.Fatal(err)
				}
				job := p.until(name, penstock.PhaseSucceeded, 10*time.Minute)
				if job.Status.Attempt != 2 || job.Status.Failures != 0 {
					t.Errorf("%s: %d attempts, %d failures; want 2 and 0", name, job.Status.Attempt, job.Status.Failures)
				}
			}
		}
		p.check()
	})
}

// runningAttempt waits until the job's attempt of that number runs, and says how
// long that took.
func (p *plant) runningAttempt(name string, number int) time.Duration {
	p.t.Helper()
	began := time.Now()
	for time.Since(began) < time.Hour {
		if job := p.job(name); job.Metadata.Phase == penstock.PhaseRunning && job.Status.Attempt == number {
			return time.Since(began)
		}
		time.Sleep(200 * time.Millisecond)
	}
	p.t.Fatalf("attempt %d of %s did not start within an hour", number, name)
	return 0
}

// commitStep stores a checkpoint as an agent does.
func (p *plant) commitStep(job v1.Job, step int64) {
	p.t.Helper()
	content := fmt.Sprint("step ", step)
	sum := sha256.Sum256([]byte(content))
	file := v1.File{Path: "state", Size: int64(len(content)), Digest: penstock.DigestOf(sum[:])}
	if err := p.blobs.Put(p.t.Context(), file.Digest, strings.NewReader(content)); err != nil {
		p.t.Fatal(err)
	}
	if err := p.store.Update(p.t.Context(), func(tx store.Tx) error {
		return tx.CommitCheckpoint(v1.Checkpoint{
			Job: job.Metadata.UID, Step: step, Attempt: job.Status.Attempt, Files: []v1.File{file}, Digest: checkpoint.Digest([]v1.File{file}),
		})
	}); err != nil {
		p.t.Fatal(err)
	}
}

func TestWorkThatGetsOnBetweenLossesRestartsAtOnceAndOtherWorkEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		for name, getOn := range map[string]func(job v1.Job, i int){
			"commits": func(job v1.Job, i int) { p.commitStep(job, int64(i)) },
			"lasts":   func(v1.Job, int) { time.Sleep(6 * time.Minute) },
			"stuck":   func(v1.Job, int) {},
		} {
			p.apply(penstock.KindJob, "lab", name, gang(1, 1000, map[string]string{sim.RunFor: "10h"}))
			var waits []time.Duration
			for i := range 7 {
				waits = append(waits, p.runningAttempt(name, i+1))
				getOn(p.job(name), i)
				if err := p.fleet.Kill(p.fleet.Live()[0], 0); err != nil {
					t.Fatal(err)
				}
			}
			// 0, 1, 2, 4, 8, 16 s before the restarts.
			if last := waits[6]; name == "stuck" && (last < 16*time.Second || last > 24*time.Second) {
				t.Errorf("%s waited %v", name, waits)
			}
			if longest := slices.Max(waits); name != "stuck" && longest > 5*time.Second {
				t.Errorf("%s waited %v", name, waits)
			}
			if _, err := p.server.Stop(t.Context(), "ann", p.job(name).Ref()); err != nil {
				t.Fatal(err)
			}
			p.until(name, penstock.PhaseStopped, time.Minute)
		}
		p.check()
	})
}

func TestFailuresAreRetriedWithinTheirBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		enough := gang(1, 1000, map[string]string{sim.RunFor: "1s", sim.FailFirst: "2"})
		enough.Retries = v1.Retries{Max: 2}
		short := enough
		short.Retries = v1.Retries{Max: 1}
		p.apply(penstock.KindJob, "lab", "enough", enough)
		p.apply(penstock.KindJob, "lab", "short", short)
		if job := p.until("enough", penstock.PhaseSucceeded, 5*time.Minute); job.Status.Attempt != 3 {
			t.Errorf("enough took %d attempts", job.Status.Attempt)
		}
		if job := p.until("short", penstock.PhaseFailed, 5*time.Minute); job.Status.Attempt != 2 || job.Status.Reasons[0].Code != penstock.TaskFailed {
			t.Errorf("short took %d attempts: %s", job.Status.Attempt, penstock.Join(job.Status.Reasons))
		}
		p.check()
	})
}

func TestStopEndsRunningAndWaitingWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		p.apply(penstock.KindJob, "lab", "running", gang(1, 1000, map[string]string{sim.RunFor: "1h"}))
		p.until("running", penstock.PhaseRunning, time.Minute)
		p.apply(penstock.KindJob, "lab", "waiting", gang(1, 1000, nil))
		for _, name := range []string{"running", "waiting"} {
			if _, err := p.server.Stop(t.Context(), "ann", penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: name}); err != nil {
				t.Fatal(err)
			}
			p.until(name, penstock.PhaseStopped, time.Minute)
		}
		p.check()
	})
}

func TestReclaimedWorkGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		p.apply(penstock.KindJob, "lab", "train", gang(1, 1000, map[string]string{sim.RunFor: "1m"}))
		job := p.until("train", penstock.PhaseRunning, time.Minute)
		if _, err := p.server.Reclaim(t.Context(), "market", job.Ref()); err != nil {
			t.Fatal(err)
		}
		if job = p.until("train", penstock.PhaseSucceeded, 5*time.Minute); job.Status.Attempt != 2 || job.Status.Failures != 0 {
			t.Errorf("%d attempts, %d failures", job.Status.Attempt, job.Status.Failures)
		}
		p.check()
	})
}

func TestAJobPastItsDeadlineFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		spec := gang(1, 1000, map[string]string{sim.RunFor: "10h"})
		spec.Deadline, spec.Retries = v1.Duration(time.Hour), v1.Retries{Max: 5}
		p.apply(penstock.KindJob, "lab", "slow", spec)
		job := p.until("slow", penstock.PhaseFailed, 2*time.Hour)
		if job.Status.Reasons[0].Code != penstock.DeadlinePassed || job.Status.Attempt != 1 {
			t.Errorf("attempt %d: %s", job.Status.Attempt, penstock.Join(job.Status.Reasons))
		}
		p.check()
	})
}

func TestAnOldAttemptIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 2000)
		p.apply(penstock.KindJob, "lab", "train", gang(1, 1000, map[string]string{sim.RunFor: "1m"}))
		p.until("train", penstock.PhaseRunning, time.Minute)
		old := p.fleet.Live()[0]
		if err := p.fleet.Kill(old, 0); err != nil {
			t.Fatal(err)
		}
		p.until("train", penstock.PhaseSucceeded, 5*time.Minute)
		_, err := p.server.Report(t.Context(), old, []v1.Report{{Seq: 99, Rank: 0}})
		if penstock.CodeOf(err) != penstock.Fenced {
			t.Errorf("a report of the old attempt is answered with %v", err)
		}
	})
}

func TestReportsAreTakenOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		p.apply(penstock.KindJob, "lab", "train", gang(1, 1000, map[string]string{sim.RunFor: "1h"}))
		job := p.until("train", penstock.PhaseRunning, time.Minute)
		attempt := p.fleet.Live()[0]
		loss := func(seq int64, v float64) v1.Report {
			return v1.Report{Seq: seq, At: time.Now().UTC(), Metrics: []v1.MetricPoint{{At: time.Now().UTC(), Step: seq, Values: map[string]float64{"loss": v}}}}
		}
		for _, c := range []struct {
			reports []v1.Report
			taken   int64
		}{
			{[]v1.Report{loss(2, 5), loss(3, 4)}, 3},
			{[]v1.Report{loss(2, 5), loss(3, 4)}, 3}, // the answer was lost, the agent says it again
			{[]v1.Report{loss(5, 1)}, 3},             // a gap
			{[]v1.Report{loss(3, 4), loss(4, 3)}, 4},
		} {
			taken, err := p.server.Report(t.Context(), attempt, c.reports)
			if err != nil || taken != c.taken {
				t.Errorf("taken %d, %v; want %d", taken, err, c.taken)
			}
		}
		var points []v1.MetricPoint
		if err := p.store.View(t.Context(), func(tx store.Tx) (err error) {
			points, err = tx.Metrics(job.Metadata.UID, 100)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(points) != 3 {
			t.Errorf("%d points were kept of 3 different ones", len(points))
		}
	})
}

func TestAnOrderGoesToOneAgentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		p.apply(penstock.KindJob, "lab", "train", gang(1, 1000, map[string]string{sim.RunFor: "1h"}))
		p.until("train", penstock.PhaseRunning, time.Minute)
		attempt := p.fleet.Live()[0]
		for _, c := range []struct {
			name, run string
			rank      int
			code      penstock.Code
		}{
			{"the first gets it", "a", 0, ""},
			{"and gets it again, if the answer was lost", "a", 0, ""},
			{"a second one of the same task doesn't", "b", 0, penstock.Fenced},
			{"nor one without a name", "", 0, penstock.Invalid},
			{"there is no such rank", "a", 1, penstock.Invalid},
			{"nor this one", "a", -1, penstock.Invalid},
		} {
			order, err := p.server.Order(t.Context(), attempt, c.rank, c.run)
			if penstock.CodeOf(err) != c.code || (err == nil) != (order.Job == "train") || order.Server.Token != "" {
				t.Errorf("%s: got %+v, %v", c.name, order, err)
			}
		}
		if _, err := p.server.Order(t.Context(), "0192-unknown", 0, "a"); penstock.CodeOf(err) != penstock.Fenced {
			t.Errorf("an attempt that is gone: %v", err)
		}
	})
}

// TestNothingIsLostOrRunTwiceWhateverCrashes runs random gangs under random
// faults: workers and agents killed, the server crashed at any moment.
func TestNothingIsLostOrRunTwiceWhateverCrashes(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2 // the race detector needs the paths, not the luck
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { storm(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func storm(t *testing.T, random *rand.Rand) {
	p := newPlant(t, 4000, 2000)
	names := make([]string, 12)
	for i := range names {
		names[i] = fmt.Sprintf("job-%d", i)
		spec := gang(1+random.IntN(3), penstock.Amount(500*(1+random.IntN(3))), map[string]string{
			sim.RunFor: fmt.Sprintf("%ds", 5+random.IntN(120)), sim.FailFirst: fmt.Sprint(random.IntN(2)),
		})
		spec.Retries = v1.Retries{Max: 3}
		p.apply(penstock.KindJob, "lab", names[i], spec)
	}
	for range 40 {
		time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
		live := p.fleet.Live()
		switch fault := random.IntN(4); {
		case fault == 0:
			p.crash()
			time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
			p.start()
		case fault == 1 && len(live) > 0:
			_ = p.fleet.Kill(live[random.IntN(len(live))], 0)
		case fault == 2 && len(live) > 0:
			_ = p.fleet.KillAgent(live[random.IntN(len(live))], 0)
		}
		p.check()
	}
	for _, name := range names {
		p.until(name, penstock.PhaseSucceeded, 2*time.Hour)
	}
	p.check()
	if overlaps := p.fleet.Overlaps(); len(overlaps) > 0 {
		t.Errorf("these ran twice at once: %v", overlaps)
	}
}

func TestAJobThatIsAlwaysLostEndsAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 1000)
		p.apply(penstock.KindJob, "lab", "doomed", gang(1, 1000, map[string]string{sim.RunFor: "1h"}))
		for end := time.Now().Add(3 * time.Hour); time.Now().Before(end) && !p.job("doomed").Metadata.Phase.Final(); {
			for _, attempt := range p.fleet.Live() {
				if err := p.fleet.Kill(attempt, 0); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Second)
		}
		job := p.until("doomed", penstock.PhaseFailed, time.Second)
		if job.Status.Reasons[0].Code != penstock.RetriesSpent || job.Status.Attempt != 12 {
			t.Errorf("attempt %d: %s", job.Status.Attempt, penstock.Join(job.Status.Reasons))
		}
		p.check()
	})
}
