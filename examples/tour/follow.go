package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// follow shows a training job's progress until it ends or see says that enough
// was seen. It gives what was seen last.
func (t *tour) follow(ctx context.Context, name string, limit time.Duration, see func(sight) (bool, error)) (sight, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	bar := newBar(t, int64(t.Pace.Steps))
	out := t.out
	if bar.all != nil {
		t.out = bar.all // lines go above the bar
	}
	var last sight
	err := t.until(ctx, name+" has ended", func() (over bool, err error) {
		if last, err = t.look(ctx, name, last); err != nil {
			return false, err
		}
		bar.set(last)
		if over, err := see(last); over || err != nil {
			return over, err
		}
		return last.job.Metadata.Phase.Final(), nil
	})
	t.out = out
	bar.close()
	if err == nil && last.job.Metadata.Phase == penstock.PhaseFailed {
		err = fmt.Errorf("%s failed: %s", name, penstock.Join(last.job.Status.Reasons))
	}
	return last, err
}

// look sees what is new since the last look: each report of a task changes the job.
func (t *tour) look(ctx context.Context, name string, last sight) (sight, error) {
	at := ref(penstock.KindJob, name)
	// The job is read first: what it says is in the points and checkpoints then.
	job, err := client.GetAs[v1.JobSpec, v1.JobStatus](ctx, t.api, at)
	if err != nil || job.Metadata.Revision == last.job.Metadata.Revision {
		return last, err
	}
	points, err := t.api.Metrics(ctx, at)
	if err != nil {
		return last, err
	}
	saved, err := t.api.Checkpoints(ctx, at)
	return sight{job, points, saved}, err
}

// bar shows progress: as a bar on a terminal, else as a line now and then.
type bar struct {
	all   *mpb.Progress // nil without a terminal
	one   *mpb.Bar
	label atomic.Value
	tour  *tour
	total int64
	said  int64
}

func newBar(t *tour, total int64) *bar {
	b := &bar{tour: t, total: total}
	b.label.Store("waits")
	if !t.Terminal {
		return b
	}
	b.all = mpb.New(mpb.WithOutput(t.out), mpb.WithWidth(60))
	b.one = b.all.AddBar(total,
		mpb.PrependDecorators(decor.Name("   ")),
		mpb.AppendDecorators(decor.CountersNoUnit(" %d of %d  "), decor.Any(func(decor.Statistics) string { return fmt.Sprint(b.label.Load()) })),
	)
	return b
}

func (b *bar) set(s sight) {
	text := string(s.job.Metadata.Phase)
	if s.job.Status.Attempt > 0 {
		text = fmt.Sprintf("attempt %d %s", s.job.Status.Attempt, text)
	}
	if n := len(s.points); n > 0 {
		text += fmt.Sprintf(", loss %.3f", s.points[n-1].Values["loss"])
	}
	if len(s.saved) > 0 {
		text += fmt.Sprintf(", checkpoint %d", s.saved[0].Step)
	}
	step := s.step()
	if b.one != nil {
		b.label.Store(text)
		b.one.SetCurrent(step)
		return
	}
	tenth := step * 10 / b.total
	if key := tenth<<8 | int64(s.job.Status.Attempt); key != b.said {
		b.said = key
		fmt.Fprintf(b.tour.out, "       step %d of %d  %s\n", step, b.total, text)
	}
}

func (b *bar) close() {
	if b.one != nil {
		b.one.Abort(false) // it stays to be read, also when it is full
		b.all.Wait()
	}
}
