package control

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/classify"
	"github.com/penstock/penstock/internal/store"
)

// exitRetry is EX_TEMPFAIL of sysexits.h: the task asks to be started again.
const exitRetry = 75

// settleAttempts ends gangs: the first task that fails takes the others with
// it, and when all have ended the attempt and its job get their next phase, the
// usage its rows and the outputs their versions, in one transaction.
func (c *Control) settleAttempts(ctx context.Context) error {
	live, err := c.liveAttempts(ctx)
	if err != nil {
		return err
	}
	for _, a := range live {
		if err := retry(func() error { return c.settleAttempt(ctx, a.Ref()) }); err != nil {
			return fmt.Errorf("settle %s: %w", a.Ref(), err)
		}
	}
	return nil
}

func (c *Control) settleAttempt(ctx context.Context, ref penstock.Ref) error {
	var outputs *harvest
	// What the outputs hold is read before the transaction: it may be large.
	if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		a, job, err := loadAttempt(tx, ref)
		if err == nil && allEnded(a) && failure(a, job) == nil {
			outputs, err = c.readOutputs(ctx, tx, job, a)
		}
		return err
	}); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx store.Tx) error {
		a, job, err := loadAttempt(tx, ref)
		if err != nil || a.Metadata.Phase.Final() {
			return err
		}
		if !allEnded(a) {
			return breakGang(tx, a, job)
		}
		if outputs == nil && failure(a, job) == nil {
			// The last task ended after the outputs were looked at: look again.
			return &penstock.Error{Code: penstock.Conflict, Where: ref.String(), Msg: "the attempt has ended meanwhile"}
		}
		return endAttempt(tx, a, job, outputs)
	})
}

func loadAttempt(tx store.Tx, ref penstock.Ref) (v1.Attempt, v1.Job, error) {
	a, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, ref)
	if err != nil {
		return a, v1.Job{}, err
	}
	job, err := store.LoadUID[v1.JobSpec, v1.JobStatus](tx, a.Spec.JobUID)
	return a, job, err
}

func allEnded(a v1.Attempt) bool {
	for _, t := range a.Status.Tasks {
		if !ended(t) {
			return false
		}
	}
	return true
}

// failure is why the gang can't succeed, or nil. A task that was lost tells it:
// the others fail for want of it, often before anybody knows that it is gone.
// Without one, the task that ended first tells it, for the same reason.
func failure(a v1.Attempt, job v1.Job) *penstock.Reason {
	var first *v1.TaskStatus
	for i, t := range a.Status.Tasks {
		if !ended(t) || t.State == "exited" && t.ExitCode == 0 && t.Signal == "" {
			continue
		}
		lost := first != nil && wasLost(t, a, job) && !wasLost(*first, a, job)
		earlier := first != nil && wasLost(t, a, job) == wasLost(*first, a, job) && t.Ended.Before(first.Ended)
		if first == nil || lost || earlier {
			first = &a.Status.Tasks[i]
		}
	}
	if first == nil {
		return nil
	}
	r := taskFailure(*first)
	return &r
}

// wasLost: its agent is gone, or somebody else than its agent killed the
// command. Agents kill what was told to end and still runs when its grace is over.
func wasLost(t v1.TaskStatus, a v1.Attempt, job v1.Job) bool {
	overdue := !a.Status.StopSent.IsZero() && !t.Ended.Before(a.Status.StopSent.Add(grace(job)))
	return t.State == "gone" || t.State == "exited" && t.Signal == "SIGKILL" && !t.OverMemory && !overdue
}

func taskFailure(t v1.TaskStatus) penstock.Reason {
	switch {
	case t.State == "unstarted":
		return penstock.Because(penstock.StartFailed, penstock.Change, "rank %d could not start: %s", t.Rank, t.Message)
	case t.State == "gone":
		return penstock.Because(penstock.AgentLost, penstock.Wait, "rank %d is gone: %s", t.Rank, t.Message)
	case t.OverMemory:
		return penstock.Because(penstock.TaskFailed, penstock.Change, "rank %d was %s", t.Rank, t.Message)
	case t.Signal == "SIGKILL":
		return penstock.Because(penstock.Reclaimed, penstock.Wait, "rank %d was killed from outside", t.Rank)
	case t.ExitCode == exitRetry:
		return penstock.Because(penstock.RetryAsked, penstock.Wait, "rank %d asked to be started again (exit %d)", t.Rank, exitRetry)
	case t.Signal != "":
		return penstock.Because(penstock.TaskFailed, penstock.Change, "rank %d ended by signal: %s", t.Rank, t.Signal)
	}
	return penstock.Because(penstock.TaskFailed, penstock.Change, "rank %d ended with exit code %d", t.Rank, t.ExitCode).
		With("rank", int64(t.Rank)).With("exit", int64(t.ExitCode))
}

// breakGang stops a gang one of whose tasks failed, and one that ran past its
// deadline.
func breakGang(tx store.Tx, a v1.Attempt, job v1.Job) error {
	if a.Metadata.Phase == penstock.PhaseStopping {
		return nil
	}
	why := failure(a, job)
	if d := time.Duration(job.Spec.Deadline); why == nil && d > 0 && after(now(), a.Status.StartedAt.Add(d)) && !a.Status.StartedAt.IsZero() {
		r := penstock.Because(penstock.DeadlinePassed, penstock.Change, "attempt %d ran longer than its deadline of %s", a.Spec.Number, d)
		why = &r
	}
	if why == nil {
		return nil
	}
	a.Status.Stop, a.Status.StopSent = why, now()
	return move(tx, &a, penstock.PhaseStopping, string(why.Code), why.Message)
}

// endAttempt gives attempt and job their next phase.
func endAttempt(tx store.Tx, a v1.Attempt, job v1.Job, outputs *harvest) error {
	why := a.Status.Stop
	// What a gang was stopped for may turn out to be the consequence of a loss.
	if why == nil || attemptPhase(why) == penstock.PhaseFailed && why.Code != penstock.DeadlinePassed {
		why = failure(a, job)
	}
	if why == nil && outputs != nil && outputs.problem != nil {
		why = outputs.problem
	}
	a.Status.EndedAt = now()
	to, said := attemptPhase(why), "all tasks ended with exit code 0"
	if why != nil {
		a.Status.Reasons, said = []penstock.Reason{*why}, why.Message
	}
	if err := appendUsage(tx, a, job, to); err != nil {
		return err
	}
	if err := move(tx, &a, to, string(to), said); err != nil {
		return err
	}
	if to == penstock.PhaseSucceeded && outputs != nil {
		if err := outputs.register(tx, &job, a); err != nil {
			return err
		}
	}
	return nextJobPhase(tx, job, a, to, why)
}

func attemptPhase(why *penstock.Reason) penstock.Phase {
	switch {
	case why == nil:
		return penstock.PhaseSucceeded
	case why.Code == penstock.StoppedByUser:
		return penstock.PhaseStopped
	case why.Code == penstock.AgentLost, why.Code == penstock.NodeLost, why.Code == penstock.Reclaimed, why.Code == penstock.RetryAsked:
		return penstock.PhaseLost
	}
	return penstock.PhaseFailed
}

// nextJobPhase decides whether the job is over or queues again. Lost attempts
// don't count against the retries, failed ones do, and served models start
// again for as long as they are wanted.
func nextJobPhase(tx store.Tx, job v1.Job, a v1.Attempt, ended penstock.Phase, why *penstock.Reason) error {
	if job.Metadata.Phase == penstock.PhaseStopping {
		return endJob(tx, job, penstock.PhaseStopped, *job.Status.StopAsked)
	}
	if ended == penstock.PhaseSucceeded && !classify.NeedsOf(job.Status.Class).RestartsForEver {
		return endJob(tx, job, penstock.PhaseSucceeded, penstock.Reason{})
	}
	if why == nil {
		r := penstock.Because(penstock.TaskFailed, penstock.Wait, "the served model ended by itself")
		why = &r
	}
	if ended == penstock.PhaseFailed {
		job.Status.Failures++
		if fatal(*why) || job.Status.Failures > job.Spec.Retries.Max && !classify.NeedsOf(job.Status.Class).RestartsForEver {
			return endJob(tx, job, penstock.PhaseFailed, *why)
		}
	}
	return requeue(tx, job, a, *why)
}

// requeue lets the job wait for its next attempt, unless it was lost so often in
// a row, without getting any further, that the job itself must be at fault.
func requeue(tx store.Tx, job v1.Job, a v1.Attempt, why penstock.Reason) error {
	restarts, err := fruitless(tx, job, a)
	if err != nil {
		return err
	}
	if restarts >= mostFruitless && !classify.NeedsOf(job.Status.Class).RestartsForEver {
		return endJob(tx, job, penstock.PhaseFailed, penstock.Because(penstock.RetriesSpent, penstock.Change,
			"%d attempts in a row got no further; the last one: %s", restarts, why.Message).With("attempts", int64(restarts)))
	}
	pause := backoff(job, restarts)
	job.Status.NotBefore, job.Status.QueuedAt = now().Add(pause), now()
	job.Status.Reasons = []penstock.Reason{why}
	return move(tx, &job, penstock.PhaseQueued, "Requeued", fmt.Sprintf("attempt %d: %s; starts again in %s at the earliest", a.Spec.Number, why.Message, pause))
}

// fatal failures would only repeat themselves.
func fatal(r penstock.Reason) bool {
	return r.Code == penstock.DeadlinePassed || r.Code == penstock.PreparingFailed
}

const (
	// longest is the longest pause before a restart.
	longest = 5 * time.Minute
	// mostFruitless is how many attempts in a row may come to nothing.
	mostFruitless = 12
)

// fruitless counts the newest attempts in a row that came to nothing: they
// committed no step beyond the one they began with, and ended soon. Work that
// gets on between its losses isn't made to wait for them.
func fruitless(tx store.Tx, job v1.Job, a v1.Attempt) (int, error) {
	have, err := tx.Checkpoints(job.Metadata.UID)
	if err != nil {
		return 0, err
	}
	step := int64(-1)
	if len(have) > 0 {
		step = have[0].Step
	}
	for n := 0; ; n++ {
		ran := a.Status.EndedAt.Sub(a.Status.StartedAt)
		if a.Spec.Step < step || !a.Status.StartedAt.IsZero() && ran >= longest || n == mostFruitless {
			return n, nil
		}
		before := penstock.Ref{Kind: penstock.KindAttempt, Project: job.Metadata.Project, Name: fmt.Sprintf("%s-%d", job.Metadata.Name, a.Spec.Number-1)}
		switch a, err = store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, before); {
		case penstock.CodeOf(err) == penstock.NotFound:
			return n + 1, nil
		case err != nil:
			return 0, err
		}
	}
}

// backoff doubles from the job's own pause, or from 1 s, up to 5 minutes; the
// first restart is at once, and so is one after an attempt that got on.
func backoff(job v1.Job, fruitless int) time.Duration {
	if fruitless <= 1 {
		return 0
	}
	step := max(time.Duration(job.Spec.Retries.Backoff), time.Second)
	return min(step<<min(fruitless-2, 10), longest)
}

func endJob(tx store.Tx, job v1.Job, to penstock.Phase, why penstock.Reason) error {
	job.Status.EndedAt, job.Status.Reasons = now(), nil
	said := fmt.Sprintf("after %d attempts", job.Status.Attempt)
	if why.Code != "" {
		job.Status.Reasons, said = []penstock.Reason{why}, why.Message
	}
	return move(tx, &job, to, string(to), said)
}

// appendUsage writes down what the gang held, from the moment it was placed to
// its end, whatever came of it: held devices cost money also while a task
// starts or a lost attempt repeats work.
func appendUsage(tx store.Tx, a v1.Attempt, job v1.Job, outcome penstock.Phase) error {
	return tx.AppendUsage(usageOf(a, job, a.Status.EndedAt, outcomes[outcome])...)
}

var outcomes = map[penstock.Phase]string{
	penstock.PhaseSucceeded: "succeeded", penstock.PhaseFailed: "failed", penstock.PhaseLost: "lost", penstock.PhaseStopped: "stopped",
}

func usageOf(a v1.Attempt, job v1.Job, to time.Time, outcome string) []store.Usage {
	var uses []store.Usage
	labels := withLabel(job.Metadata.Labels, "class", string(job.Status.Class))
	for _, t := range a.Spec.Tasks {
		for _, name := range t.Resources.Names() {
			if t.Resources[name] == 0 {
				continue
			}
			uses = append(uses, store.Usage{
				ID: fmt.Sprintf("%s/%d/%s", a.Metadata.UID, t.Rank, name), Project: a.Metadata.Project, Job: a.Spec.JobUID,
				JobName: a.Spec.Job, Attempt: a.Spec.Number, Rank: t.Rank, Pool: a.Spec.Pool, Node: t.Node,
				Resource: name, Amount: t.Resources[name], From: a.Metadata.CreatedAt, To: to,
				Labels: labels, Outcome: outcome,
			})
		}
	}
	return uses
}
