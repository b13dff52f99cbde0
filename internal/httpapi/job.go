package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// maxPoints is how many points of a loss curve are sent at most; longer curves
// are thinned evenly.
const maxPoints = 2000

func (s *Server) jobRoutes() {
	huma.Register(s.api, s.op("stop-job", http.MethodPost, "/jobs/{project}/{name}/stop", "Ask a job to end", "jobs"),
		func(ctx context.Context, in *ObjectPath) (*body[v1.Job], error) {
			return s.onJob(ctx, in, auth.Stop, s.Control.Stop)
		})
	huma.Register(s.api, s.op("reclaim-job", http.MethodPost, "/jobs/{project}/{name}/reclaim", "Take a job's devices back, as a spot market does", "jobs"),
		func(ctx context.Context, in *ObjectPath) (*body[v1.Job], error) {
			return s.onJob(ctx, in, auth.Reclaim, s.Control.Reclaim)
		})
	huma.Register(s.api, s.op("job-metrics", http.MethodGet, "/jobs/{project}/{name}/metrics", "The job's metric points, in order of time", "jobs"),
		func(ctx context.Context, in *ObjectPath) (*body[[]v1.MetricPoint], error) {
			var points []v1.MetricPoint
			err := s.viewJob(ctx, in, func(tx store.Tx, o v1.Object) (err error) {
				points, err = tx.Metrics(o.Metadata.UID, maxPoints)
				return err
			})
			return answers(s, points, err)
		})
	huma.Register(s.api, s.op("job-checkpoints", http.MethodGet, "/jobs/{project}/{name}/checkpoints", "The committed checkpoints, newest first", "jobs"),
		func(ctx context.Context, in *ObjectPath) (*body[[]v1.Checkpoint], error) {
			var steps []v1.Checkpoint
			err := s.viewJob(ctx, in, func(tx store.Tx, o v1.Object) (err error) {
				steps, err = tx.Checkpoints(o.Metadata.UID)
				return err
			})
			return answers(s, steps, err)
		})
}

func (s *Server) onJob(ctx context.Context, in *ObjectPath, verb auth.Verb, do func(context.Context, string, penstock.Ref) (v1.Job, error)) (*body[v1.Job], error) {
	ref := in.ref(penstock.KindJob)
	if err := s.allow(ctx, verb, ref); err != nil {
		return nil, s.fail(err)
	}
	job, err := do(ctx, principal(ctx).Subject, ref)
	return answer(s, job, err)
}

func (s *Server) viewJob(ctx context.Context, in *ObjectPath, fn func(store.Tx, v1.Object) error) error {
	ref := in.ref(penstock.KindJob)
	if err := s.allow(ctx, auth.Get, ref); err != nil {
		return err
	}
	return s.Store.View(ctx, func(tx store.Tx) error {
		o, err := tx.Get(ref)
		if err != nil {
			return err
		}
		return fn(tx, o)
	})
}

// attemptOf finds the attempt whose logs are asked for; number 0 is the newest.
func (s *Server) attemptOf(ctx context.Context, job penstock.Ref, number int) (v1.Attempt, error) {
	var a v1.Attempt
	err := s.Store.View(ctx, func(tx store.Tx) error {
		o, err := tx.Get(job)
		if err != nil {
			return err
		}
		typed, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		if err != nil {
			return err
		}
		if number == 0 {
			number = typed.Status.Attempt
		}
		if number == 0 {
			return &penstock.Error{Code: penstock.Pending, Where: job.String(), Msg: "the job has not started yet", Hint: "penstock explain tells why"}
		}
		found, err := tx.Get(penstock.Ref{Kind: penstock.KindAttempt, Project: job.Project, Name: fmt.Sprintf("%s-%d", job.Name, number)})
		if err != nil {
			return err
		}
		a, err = v1.As[v1.AttemptSpec, v1.AttemptStatus](found)
		return err
	})
	return a, err
}
