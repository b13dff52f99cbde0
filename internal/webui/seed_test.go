package webui

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// hostile is what somebody might name things to reach another reader's session.
const hostile = `"><script>alert(1)</script><img src=x onerror='alert(2)'>`

// world is a small installation: project vision trains and serves, project
// text waits.
type world struct {
	t        *testing.T
	store    store.Store
	verifier *auth.Verifier
	journal  *audit.Journal
	site     *site
	now      time.Time
	created  int    // objects so far
	logs     string // what every task wrote
	// Tokens by holder: "admin" of the installation, "vision" and "text" of
	// their projects, "gateway" for models only, "stranger" of vision, no member.
	tokens map[string]string
	ids    map[string]string // of the tokens
}

func newWorld(t *testing.T) *world {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "penstock.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, store: st, verifier: auth.NewVerifier(st), now: time.Now().UTC().Truncate(time.Microsecond),
		logs: "step 1 loss 2.5\n", tokens: map[string]string{}, ids: map[string]string{},
	}
	w.journal = audit.NewJournal(st, slog.New(slog.DiscardHandler))
	t.Cleanup(w.journal.Close)
	w.update(func(tx store.Tx) {
		w.seedTenants(tx)
		w.seedTraining(tx)
		w.seedServing(tx)
		w.seedMoney(tx)
	})
	w.site = w.newSite(files)
	return w
}

func (w *world) update(fn func(tx store.Tx)) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), func(tx store.Tx) error { fn(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) seedTenants(tx store.Tx) {
	for _, name := range []string{"vision", "text"} {
		create(w, tx, v1.Project{Kind: penstock.KindProject, Metadata: v1.Metadata{Name: name, Phase: penstock.PhaseReady}, Spec: v1.ProjectSpec{
			Owner: "ann", CostCentre: "1", Members: []v1.Member{{Subject: name + "-user", Role: penstock.RoleDeveloper}},
		}})
	}
	for holder, r := range map[string]auth.Request{
		"admin":    {Use: store.Access, Subject: "root", Role: penstock.RoleAdmin},
		"vision":   {Use: store.Access, Subject: "vision-user", Project: "vision", Role: penstock.RoleDeveloper},
		"text":     {Use: store.Access, Subject: "text-user", Project: "text", Role: penstock.RoleDeveloper},
		"stranger": {Use: store.Access, Subject: "left-long-ago", Project: "vision", Role: penstock.RoleDeveloper},
		"gateway":  {Use: store.Gateway, Subject: "app", Project: "vision"},
	} {
		token, c, err := auth.Issue(r, w.now)
		w.check(err)
		w.check(tx.PutCredential(c))
		w.tokens[holder], w.ids[holder] = token.Reveal(), c.ID
	}
}

// create stores r under a new UID.
func create[S, T any](w *world, tx store.Tx, r v1.Resource[S, T]) v1.Resource[S, T] {
	w.t.Helper()
	w.created++ // UIDs sort by their millisecond
	uid, err := penstock.NewUID(w.now.Add(time.Duration(w.created)*time.Millisecond), rand.Reader)
	w.check(err)
	r.Metadata.UID, r.Metadata.CreatedBy = uid, "vision-user"
	if r.Metadata.CreatedAt.IsZero() {
		r.Metadata.CreatedAt = w.now.Add(-time.Hour)
	}
	r.Metadata.UpdatedAt = r.Metadata.CreatedAt
	o, err := r.Object()
	w.check(err)
	o, err = tx.Create(o)
	w.check(err)
	r.Metadata = o.Metadata
	return r
}

func gpus(n penstock.Amount) penstock.Resources {
	return penstock.Resources{"h100": n * 1000, penstock.CPU: 8000, penstock.Memory: 64 << 30}
}

func (w *world) seedTraining(tx store.Tx) {
	create(w, tx, v1.Pool{
		Kind: penstock.KindPool, Metadata: v1.Metadata{Name: "rack", Phase: penstock.PhaseReady},
		Spec:   v1.PoolSpec{Executor: "local", Region: "eu-west", Market: "owned", Prices: map[penstock.Resource]penstock.Money{"h100": 2 * penstock.Unit}},
		Status: v1.PoolStatus{Capacity: penstock.Resources{"h100": 8000, penstock.CPU: 64000, penstock.Memory: 512 << 30}, Nodes: []v1.Node{{Name: "node-1", Capacity: gpus(8)}}},
	})
	task := []v1.TaskSet{{Name: "worker", Replicas: 2, Command: []string{"train"}, Resources: gpus(2)}}
	job := create(w, tx, v1.Job{
		Kind: penstock.KindJob,
		Metadata: v1.Metadata{
			Project: "vision", Name: "train-7", Phase: penstock.PhaseRunning,
			Labels: map[string]string{"team": hostile, "model": "tiny"},
		},
		Spec: v1.JobSpec{Tasks: task},
		Status: v1.JobStatus{
			Class: penstock.ClassTraining, Evidence: "it writes checkpoints", Attempt: 2, Step: 100, QueuedAt: w.now.Add(-50 * time.Minute),
			StartedAt: w.now.Add(-40 * time.Minute), Metrics: map[string]float64{"loss": 1.25},
		},
	})
	for number := 1; number <= 2; number++ {
		a := v1.Attempt{
			Kind: penstock.KindAttempt,
			Metadata: v1.Metadata{
				Project: "vision", Name: fmt.Sprintf("train-7-%d", number), Owner: job.Metadata.UID, Phase: penstock.PhaseRunning,
				CreatedAt: w.now.Add(time.Duration(-60+20*number) * time.Minute),
			},
			Spec: v1.AttemptSpec{Job: "train-7", JobUID: job.Metadata.UID, Number: number, Pool: "rack", Step: -1, Why: "fits node-1", Tasks: []v1.PlacedTask{
				{Set: "worker", Rank: 0, Node: "node-1", Resources: gpus(2)}, {Set: "worker", Index: 1, Rank: 1, Node: "node-1", Resources: gpus(2)},
			}},
		}
		if number == 1 {
			a.Metadata.Phase = penstock.PhaseLost
			a.Status.EndedAt = w.now.Add(-25 * time.Minute)
			a.Status.Reasons = []penstock.Reason{penstock.Because(penstock.NodeLost, penstock.Wait, "node-1 was silent for 40 s")}
		}
		create(w, tx, a)
	}
	w.seedCurve(tx, job.Metadata.UID)
	w.check(tx.CommitCheckpoint(v1.Checkpoint{Job: job.Metadata.UID, Step: 100, Attempt: 2, Digest: digestOf(7), Bytes: 3 << 20, Committed: w.now.Add(-time.Minute)}))
	w.check(tx.AppendEvent(store.Event{At: w.now.Add(-time.Minute), Project: "vision", Kind: penstock.KindJob, UID: job.Metadata.UID, Name: "train-7", Reason: "Running", Message: hostile}))
	create(w, tx, v1.Job{
		Kind: penstock.KindJob, Metadata: v1.Metadata{Project: "text", Name: "waits", Phase: penstock.PhaseQueued}, Spec: v1.JobSpec{Tasks: task, Priority: 5},
		Status: v1.JobStatus{QueuedAt: w.now.Add(-12 * time.Minute), Reasons: []penstock.Reason{
			penstock.Because(penstock.QuotaExhausted, penstock.Ask, "text uses 4 of 4 h100 "+hostile).With("want", 4),
		}},
	})
	failed := create(w, tx, v1.Job{
		Kind: penstock.KindJob, Metadata: v1.Metadata{Project: "vision", Name: "broken", Phase: penstock.PhaseFailed}, Spec: v1.JobSpec{Tasks: task},
		Status: v1.JobStatus{EndedAt: w.now.Add(-2 * time.Hour), Reasons: []penstock.Reason{penstock.Because(penstock.RetriesSpent, penstock.Change, "rank 0 exited with 1, 3 times")}},
	})
	w.check(tx.AppendEvent(store.Event{At: w.now, Project: "vision", Kind: penstock.KindJob, UID: failed.Metadata.UID, Name: "broken", Reason: "Failed", Message: "3 times"}))
}

// seedCurve reports steps 1 to 60 and, after a restart, 51 to 100.
func (w *world) seedCurve(tx store.Tx, job penstock.UID) {
	for attempt, steps := range [][2]int64{{1, 60}, {51, 100}} {
		var points []v1.MetricPoint
		for step := steps[0]; step <= steps[1]; step++ {
			at := w.now.Add(time.Duration(step)*time.Second - 40*time.Minute + time.Duration(attempt)*20*time.Minute)
			points = append(points, v1.MetricPoint{At: at, Step: step, Values: map[string]float64{
				"loss": 1 + 4*math.Exp(-float64(step)/30) + 0.1*math.Sin(float64(step)), "tokens_per_second": 1000 + 50*math.Cos(float64(step)/4), hostile: 1,
			}})
		}
		w.check(tx.AppendMetrics(job, attempt+1, points))
	}
}

func digestOf(n byte) penstock.Digest {
	return penstock.DigestOf([]byte(strings.Repeat(string(rune(n)), 32)))
}

func (w *world) seedServing(tx store.Tx) {
	limit := 2.5
	model := create(w, tx, v1.Model{
		Kind: penstock.KindModel, Metadata: v1.Metadata{Project: "vision", Name: "tiny", Phase: penstock.PhaseReady},
		Spec:   v1.ModelSpec{Description: hostile, Gates: map[string]v1.Gate{"production": {Metrics: []v1.Bound{{Metric: "eval_loss", Max: &limit}}, Approvals: 1}}},
		Status: v1.ModelStatus{Versions: 2, Aliases: map[string]penstock.Digest{"production": digestOf(1)}},
	})
	for n := byte(1); n <= 2; n++ {
		create(w, tx, v1.ModelVersion{
			Kind:     penstock.KindModelVersion,
			Metadata: v1.Metadata{Project: "vision", Name: "tiny-" + digestOf(n).Short(), Owner: model.Metadata.UID, Phase: penstock.PhaseReady},
			Spec: v1.ModelVersionSpec{Model: "tiny", Digest: digestOf(n), Files: []v1.File{{Path: "m.gguf"}}, Lineage: v1.Lineage{
				Job: "train-7", Attempt: 1, Step: 100, Author: "vision-user", Datasets: []v1.Input{{Name: "corpus", Kind: penstock.KindDatasetVersion, Digest: digestOf(9)}},
			}},
			Status: v1.ModelVersionStatus{Scan: &v1.Scan{Verdict: "clean", Ruleset: "1", At: w.now}, Metrics: map[string]float64{"eval_loss": 3}, Evaluations: []v1.Evaluation{
				{Job: "eval", Metrics: map[string]float64{"eval_loss": 3}, At: w.now},
			}},
		})
	}
	w.check(tx.AppendAliasMove(v1.AliasMove{Model: "tiny", Alias: "production", To: digestOf(1), By: "ann", At: w.now.Add(-time.Hour), Note: hostile}, "vision"))
	e := create(w, tx, v1.Endpoint{
		Kind: penstock.KindEndpoint, Metadata: v1.Metadata{Project: "vision", Name: "chat", Phase: penstock.PhaseReady},
		Spec:   v1.EndpointSpec{Model: "tiny@production", Runtime: v1.Runtime{Name: "llama"}, Resources: gpus(1)},
		Status: v1.EndpointStatus{Version: digestOf(1), Replicas: []v1.Replica{{Address: "127.0.0.1:9", Ready: true, Version: digestOf(1)}}},
	})
	for i := range 40 {
		r := store.Request{
			ID: fmt.Sprint("r", i), Key: w.ids["gateway"], Project: "vision", Endpoint: e.Metadata.UID, EndpointName: "chat", Version: digestOf(1), Route: "chat",
			Started: w.now.Add(time.Duration(i-60) * time.Second), Reserved: 10,
		}
		w.check(tx.Reserve(r, 0))
		r.Ended, r.TTFT = r.Started.Add(900*time.Millisecond), time.Duration(80+i)*time.Millisecond
		r.PromptTokens, r.CompletionTokens, r.Outcome, r.Source, r.Status = 20, int64(30+i%7), "ok", "upstream", 200
		if i == 39 {
			r.Outcome, r.Source, r.Status = "aborted", "counted", 499
		}
		_, err := tx.Settle(r)
		w.check(err)
	}
	create(w, tx, v1.Monitor{
		Kind: penstock.KindMonitor, Metadata: v1.Metadata{Project: "vision", Name: "drift", Phase: penstock.PhaseReady}, Spec: v1.MonitorSpec{Endpoint: "chat"},
		Status: v1.MonitorStatus{Alert: &v1.Alert{Number: 1, At: w.now, Reason: penstock.Because(penstock.Drifted, penstock.Change, "prompt_tokens: PSI 0.41, 0.25 is the threshold")}},
	})
}

// seedMoney lets vision hold 4 of 8 h100 for the last hour.
func (w *world) seedMoney(tx store.Tx) {
	from := w.now.Add(-time.Hour)
	w.check(tx.AppendRate(store.Rate{Pool: "rack", Resource: "h100", Price: 2 * penstock.Unit, Capacity: 8000, From: from}))
	w.check(tx.AppendUsage(store.Usage{
		ID: "u1", Project: "vision", Job: "j", JobName: "train-7", Attempt: 1, Pool: "rack", Node: "node-1", Resource: "h100", Amount: 4000, From: from, To: w.now,
		Labels: map[string]string{"team": hostile, "model": "tiny", "endpoint": "chat"}, Outcome: "lost",
	}))
}

// stage is a control plane that only answers.
type stage struct{ w *world }

func (c stage) Explain(ctx context.Context, ref penstock.Ref) (v1.Explanation, error) {
	x := v1.Explanation{Ref: ref}
	err := c.w.store.View(ctx, func(tx store.Tx) error {
		o, err := tx.Get(ref)
		if err != nil {
			return err
		}
		list, err := tx.Events(ref.Project, o.Metadata.UID, 20)
		for _, e := range list {
			x.Events = append(x.Events, v1.Event{At: e.At, Reason: e.Reason, Message: e.Message})
		}
		return err
	})
	if ref.Name == "waits" {
		x.Reasons = []penstock.Reason{penstock.Because(penstock.NoCapacity, penstock.Wait, "4 h100 wanted, 2 are free")}
		x.Holders = []v1.Holder{{Job: penstock.Ref{Kind: penstock.KindJob, Project: "vision", Name: "train-7"}, Holds: gpus(4), Since: c.w.now.Add(-time.Hour)}}
		x.Fixes = []v1.Fix{{Command: "penstock job edit waits --replicas 1", Effect: "starts now on node-1"}}
	}
	return x, err
}

func (c stage) Cost(ctx context.Context, window meter.Window) (r meter.Report, err error) {
	err = c.w.store.View(ctx, func(tx store.Tx) error {
		uses, err := tx.Usage(window.From, window.To)
		if err != nil {
			return err
		}
		rates, err := tx.Rates(window.To)
		if err != nil {
			return err
		}
		tallies, err := tx.Tally(window.From, window.To)
		if err != nil {
			return err
		}
		r, err = meter.Cost(window, uses, rates, tallies)
		return err
	})
	return r, err
}

// scribe is an executor whose every task wrote the same.
type scribe struct {
	run.Executor
	w *world
}

func (s scribe) Logs(_ context.Context, _ penstock.UID, rank int, _ run.LogOptions) (io.ReadCloser, error) {
	if rank > 0 {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: "no such log"}
	}
	return io.NopCloser(strings.NewReader(s.w.logs)), nil
}

func (w *world) options() Options {
	return Options{
		Store: w.store, Control: stage{w}, Verifier: w.verifier, Journal: w.journal, Executors: map[string]run.Executor{"local": scribe{w: w}},
		Log: slog.New(slog.DiscardHandler), Version: "v0.0.0-test", Currency: "EUR",
	}
}
