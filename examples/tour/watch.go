package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// trigger is what the pipeline's first run says started it.
const trigger = "monitor/drift#1"

// watch sends other requests than before, and follows what that sets off.
func (t *tour) watch(ctx context.Context) error {
	before, err := t.monitor(ctx, func(m v1.Monitor) bool { return judged(m) })
	if err != nil {
		return err
	}
	t.check(before.Status.Alerts == 0, "the usual requests raised %d alerts: %s", before.Status.Alerts, figures(before))
	t.tell("80 requests with longer prompts")
	if _, err := t.shop.send(ctx, shifted(80)); err != nil {
		return err
	}
	after, err := t.monitor(ctx, func(m v1.Monitor) bool { return m.Status.Alerts > 0 })
	if err != nil {
		return err
	}
	t.check(after.Status.Alert != nil && after.Status.Alerts == 1, "one alert, %s", why(after))
	// The alert comes with the first request too many; the report shows the whole window.
	if after, err = t.monitor(ctx, func(m v1.Monitor) bool { return m.Status.Signals[0].Current[0] == 0 }); err != nil {
		return err
	}
	t.check(after.Status.Signals[0].Drifted, "%s", figures(after))
	t.report.Drift = after.Status
	if _, err := t.do(ctx, "ann", "get", "monitors"); err != nil {
		return err
	}
	return t.retraining(ctx)
}

// monitor waits until the monitor is as wanted.
func (t *tour) monitor(ctx context.Context, wanted func(v1.Monitor) bool) (v1.Monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var m v1.Monitor
	err := t.api.WaitFor(ctx, ref(penstock.KindMonitor, "drift"), func(o v1.Object) (yes bool, err error) {
		m, err = v1.As[v1.MonitorSpec, v1.MonitorStatus](o)
		return err == nil && wanted(m), err
	})
	if err != nil {
		return m, fmt.Errorf("monitor drift, which has %s: %w", figures(m), err)
	}
	return m, nil
}

// judged says whether the monitor has a reference and compares with it.
func judged(m v1.Monitor) bool {
	for _, s := range m.Status.Signals {
		if len(s.Reference) == 0 || len(s.Current) == 0 {
			return false
		}
	}
	return len(m.Status.Signals) > 0
}

func figures(m v1.Monitor) string {
	text := ""
	for _, s := range m.Status.Signals {
		text += fmt.Sprintf("%s PSI %.3f of %.3f  ", s.Name, s.PSI, s.Threshold)
	}
	return text
}

func why(m v1.Monitor) string {
	if m.Status.Alert == nil {
		return "already over"
	}
	return m.Status.Alert.Reason.Message
}

// retraining follows the pipeline's run, as far as the pace allows.
func (t *tour) retraining(ctx context.Context) error {
	const name = "retrain-1-train"
	const patience = 3 * time.Minute // for its start, on a busy machine
	began := time.Now()
	last, err := t.follow(ctx, name, t.Pace.Retrain+patience, func(s sight) (bool, error) {
		started := s.job.Metadata.Phase == penstock.PhaseRunning && s.step() > 0
		return started && time.Since(began) >= t.Pace.Retrain, nil
	})
	if err != nil {
		return errors.Join(err, t.explain(ctx, name))
	}
	t.check(last.job.Metadata.Labels["trigger"] == trigger, "%s was started by %s, and has taken %d steps", name, last.job.Metadata.Labels["trigger"], last.step())
	t.report.Retrained = fmt.Sprintf("%s, started by %s, took %d steps", name, trigger, last.step())
	if !last.job.Metadata.Phase.Final() {
		return t.cutShort(ctx, name)
	}
	v, err := t.versionOf(ctx, name)
	if err != nil {
		return err
	}
	t.check(v.Spec.Lineage.Trigger == trigger && v.Spec.Digest != t.version, "its version is %s, and its lineage names %s", v.Spec.Digest.Short(), v.Spec.Lineage.Trigger)
	if _, err := t.do(ctx, "ann", "wait", "job/retrain-1-evaluate", "--timeout", "5m"); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "model", "show", "tiny-go"); err != nil {
		return err
	}
	t.report.Retrained += fmt.Sprintf(" and made version %s", v.Spec.Digest.Short())
	return t.checkProduction(ctx, 1) // a person decides
}

func (t *tour) explain(ctx context.Context, name string) error {
	_, err := t.do(ctx, root, "explain", name)
	return err
}

// cutShort ends the retraining: that it starts is what the tour shows.
func (t *tour) cutShort(ctx context.Context, name string) error {
	if _, err := t.do(ctx, "ann", "stop", "retrain-1-evaluate", name); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "wait", "job/"+name, "--for", "Stopped", "--timeout", "1m"); err != nil {
		return err
	}
	job, err := client.GetAs[v1.JobSpec, v1.JobStatus](ctx, t.api, ref(penstock.KindJob, name))
	if err != nil {
		return err
	}
	t.check(job.Metadata.Phase == penstock.PhaseStopped, "%s is %s: %s", name, job.Metadata.Phase, penstock.Join(job.Status.Reasons))
	return nil
}
