package webui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// jobView is one job with all that is known of it.
type jobView struct {
	now         time.Time
	job         v1.Job
	attempts    []v1.Attempt // the newest first
	checkpoints []v1.Checkpoint
	plots       plots
	explanation v1.Explanation
	tails       []tail
	tailsErr    string // why there are none
}

func (s *site) job(v visit) (content, error) {
	j := jobView{now: v.now}
	ref := v.ref(penstock.KindJob)
	err := s.Store.View(v.Context(), func(tx store.Tx) error { return j.read(v, tx, ref) })
	if err != nil {
		return content{}, err
	}
	if j.explanation, err = s.Control.Explain(v.Context(), ref); err != nil {
		return content{}, err
	}
	if len(j.attempts) > 0 {
		j.tails, err = s.tails(v.Context(), j.attempts[0])
		var e *penstock.Error
		if errors.As(err, &e) && e.Code != penstock.Internal {
			j.tailsErr = e.Msg
		} else if err != nil {
			return content{}, err
		}
	}
	return content{j.job.Metadata.Name, !j.job.Metadata.Phase.Final(), jobPage(j)}, nil
}

func (j *jobView) read(v visit, tx store.Tx, ref penstock.Ref) (err error) {
	if j.job, err = get[v1.JobSpec, v1.JobStatus](v, tx, ref); err != nil {
		return err
	}
	uid := j.job.Metadata.UID
	j.attempts, err = list[v1.AttemptSpec, v1.AttemptStatus](v, tx, store.Query{Kind: penstock.KindAttempt, Project: ref.Project, Owner: uid})
	if err != nil {
		return err
	}
	slices.Reverse(j.attempts)
	if j.checkpoints, err = tx.Checkpoints(uid); err != nil {
		return err
	}
	points, err := tx.Metrics(uid, maxPoints)
	j.plots = curves(points, !j.job.Metadata.Phase.Final())
	return err
}

// stretch is an attempt's place in the life of its job, in hundredths of it.
type stretch struct{ from, width float64 }

// stretch is where the attempt lies on the timeline that begins with the first
// attempt and ends now, or when the last one ended.
func (j jobView) stretch(a v1.Attempt) stretch {
	first, last := j.attempts[len(j.attempts)-1].Metadata.CreatedAt, j.now
	if j.job.Metadata.Phase.Final() && !j.job.Status.EndedAt.IsZero() {
		last = j.job.Status.EndedAt
	}
	whole := float64(max(last.Sub(first), time.Second))
	from := float64(a.Metadata.CreatedAt.Sub(first)) / whole * 100
	to := float64(endOf(a, last).Sub(first)) / whole * 100
	return stretch{min(max(from, 0), 99), max(min(to, 100)-from, 1)}
}

// endOf is when the attempt ended, or until for one that goes on.
func endOf(a v1.Attempt, until time.Time) time.Time {
	if a.Status.EndedAt.IsZero() {
		return until
	}
	return a.Status.EndedAt
}

// attemptReasons are why the attempt ended, or is about to.
func attemptReasons(a v1.Attempt) []penstock.Reason {
	if len(a.Status.Reasons) == 0 && a.Status.Stop != nil {
		return []penstock.Reason{*a.Status.Stop}
	}
	return a.Status.Reasons
}

// nodesOf are the machines of the attempt, each once.
func nodesOf(a v1.Attempt) []string {
	var nodes []string
	for _, t := range a.Spec.Tasks {
		if !slices.Contains(nodes, t.Node) {
			nodes = append(nodes, t.Node)
		}
	}
	return nodes
}

// exit says how a task ended.
func exit(t v1.TaskStatus) string {
	text := fmt.Sprintf("exit %d", t.ExitCode)
	if t.Signal != "" {
		text = "killed by " + t.Signal
	}
	if t.OverMemory {
		text += ", out of memory"
	}
	if t.Message != "" {
		text += ": " + t.Message
	}
	return text
}

// modelOf is the model whose version a result is: a version's name is the
// model's, a dash and the first digits of the digest.
func modelOf(r v1.Result) string { return strings.TrimSuffix(r.Name, "-"+r.Digest.Short()) }
