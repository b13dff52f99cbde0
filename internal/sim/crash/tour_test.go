package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

const (
	project = "tour"
	alias   = "production"
	// steps is how long the training is: some 10 s where nothing is killed.
	steps = 200
	// tourTime bounds the whole tour.
	tourTime = 8 * time.Minute
)

// edits make the tour small. Each must be found, so that a change of the
// example can't silently make this test run something else.
var edits = map[string][][2]string{
	"project.yaml": nil,
	"dataset.yaml": {{`"**/*.go"`, `"bytes/*.go", "fmt/*.go", "net/http/*.go", "strings/*.go"`}},
	"model.yaml":   {{"max: 3.3", "max: 5.5"}},
	"train.yaml": {
		{`steps: "800"`, fmt.Sprintf(`steps: "%d"`, steps)}, {`checkpoint_every: "50"`, `checkpoint_every: "5"`},
		{"window: 257", "window: 65"}, {"batch: 8", "batch: 4"}, {"backoff: 5s", "backoff: 1s"}, {"grace: 30s", "grace: 5s"},
	},
	"evaluate.yaml": {{`windows: "256"`, `windows: "16"`}, {"backoff: 5s", "backoff: 1s"}},
	"endpoint.yaml": nil,
}

// copyTour writes the small tour to a folder.
func copyTour(t *testing.T) string {
	t.Helper()
	from, to := filepath.Join(repository, "examples", "tour"), t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "code"), os.DirFS(filepath.Join(from, "code"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(to, "code", "__pycache__")); err != nil {
		t.Fatal(err)
	}
	for name, changes := range edits {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, c := range changes {
			if !strings.Contains(text, c[0]) {
				t.Fatalf("%s of the tour has no %q any more: adapt this test", name, c[0])
			}
			text = strings.ReplaceAll(text, c[0], c[1])
		}
		text = strings.ReplaceAll(text, "$GOROOT", goroot(t))
		if err := os.WriteFile(filepath.Join(to, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// goroot is where the Go standard library is: text enough, and the same each time.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func ref(kind penstock.Kind, name string) penstock.Ref {
	return penstock.Ref{Kind: kind, Project: project, Name: name}
}

// tour is one run of the tour under fire.
type tour struct {
	*plant
	folder string
	killer *killer
	watch  *watcher
}

func (r *tour) apply(ctx context.Context, name string) {
	r.t.Helper()
	r.command(ctx, "apply", "-f", filepath.Join(r.folder, name))
}

// Server, agents and workers are killed at 30 random moments, and the tour gives
// what it would have given.
func TestTheTourSurvivesKillsAtRandomMoments(t *testing.T) {
	needTour(t)
	ctx, cancel := context.WithTimeout(t.Context(), tourTime)
	defer cancel()
	p := newPlant(t)
	r := &tour{plant: p, folder: copyTour(t), killer: newKiller(t, p)}
	began := time.Now()
	r.apply(ctx, "project.yaml")
	w, endWatch := p.watch(ctx, ref(penstock.KindJob, "train"))
	r.watch = w

	left := r.killer.budget
	left -= r.killer.during(ctx, "train", left*11/20, r.trainProgress(), func() { r.train(ctx) })
	t.Logf("trained after %s", time.Since(began).Round(time.Second))
	left -= r.killer.during(ctx, "register", left/3, r.phases(penstock.KindAttempt, project, penstock.PhaseRunning), func() { r.register(ctx) })
	t.Logf("registered after %s", time.Since(began).Round(time.Second))
	served := r.serve(ctx, left)
	t.Logf("served after %s", time.Since(began).Round(time.Second))
	r.stopServing(ctx)
	endWatch()
	p.stop()
	if left := look(p.data); len(left) > 0 {
		t.Errorf("%d processes are left over: %v", len(left), left)
	}
	r.audit(context.WithoutCancel(ctx), served)
	t.Logf("seed %d, in %s, with %d server starts; kills by stage: %v", r.killer.seed, time.Since(began).Round(time.Second), p.starts, r.killer.count)
}

func (r *tour) trainProgress() func() int64 {
	ready := r.phases(penstock.KindDataset, project, penstock.PhaseReady)
	return func() int64 { return ready() + r.watch.progress() }
}

func (r *tour) train(ctx context.Context) {
	r.t.Helper()
	for _, name := range []string{"dataset.yaml", "model.yaml", "train.yaml"} {
		r.apply(ctx, name)
	}
	r.reach(ctx, ref(penstock.KindDataset, "go"), penstock.PhaseReady)
	r.reach(ctx, ref(penstock.KindJob, "train"), penstock.PhaseSucceeded)
}

// version is the one model version that there is.
func (r *tour) version(ctx context.Context) v1.ModelVersion {
	r.t.Helper()
	var version v1.ModelVersion
	r.until(ctx, "wait for one version of the model that is ready", func(ctx context.Context, c *client.Client) (bool, error) {
		all, _, err := c.List(ctx, penstock.KindModelVersion, client.ListOptions{Project: project})
		if err != nil || len(all) == 0 {
			return false, err
		}
		if len(all) > 1 {
			return false, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("there are %d versions", len(all))}
		}
		version, err = v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](all[0])
		return version.Metadata.Phase == penstock.PhaseReady, err
	})
	return version
}

// register evaluates the version, approves it and makes it the one in production.
func (r *tour) register(ctx context.Context) {
	r.t.Helper()
	version := r.version(ctx)
	r.apply(ctx, "evaluate.yaml")
	r.reach(ctx, ref(penstock.KindJob, "evaluate"), penstock.PhaseSucceeded)
	var bob v1.TokenInfo
	r.call(ctx, "make a token for the approver", func(ctx context.Context, c *client.Client) (err error) {
		bob, err = c.CreateToken(ctx, v1.TokenRequest{Subject: "bob", Project: project, Role: penstock.RoleApprover})
		return err
	})
	r.call(ctx, "approve", func(ctx context.Context, c *client.Client) error {
		c.Token = bob.Token
		_, err := c.Approve(ctx, version.Ref(), v1.ApproveRequest{Alias: alias})
		return err
	})
	model := ref(penstock.KindModel, "tiny-go")
	r.call(ctx, "promote", func(ctx context.Context, c *client.Client) error {
		_, err := c.Promote(ctx, model, v1.PromoteRequest{Alias: alias, To: version.Spec.Digest})
		if penstock.CodeOf(err) != penstock.Conflict {
			return err
		}
		// It may have moved in a call whose answer was lost.
		m, readErr := client.GetAs[v1.ModelSpec, v1.ModelStatus](ctx, c, model)
		if readErr != nil || m.Status.Aliases[alias] == version.Spec.Digest {
			return readErr
		}
		return err
	})
}

// serve puts the model behind the gateway and lets clients ask while n
// processes are killed, and some more afterwards.
func (r *tour) serve(ctx context.Context, n int) *traffic {
	r.t.Helper()
	r.apply(ctx, "endpoint.yaml")
	f := &traffic{p: r.plant, model: project + "/chat", answered: map[string]usage{}}
	r.call(ctx, "make a gateway key", func(ctx context.Context, c *client.Client) error {
		key, err := c.CreateToken(ctx, v1.TokenRequest{Subject: "clients", Project: project, Key: &v1.KeyLimits{}})
		f.key = key.Token
		return err
	})
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() { f.ask(asking) })
	}
	r.reach(ctx, ref(penstock.KindEndpoint, "chat"), penstock.PhaseReady)
	r.killer.finish(ctx, "serve", n, r.phases(penstock.KindAttempt, project, penstock.PhaseRunning))
	r.reach(ctx, ref(penstock.KindEndpoint, "chat"), penstock.PhaseReady)
	want := f.count() + 20
	r.until(ctx, "wait for answers after the last kill", func(context.Context, *client.Client) (bool, error) { return f.count() >= want, nil })
	enough()
	clients.Wait()
	r.t.Logf("%d requests were answered whole, %d were not", len(f.answered), f.broken)
	return f
}

// stopServing ends the serving jobs, which would go on for ever, and waits until
// nothing is left to do.
func (r *tour) stopServing(ctx context.Context) {
	r.t.Helper()
	r.until(ctx, "wait until no job is left to do", func(ctx context.Context, c *client.Client) (bool, error) {
		jobs, _, err := c.List(ctx, penstock.KindJob, client.ListOptions{})
		if err != nil {
			return false, err
		}
		over := true
		for _, job := range jobs {
			if over = over && job.Metadata.Phase.Final(); !job.Metadata.Phase.Final() {
				err = errors.Join(err, c.Stop(ctx, job.Ref()))
			}
		}
		return over && len(look(r.data)) == 0, err
	})
}
