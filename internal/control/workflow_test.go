package control_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/dataset"
	"github.com/penstock/penstock/internal/sim"
	"github.com/penstock/penstock/internal/store"
)

// put stores bytes and gives their file.
func (p *plant) put(path string, content []byte) v1.File {
	sum := sha256.Sum256(content)
	d := penstock.DigestOf(sum[:])
	if err := p.blobs.Put(p.t.Context(), d, bytes.NewReader(content)); err != nil {
		p.t.Error(err)
	}
	return v1.File{Path: path, Size: int64(len(content)), Digest: d}
}

// safetensors is a valid file of one tensor that holds n.
func safetensors(n byte) []byte {
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	b := []byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}
	return append(append(b, header...), n, 0, 0, 0)
}

// work plays the tasks of the whole workflow: each output gets what its name says.
func (p *plant) work(o v1.Order) []v1.Report {
	if o.Serve != nil {
		return []v1.Report{{Ready: &v1.Ready{Address: fmt.Sprintf("127.0.0.1:%d", 10000+o.Number)}}}
	}
	var reports []v1.Report
	if o.Checkpoints {
		reports = append(reports, v1.Report{Checkpoint: &v1.Saved{Step: 10, Files: []v1.File{p.put("state.bin", []byte("state of step 10"))}}})
	}
	for _, name := range o.Outputs {
		var files []v1.File
		switch name {
		case "version":
			files = p.datasetFiles()
		case "model":
			files = []v1.File{p.put("model.safetensors", safetensors(o.Parameters["weight"][0]))}
		case "pickle":
			files = []v1.File{p.put("model.bin", []byte("\x80\x04cos\nsystem\n(S'x'\ntR."))}
		case "evaluation":
			files = []v1.File{p.put("metrics.json", []byte(`{"heldout_loss": `+o.Parameters["loss"]+`}`))}
		}
		reports = append(reports, v1.Report{Output: &v1.Collected{Name: name, Files: files}})
	}
	return reports
}

func (p *plant) datasetFiles() []v1.File {
	shard := p.put("train-00000.bin", []byte{1, 0, 2, 0})
	spec := v1.DatasetVersionSpec{
		Dataset: "go", Format: "tokens-u16", Recipe: shard.Digest, Counts: v1.Counts{In: 2, Out: 1, Dropped: map[string]int64{"duplicate": 1}, Bytes: 4},
		Splits: map[string]v1.SplitFiles{"train": {Shards: []v1.File{shard}, Documents: 1, Tokens: 2}},
	}
	spec.Digest = dataset.Digest(spec)
	manifest, err := json.Marshal(spec)
	if err != nil {
		p.t.Error(err)
	}
	return []v1.File{shard, p.put("version.json", manifest)}
}

// training is a job whose model differs with weight.
func training(weight string) v1.JobSpec {
	spec := gang(2, 500, map[string]string{sim.RunFor: "1m", "weight": weight})
	spec.Data = []v1.DataRef{{Name: "go", Dataset: "go", Split: "train"}}
	spec.Checkpoints = &v1.Checkpoints{Keep: 2}
	spec.Outputs = []v1.Output{{Name: "model", Model: "tiny"}}
	return spec
}

func evaluation(loss string) v1.JobSpec {
	spec := gang(1, 500, map[string]string{sim.RunFor: "10s", "loss": loss})
	spec.Class = penstock.ClassEvaluation
	spec.Models = []v1.ModelRef{{Name: "model", Model: "tiny"}}
	spec.Outputs = []v1.Output{{Name: "evaluation", Metrics: &v1.MetricsOut{File: "metrics.json", Model: "model"}}}
	return spec
}

// find reads an object of the project.
func (p *plant) find(kind penstock.Kind, name string) v1.Object {
	p.t.Helper()
	var o v1.Object
	if err := p.store.View(p.t.Context(), func(tx store.Tx) (err error) {
		o, err = tx.Get(penstock.Ref{Kind: kind, Project: "lab", Name: name})
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	return o
}

// versions lists the model's versions, oldest first.
func (p *plant) versions() []v1.ModelVersion {
	p.t.Helper()
	var versions []v1.ModelVersion
	if err := p.store.View(p.t.Context(), func(tx store.Tx) error {
		objects, err := tx.List(store.Query{Kind: penstock.KindModelVersion})
		for _, o := range objects {
			v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
			if err != nil {
				return err
			}
			versions = append(versions, v)
		}
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	return versions
}

// newWorkshop is a plant with a dataset and a gated model.
func newWorkshop(t *testing.T) *plant {
	p := newPlant(t, 4000)
	p.fleet.Work = p.work
	bound := 2.0
	p.apply(penstock.KindModel, "lab", "tiny", v1.ModelSpec{Gates: map[string]v1.Gate{
		"production": {Metrics: []v1.Bound{{Metric: "heldout_loss", Max: &bound}}, Approvals: 1},
	}})
	p.apply(penstock.KindDataset, "lab", "go", v1.DatasetSpec{Source: v1.Source{Path: "/src"}, Prepare: v1.Prepare{Split: map[string]int{"train": 100}}})
	return p
}

func TestTheWholeWorkflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkshop(t)
		p.apply(penstock.KindJob, "lab", "train", training("a"))
		train := p.until("train", penstock.PhaseSucceeded, 10*time.Minute)
		data := p.find(penstock.KindDataset, "go")
		if data.Metadata.Phase != penstock.PhaseReady || train.Status.Inputs[0].Digest == "" {
			t.Fatalf("the dataset is %s, the job's inputs %v", data.Metadata.Phase, train.Status.Inputs)
		}
		time.Sleep(5 * time.Second)
		v := p.versions()[0]
		if m, err := v1.As[v1.ModelSpec, v1.ModelStatus](p.find(penstock.KindModel, "tiny")); err != nil || m.Status.Versions != 1 {
			t.Errorf("the model counts %d versions: %v", m.Status.Versions, err)
		}
		l := v.Spec.Lineage
		if v.Metadata.Phase != penstock.PhaseReady || l.Job != "train" || l.Step != 10 || l.Checkpoint == "" || l.Datasets[0].Digest != train.Status.Inputs[0].Digest || l.Author != "ann" {
			t.Errorf("version %s has lineage %+v", v.Metadata.Phase, l)
		}
		p.gate(v)
		p.serve(v)
		p.leave(v)
	})
}

// gate takes the version through its gate: closed, evaluated, approved, open.
func (p *plant) gate(v v1.ModelVersion) {
	p.t.Helper()
	move := v1.AliasMove{Model: "tiny", Alias: "production", To: v.Spec.Digest}
	promote := func(want penstock.Code) {
		p.t.Helper()
		if _, err := p.server.Promote(p.t.Context(), "ann", "lab", move); penstock.CodeOf(err) != want {
			p.t.Fatalf("promote: %v, want %q", err, want)
		}
	}
	promote(penstock.Denied)
	p.apply(penstock.KindJob, "lab", "bad", evaluation("2.5"))
	p.until("bad", penstock.PhaseSucceeded, 5*time.Minute)
	promote(penstock.Denied)
	p.apply(penstock.KindJob, "lab", "good", evaluation("1.5"))
	p.until("good", penstock.PhaseSucceeded, 5*time.Minute)
	promote(penstock.Denied)
	if _, err := p.server.Approve(p.t.Context(), "ann", v.Ref(), v1.Approval{Alias: "production"}); penstock.CodeOf(err) != penstock.Denied {
		p.t.Errorf("the author approved her own version: %v", err)
	}
	if _, err := p.server.Approve(p.t.Context(), "bob", v.Ref(), v1.Approval{Alias: "production"}); err != nil {
		p.t.Fatal(err)
	}
	promote("")
	promote(penstock.Conflict) // it doesn't point to nothing any more
}

// serve brings an endpoint up, sends it drifting traffic, and sees a retraining
// start with lineage to the alert.
func (p *plant) serve(v v1.ModelVersion) {
	p.t.Helper()
	p.apply(penstock.KindEndpoint, "lab", "chat", v1.EndpointSpec{
		Model: "tiny@production", Runtime: v1.Runtime{Name: "command", Command: []string{"serve"}}, Resources: penstock.Resources{penstock.CPU: 500},
	})
	p.apply(penstock.KindMonitor, "lab", "drift", v1.MonitorSpec{
		Endpoint: "chat", Window: 50, Signals: []v1.Signal{{Name: "prompt_tokens", Bins: []float64{10, 20}, Reference: []int64{80, 15, 5}}},
	})
	p.apply(penstock.KindPipeline, "lab", "retrain", v1.PipelineSpec{
		Triggers: []v1.Trigger{{Monitor: "drift"}}, Steps: []v1.Step{{Name: "train", Job: training("b")}, {Name: "evaluate", Job: evaluation("1.2")}},
	})
	time.Sleep(10 * time.Second)
	e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](p.find(penstock.KindEndpoint, "chat"))
	if err != nil || e.Metadata.Phase != penstock.PhaseReady || len(e.Status.Replicas) != 1 || !e.Status.Replicas[0].Ready || e.Status.Replicas[0].Version != v.Spec.Digest {
		p.t.Fatalf("endpoint is %s with %+v: %v %v", e.Metadata.Phase, e.Status.Replicas, e.Status.Reasons, err)
	}
	p.requests(e, 60, 5)
	time.Sleep(5 * time.Second)
	p.requests(e, 60, 100)
	p.until("retrain-1-evaluate", penstock.PhaseSucceeded, 20*time.Minute)
	if job := p.job("retrain-1-train"); job.Metadata.Labels["trigger"] != "monitor/drift#1" {
		p.t.Errorf("the retraining's labels are %v", job.Metadata.Labels)
	}
	versions := p.versions()
	if len(versions) != 2 || versions[1].Spec.Lineage.Trigger != "monitor/drift#1" {
		p.t.Errorf("%d versions, want a second one that names the alert", len(versions))
	}
}

func (p *plant) requests(e v1.Endpoint, n int, tokens int64) {
	p.t.Helper()
	if err := p.store.Update(p.t.Context(), func(tx store.Tx) error {
		for i := range n {
			r := store.Request{
				ID: fmt.Sprintf("%d-%d", tokens, i), Key: "k", Project: "lab", Endpoint: e.Metadata.UID, EndpointName: "chat", Route: "chat", Started: time.Now().UTC(),
			}
			if err := tx.Reserve(r, 0); err != nil {
				return err
			}
			r.Ended, r.PromptTokens, r.CompletionTokens, r.Outcome, r.Source, r.Status = time.Now().UTC(), tokens, 7, "ok", "upstream", 200
			if _, err := tx.Settle(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
}

// leave deletes the project and sees what is kept, and why.
func (p *plant) leave(v v1.ModelVersion) {
	p.t.Helper()
	if _, err := p.server.Delete(p.t.Context(), "ann", []penstock.Ref{{Kind: penstock.KindProject, Name: "lab"}}, control.Commit); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(time.Minute)
	if live := p.fleet.Live(); len(live) > 0 {
		p.t.Errorf("%d attempts outlive the project", len(live))
	}
	left := map[string]bool{}
	if err := p.store.View(p.t.Context(), func(tx store.Tx) error {
		objects, err := tx.List(store.Query{Project: "lab"})
		for _, o := range objects {
			left[strings.TrimPrefix(o.Ref().String(), "lab")] = true
		}
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	for _, ref := range []string{v.Ref().String(), "job/lab/train", "dataset/lab/go", "model/lab/tiny"} {
		if !left[ref] {
			p.t.Errorf("%s is gone although the version that was in production needs it; left are %v", ref, left)
		}
	}
	for _, ref := range []string{"endpoint/lab/chat", "monitor/lab/drift", "pipeline/lab/retrain", "job/lab/good"} {
		if left[ref] {
			p.t.Errorf("%s is still there", ref)
		}
	}
	p.check()
}

func TestAPickleNeverBecomesVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkshop(t)
		spec := gang(1, 500, map[string]string{sim.RunFor: "1s"})
		spec.Outputs = []v1.Output{{Name: "pickle", Model: "tiny"}}
		p.apply(penstock.KindJob, "lab", "hostile", spec)
		p.until("hostile", penstock.PhaseSucceeded, 5*time.Minute)
		time.Sleep(5 * time.Second)
		v := p.versions()[0]
		if v.Metadata.Phase != penstock.PhaseRefused || v.Status.Scan.Verdict != "malicious" {
			t.Errorf("the version is %s, verdict %+v", v.Metadata.Phase, v.Status.Scan)
		}
		p.apply(penstock.KindJob, "lab", "evaluate", evaluation("1"))
		time.Sleep(time.Minute)
		if job := p.job("evaluate"); job.Metadata.Phase != penstock.PhaseQueued || job.Status.Reasons[0].Code != penstock.DependencyUnmet {
			t.Errorf("a job on the refused version is %s: %v", job.Metadata.Phase, job.Status.Reasons)
		}
	})
}

func TestTheSameRecipeGivesTheSameVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkshop(t)
		digest := func() penstock.Digest {
			time.Sleep(time.Minute)
			d, err := v1.As[v1.DatasetSpec, v1.DatasetStatus](p.find(penstock.KindDataset, "go"))
			if err != nil || d.Metadata.Phase != penstock.PhaseReady {
				t.Fatalf("the dataset is %s: %v", d.Metadata.Phase, err)
			}
			return d.Status.Version
		}
		before := digest()
		p.apply(penstock.KindDataset, "lab", "go", v1.DatasetSpec{Source: v1.Source{Path: "/src"}, Class: "public", Prepare: v1.Prepare{Split: map[string]int{"train": 100}}})
		if after := digest(); after != before {
			t.Errorf("the version changed from %s to %s", before, after)
		}
		if prepared := p.job("go-prepare-2"); prepared.Metadata.Phase != penstock.PhaseSucceeded {
			t.Errorf("the second preparation is %s", prepared.Metadata.Phase)
		}
	})
}

func TestAnEndpointSaysWhenItMissesItsObjective(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkshop(t)
		p.apply(penstock.KindEndpoint, "lab", "chat", v1.EndpointSpec{
			Model: "tiny@staging", Runtime: v1.Runtime{Name: "command", Command: []string{"serve"}}, Objective: v1.Objective{TTFT: v1.Duration(50 * time.Millisecond)},
		})
		met := func() (bool, string) {
			time.Sleep(5 * time.Second)
			e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](p.find(penstock.KindEndpoint, "chat"))
			if err != nil || len(e.Status.Conditions) != 1 {
				t.Fatalf("conditions are %+v: %v", e.Status.Conditions, err)
			}
			return e.Status.Conditions[0].Status, e.Status.Conditions[0].Message
		}
		if kept, why := met(); !kept {
			t.Errorf("without requests it is missed: %s", why)
		}
		e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](p.find(penstock.KindEndpoint, "chat"))
		if err != nil {
			t.Fatal(err)
		}
		p.slow(e, 40, 80*time.Millisecond)
		if kept, why := met(); kept || !strings.Contains(why, "80ms") {
			t.Errorf("kept is %v with 40 requests of 80ms: %s", kept, why)
		}
	})
}

// slow writes down n requests that waited for their first token.
func (p *plant) slow(e v1.Endpoint, n int, ttft time.Duration) {
	p.t.Helper()
	if err := p.store.Update(p.t.Context(), func(tx store.Tx) error {
		for i := range n {
			r := store.Request{ID: fmt.Sprint("slow-", i), Key: "k", Project: "lab", Endpoint: e.Metadata.UID, EndpointName: "chat", Route: "chat", Started: time.Now().UTC()}
			if err := tx.Reserve(r, 0); err != nil {
				return err
			}
			r.Ended, r.TTFT, r.CompletionTokens, r.Outcome, r.Source, r.Status = time.Now().UTC(), ttft, 1, "ok", "upstream", 200
			if _, err := tx.Settle(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
}

func TestARestartFallsBackToTheStepThatIsWholeAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 4000)
		first, second := p.put("a", []byte("step 10")), p.put("a", []byte("step 20"))
		p.fleet.Work = func(o v1.Order) []v1.Report {
			if o.Rank != 0 || o.Number > 1 {
				return nil
			}
			return []v1.Report{{Checkpoint: &v1.Saved{Step: 10, Files: []v1.File{first}}}, {Checkpoint: &v1.Saved{Step: 20, Files: []v1.File{second}}}}
		}
		spec := gang(2, 500, map[string]string{sim.RunFor: "1m"})
		spec.Checkpoints = &v1.Checkpoints{Keep: 2}
		p.apply(penstock.KindJob, "lab", "train", spec)
		p.until("train", penstock.PhaseRunning, time.Minute)
		time.Sleep(5 * time.Second)
		if err := p.blobs.Delete(t.Context(), second.Digest); err != nil {
			t.Fatal(err)
		}
		if err := p.fleet.Kill(p.fleet.Live()[0], 1); err != nil {
			t.Fatal(err)
		}
		p.until("train", penstock.PhaseSucceeded, 10*time.Minute)
		a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](p.find(penstock.KindAttempt, "train-2"))
		if err != nil || a.Spec.Step != 10 {
			t.Errorf("attempt 2 started from step %d, %v; want 10", a.Spec.Step, err)
		}
		x, err := p.server.Explain(t.Context(), penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: "train"})
		told := false
		for _, e := range x.Events {
			told = told || e.Reason == "CheckpointLost" && strings.Contains(e.Message, "step 20")
		}
		if err != nil || !told {
			t.Errorf("nobody was told: %v %+v", err, x.Events)
		}
	})
}
