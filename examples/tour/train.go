package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// train trains the model, and kills one of its workers on the way, as a spot
// market would: without a word.
func (t *tour) train(ctx context.Context) error {
	if _, err := t.do(ctx, "ann", "apply", "-f", t.manifests("model.yaml"), "-f", t.manifests("train.yaml")); err != nil {
		return err
	}
	var killed *kill
	last, err := t.follow(ctx, "train", 30*time.Minute, func(s sight) (bool, error) {
		if killed != nil || !ripe(s, t.Pace) {
			return false, nil
		}
		k, err := t.killWorker(ctx, s)
		if err == nil {
			killed = &k
		}
		return false, err
	})
	if err != nil {
		return err
	}
	if killed == nil {
		return fmt.Errorf("the training ended before its second checkpoint was committed; nothing was killed")
	}
	t.check(last.job.Metadata.Phase == penstock.PhaseSucceeded && last.job.Status.Attempt == 2, "train is %s in attempt %d", last.job.Metadata.Phase, last.job.Status.Attempt)
	if err := t.checkRestart(ctx, killed); err != nil {
		return err
	}
	t.report.Kill = *killed
	t.report.Curve = split(last.points, killed.Restarted)
	t.checkCurve(killed)
	_, err = t.do(ctx, "ann", "explain", "train")
	return err
}

// sight is what is seen of a job at one moment.
type sight struct {
	job    v1.Job
	points []v1.MetricPoint // of all attempts, in order of time
	saved  []v1.Checkpoint  // newest first
}

// step is the last that was reported.
func (s sight) step() int64 {
	if len(s.points) == 0 {
		return 0
	}
	return s.points[len(s.points)-1].Step
}

// kill is what happened to the worker, and what came of it.
type kill struct {
	PID, Rank  int
	Step       int64 // the last step reported before
	Checkpoint int64 // the newest committed step
	At         time.Time
	From       int64     // the step from which attempt 2 went on
	Restarted  time.Time // when it was placed
	Away       time.Duration
}

// ripe says whether a kill now shows something: two checkpoints stand, and
// there is work after them to lose; some steps of it, unless that is long in
// coming.
func ripe(s sight, p pace) bool {
	if s.job.Status.Attempt != 1 || s.job.Metadata.Phase != penstock.PhaseRunning || len(s.saved) == 0 {
		return false
	}
	lost, patient := s.step()-s.saved[0].Step, s.saved[0].Step < int64(4*p.Every)
	return s.saved[0].Step >= int64(2*p.Every) && (lost >= 4 || lost > 0 && !patient)
}

// killWorker kills one worker's process, not its agent.
func (t *tour) killWorker(ctx context.Context, s sight) (kill, error) {
	a, err := client.GetAs[v1.AttemptSpec, v1.AttemptStatus](ctx, t.api, ref(penstock.KindAttempt, "train-1"))
	if err != nil {
		return kill{}, err
	}
	worker := a.Status.Tasks[len(a.Status.Tasks)-1]
	line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(worker.PID), "cmdline"))
	if err != nil || !bytes.Contains(line, []byte("train.py")) {
		return kill{}, fmt.Errorf("process %d, which rank %d is said to be, runs %q", worker.PID, worker.Rank, line)
	}
	t.tell("kill -9 %d, which is rank %d, after step %d; committed is step %d", worker.PID, worker.Rank, s.step(), s.saved[0].Step)
	k := kill{PID: worker.PID, Rank: worker.Rank, Step: s.step(), Checkpoint: s.saved[0].Step, At: time.Now()}
	return k, syscall.Kill(worker.PID, syscall.SIGKILL)
}

// checkRestart compares the two attempts: the gang ended whole, and started
// whole from the newest checkpoint.
func (t *tour) checkRestart(ctx context.Context, k *kill) error {
	var attempts [2]v1.Attempt
	for i := range attempts {
		var err error
		if attempts[i], err = client.GetAs[v1.AttemptSpec, v1.AttemptStatus](ctx, t.api, ref(penstock.KindAttempt, fmt.Sprintf("train-%d", i+1))); err != nil {
			return err
		}
	}
	first, second := attempts[0], attempts[1]
	t.check(first.Metadata.Phase == penstock.PhaseLost, "attempt 1 is %s: %s", first.Metadata.Phase, penstock.Join(first.Status.Reasons))
	k.From, k.Restarted, k.Away = second.Spec.Step, second.Metadata.CreatedAt, second.Status.StartedAt.Sub(k.At)
	whole := true
	for _, task := range first.Status.Tasks {
		whole = whole && !task.Ended.IsZero() && !task.Ended.After(k.Restarted)
	}
	t.check(whole && len(second.Status.Tasks) == len(first.Status.Tasks), "all %d tasks of attempt 1 had ended before the %d of attempt 2 were placed", len(first.Status.Tasks), len(second.Status.Tasks))
	t.check(k.From >= k.Checkpoint, "attempt 2 starts from step %d; committed at the kill was %d", k.From, k.Checkpoint)
	for _, task := range second.Status.Tasks {
		text, err := t.do(ctx, "ann", "logs", "train", "--rank", fmt.Sprint(task.Rank), "--attempt", "2")
		if err != nil {
			return err
		}
		want := fmt.Sprintf("rank %d of %d starts at step %d of %d", task.Rank, len(second.Status.Tasks), k.From, t.Pace.Steps)
		t.check(strings.Contains(text, want), "rank %d found it restored: %q", task.Rank, want)
	}
	t.check(k.Away < time.Minute, "the gang ran again %.1f s after the kill", k.Away.Seconds())
	return nil
}

// split cuts a loss curve into attempts.
func split(points []v1.MetricPoint, at time.Time) [2][]dot {
	var curve [2][]dot
	for _, p := range points {
		i := 0
		if p.At.After(at) {
			i = 1
		}
		curve[i] = append(curve[i], dot{float64(p.Step), p.Values["loss"]})
	}
	return curve
}

// checkCurve holds the curve to what a resumed run promises: no step is left
// out, and one taken twice gives the same loss to the last bit.
func (t *tour) checkCurve(k *kill) {
	before, after := map[float64]float64{}, t.report.Curve[1]
	for _, d := range t.report.Curve[0] {
		before[d.X] = d.Y
	}
	twice, same, gaps := 0, 0, 0
	for i, d := range after {
		if d.X != float64(k.From+int64(i)+1) {
			gaps++
		}
		if loss, ok := before[d.X]; ok {
			if twice++; loss == d.Y {
				same++
			}
		}
	}
	t.check(gaps == 0 && len(after) == t.Pace.Steps-int(k.From), "attempt 2 took the steps %d to %d, without a gap", k.From+1, k.From+int64(len(after)))
	t.check(twice > 0 && same == twice, "%d of the %d steps that were taken twice gave the same loss to the last bit", same, twice)
	if len(after) == 0 {
		return
	}
	began, ended := t.report.Curve[0][0].Y, after[len(after)-1].Y
	t.check(ended < began, "the loss went from %.3f to %.3f nats a byte", began, ended)
}
