package fleet

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres"
)

// steps is how long both manifests train.
const steps = 100

func job(ctx context.Context, s *server, name string) v1.Job {
	s.t.Helper()
	return get[v1.JobSpec, v1.JobStatus](ctx, s, penstock.KindJob, name)
}

func attempt(ctx context.Context, s *server, name string, number int) v1.Attempt {
	s.t.Helper()
	return get[v1.AttemptSpec, v1.AttemptStatus](ctx, s, penstock.KindAttempt, fmt.Sprintf("%s-%d", name, number))
}

// running waits until an attempt of a job runs, at every rank.
func (s *server) running(ctx context.Context, name string, number int) {
	s.t.Helper()
	s.until(ctx, fmt.Sprintf("attempt %d of %s runs", number, name), func() (bool, error) {
		j, err := client.GetAs[v1.JobSpec, v1.JobStatus](ctx, s.api, s.ref(penstock.KindJob, name))
		if err == nil && (j.Metadata.Phase.Final() || j.Status.Attempt > number) {
			err = &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("it is %s in attempt %d", j.Metadata.Phase, j.Status.Attempt)}
		}
		return err == nil && j.Status.Attempt == number && j.Metadata.Phase == penstock.PhaseRunning, err
	})
}

// committed waits until the first attempt has a committed checkpoint and goes on,
// and gives its step.
func (s *server) committed(ctx context.Context, atLeast int64) (step int64) {
	s.t.Helper()
	s.until(ctx, fmt.Sprintf("a checkpoint of step %d or later is committed", atLeast), func() (bool, error) {
		if j := job(ctx, s, "train"); j.Metadata.Phase.Final() || j.Status.Attempt > 1 {
			return false, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("train is %s in attempt %d", j.Metadata.Phase, j.Status.Attempt)}
		}
		saved, err := s.api.Checkpoints(ctx, s.ref(penstock.KindJob, "train"))
		if err != nil || len(saved) == 0 || saved[0].Step < atLeast {
			return false, err
		}
		step = saved[0].Step
		return true, nil
	})
	return step
}

// lost waits until an attempt has ended for what was done to it.
func (s *server) lost(ctx context.Context, name string, number int) v1.Attempt {
	s.t.Helper()
	var a v1.Attempt
	s.until(ctx, fmt.Sprintf("attempt %d of %s has ended", number, name), func() (bool, error) {
		a = attempt(ctx, s, name, number)
		return a.Metadata.Phase.Final(), nil
	})
	if a.Metadata.Phase != penstock.PhaseLost {
		s.t.Errorf("attempt %d of %s is %s: %s; want Lost, which no job is blamed for", number, name, a.Metadata.Phase, penstock.Join(a.Status.Reasons))
	}
	s.t.Logf("attempt %d of %s: %s", number, name, penstock.Join(a.Status.Reasons))
	return a
}

// checkResumed holds the two attempts to what a gang is promised: it ended whole,
// and started whole from the newest step that was committed.
func (s *server) checkResumed(ctx context.Context, committed int64) {
	s.t.Helper()
	first, second := attempt(ctx, s, "train", 1), attempt(ctx, s, "train", 2)
	if len(first.Status.Tasks) != 2 || len(second.Status.Tasks) != 2 {
		s.t.Fatalf("the attempts have %d and %d tasks, want 2 each", len(first.Status.Tasks), len(second.Status.Tasks))
	}
	for _, task := range first.Status.Tasks {
		if task.Ended.IsZero() || task.Ended.After(second.Metadata.CreatedAt) {
			s.t.Errorf("rank %d of attempt 1 ended at %s, attempt 2 was placed at %s", task.Rank, task.Ended, second.Metadata.CreatedAt)
		}
	}
	if second.Spec.Step < committed || second.Spec.Step <= 0 || second.Spec.Step >= steps {
		s.t.Errorf("attempt 2 starts from step %d, and %d was committed before", second.Spec.Step, committed)
	}
	s.t.Logf("attempt 2 went on from step %d, %.1f s after attempt 1 had ended", second.Spec.Step, second.Status.StartedAt.Sub(first.Status.EndedAt).Seconds())
	for rank := range 2 {
		said := s.do(ctx, "logs", "train", "--rank", fmt.Sprint(rank), "--attempt", "2")
		if want := fmt.Sprintf("rank %d of 2 starts at step %d of %d", rank, second.Spec.Step, steps); !strings.Contains(said, want) {
			s.t.Errorf("the log of rank %d lacks %q:\n%s", rank, want, said)
		}
	}
	s.checkLoss(ctx, second)
}

// checkLoss: the resumed run leaves out no step, takes a step that was lost to
// the same loss, and gets on.
func (s *server) checkLoss(ctx context.Context, second v1.Attempt) {
	s.t.Helper()
	points, err := s.api.Metrics(ctx, s.ref(penstock.KindJob, "train"))
	if err != nil || len(points) == 0 {
		s.t.Fatalf("train reported %d points: %v", len(points), err)
	}
	before, next, last := map[int64]float64{}, second.Spec.Step+1, 0.0
	for _, p := range points {
		loss := p.Values["loss"]
		if !p.At.After(second.Metadata.CreatedAt) {
			before[p.Step] = loss
			continue
		}
		if p.Step != next {
			s.t.Errorf("attempt 2 reports step %d, want %d", p.Step, next)
		}
		next, last = p.Step+1, loss
		if was, ok := before[p.Step]; ok && was != loss {
			s.t.Errorf("step %d gave the loss %v, and %v when it was taken again", p.Step, was, loss)
		}
	}
	if next != steps+1 || last >= before[1]-1 {
		s.t.Errorf("the training ended at step %d with the loss %.3f; it began with %.3f", next-1, last, before[1])
	}
	s.t.Logf("the loss went from %.3f to %.3f nats a byte in %d steps", before[1], last, next-1)
}

// checkModel looks at the version that came out: its lineage, and its bytes in
// the bucket.
func (s *server) checkModel(ctx context.Context) {
	s.t.Helper()
	train := job(ctx, s, "train")
	i := slices.IndexFunc(train.Status.Results, func(r v1.Result) bool { return r.Kind == penstock.KindModelVersion })
	if i < 0 {
		s.t.Fatalf("train made %v, and no version of a model", train.Status.Results)
	}
	var version v1.ModelVersion
	s.until(ctx, "the model version is scanned", func() (bool, error) {
		version = get[v1.ModelVersionSpec, v1.ModelVersionStatus](ctx, s, penstock.KindModelVersion, train.Status.Results[i].Name)
		return version.Status.Scan != nil, nil
	})
	data := get[v1.DatasetSpec, v1.DatasetStatus](ctx, s, penstock.KindDataset, "go")
	l := version.Spec.Lineage
	switch {
	case version.Metadata.Phase != penstock.PhaseReady:
		s.t.Errorf("the version is %s: %+v", version.Metadata.Phase, version.Status)
	case l.Job != "train" || l.Attempt != 2 || l.Step != steps:
		s.t.Errorf("it comes from job %s, attempt %d, step %d", l.Job, l.Attempt, l.Step)
	case len(l.Datasets) != 1 || l.Datasets[0].Digest != data.Status.Version || data.Status.Version == "":
		s.t.Errorf("it comes from the datasets %v, want version %s", l.Datasets, data.Status.Version)
	case train.Spec.Tasks[0].Code == nil || l.Code != train.Spec.Tasks[0].Code.Digest:
		s.t.Errorf("it comes from the code %s, which isn't that of the job", l.Code)
	case len(version.Spec.Files) != 3:
		s.t.Errorf("it has the files %v, want 3", version.Spec.Files)
	}
	for _, f := range version.Spec.Files {
		hex := strings.TrimPrefix(string(f.Digest), "sha256:")
		content, err := os.ReadFile(filepath.Join(s.bucket.Folder, "blobs", "sha256", hex[:2], hex[2:]))
		if err != nil || fmt.Sprintf("%x", sha256.Sum256(content)) != hex {
			s.t.Errorf("the bucket's bytes of %s aren't those of the version: %v", f.Path, err)
		}
	}
	if said := s.do(ctx, "model", "show", "tiny-go"); !strings.Contains(said, l.Code.Short()) {
		s.t.Errorf("'penstock model show' doesn't tell of the code %s:\n%s", l.Code.Short(), said)
	}
}

// nodes gives where the tasks of an attempt were, by the facts that are paid for.
func (s *server) nodes(ctx context.Context, name string, number int) []string {
	s.t.Helper()
	state, err := postgres.Open(ctx, postgres.Options{URL: s.database})
	if err != nil {
		s.t.Fatal(err)
	}
	defer state.Close()
	var uses []store.Usage
	if err := state.View(ctx, func(tx store.Tx) (err error) {
		uses, err = tx.Usage(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for _, u := range uses {
		if u.JobName == name && u.Attempt == number && u.Resource == penstock.CPU {
			found = append(found, u.Node)
		}
	}
	slices.Sort(found)
	return found
}

// checkTooBig applies a job that no node of the pool can hold, and wants to be
// told so.
func (s *server) checkTooBig(ctx context.Context) {
	s.t.Helper()
	s.write("big.yaml", fmt.Appendf(nil, `apiVersion: penstock/v1
kind: Job
metadata: {project: %[1]s, name: big}
spec:
  pool: %[1]s
  tasks: [{name: main, command: [/bin/true], resources: {cpu: 1, memory: 4Ti}}]
`, s.project))
	s.do(ctx, "apply", "-f", s.at("big.yaml"))
	said := ""
	s.until(ctx, "it is told why big waits", func() (bool, error) {
		said = s.do(ctx, "explain", "big")
		return strings.Contains(said, "WHY"), nil
	})
	if !strings.Contains(said, "memory") {
		s.t.Errorf("'penstock explain big' doesn't speak of memory:\n%s", said)
	}
	s.t.Logf("penstock explain big:\n%s", said)
	s.do(ctx, "delete", "job/big")
}

// discover does the operator's part: the pool, which has the project's name.
func (s *server) discover(ctx context.Context, manifest string) {
	s.t.Helper()
	s.do(ctx, "apply", "-f", manifest)
	s.do(ctx, "wait", "pool/"+s.project, "--timeout", "1m")
}

// remove deletes all that manifests declare, and waits until it is gone.
func (s *server) remove(ctx context.Context, manifests ...string) {
	s.t.Helper()
	for _, manifest := range manifests {
		s.do(ctx, "delete", "-f", manifest)
	}
	s.until(ctx, "nothing is left", func() (bool, error) {
		left := 0
		for _, kind := range penstock.Kinds() {
			objects, _, err := s.api.List(ctx, kind, client.ListOptions{})
			if err != nil {
				return false, err
			}
			for _, o := range objects {
				if kind == penstock.KindProject && o.Metadata.Name != s.project {
					continue
				}
				left++
			}
		}
		return left == 0, nil
	})
}
