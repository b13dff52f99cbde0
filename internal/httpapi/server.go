// Package httpapi is the REST API: decode, ask who, call control, encode. Its
// routes are described by OpenAPI 3.1 (api/v1/openapi.json is the golden copy).
//
// Every route needs a token; there is no anonymous one. Every call is written
// to the audit log, calls that change something before they are answered.
package httpapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// Control is what the API asks the control plane to do; *control.Control is one.
type Control interface {
	Apply(ctx context.Context, by string, objects []v1.Object, mode control.ApplyMode) ([]v1.ApplyResult, error)
	Delete(ctx context.Context, by string, refs []penstock.Ref, mode control.ApplyMode) ([]v1.Retirement, error)
	Stop(ctx context.Context, by string, job penstock.Ref) (v1.Job, error)
	Reclaim(ctx context.Context, by string, job penstock.Ref) (v1.Job, error)
	Explain(ctx context.Context, ref penstock.Ref) (v1.Explanation, error)
	Approve(ctx context.Context, by string, version penstock.Ref, a v1.Approval) (v1.ModelVersion, error)
	Promote(ctx context.Context, by, project string, m v1.AliasMove) (v1.Model, error)
	Report(ctx context.Context, attempt penstock.UID, reports []v1.Report) (int64, error)
	Order(ctx context.Context, attempt penstock.UID, rank int, run string) (v1.Order, error)
	Cost(ctx context.Context, window meter.Window) (meter.Report, error)
}

// Options are what a Server works with; all but Currency, MaxBody, MaxObjects
// and EnterIdle are required.
type Options struct {
	Store     store.Store
	Blobs     blob.Store
	Control   Control
	Executors map[string]run.Executor
	Log       *slog.Logger
	Version   string
	Currency  string
	// MaxBody is the largest body of a call, in bytes, and MaxObjects the most
	// objects of one apply or delete. Defaults 8 MiB and 1000.
	MaxBody    int64
	MaxObjects int
	// EnterIdle is how long a connection into a task may go without a byte.
	// Default 1 hour.
	EnterIdle time.Duration
}

// Limits of what a caller may send, in bytes and in number.
const (
	maxBlob     = 4 << 30
	maxPage     = 1000
	maxKeyBytes = 128
	maxDetail   = 500 // bytes of an audit entry's text
	maxNoted    = 20  // objects named in an audit entry
)

// Server is the API.
type Server struct {
	Options
	verifier *auth.Verifier
	journal  *audit.Journal
	visits   *visits
	api      huma.API
	mux      *http.ServeMux
}

// New makes the API. Close it to end connections into tasks and to write the
// last audit entries.
func New(o Options) *Server {
	if o.MaxBody <= 0 {
		o.MaxBody = 8 << 20
	}
	if o.MaxObjects <= 0 {
		o.MaxObjects = 1000
	}
	if o.EnterIdle <= 0 {
		o.EnterIdle = time.Hour
	}
	s := &Server{Options: o, visits: newVisits(), verifier: auth.NewVerifier(o.Store), journal: audit.NewJournal(o.Store, o.Log), mux: http.NewServeMux()}
	s.api = humago.New(s.mux, apiConfig(o.Version))
	s.api.UseMiddleware(func(c huma.Context, next func(huma.Context)) { next(ourStatus{c}) })
	s.routes()
	return s
}

// Close ends connections into tasks and writes what is left of the audit log.
func (s *Server) Close() {
	s.visits.close()
	s.journal.Close()
}

// Handler serves the API below the prefix /api.
func (s *Server) Handler() http.Handler {
	return http.StripPrefix("/api", s.authenticate(s.audit(s.admit(s.idempotent(s.mux)))))
}

// Journal takes the entries of the other surfaces of the same server.
func (s *Server) Journal() *audit.Journal { return s.journal }

// Verifier checks tokens, for the other surfaces of the same server.
func (s *Server) Verifier() *auth.Verifier { return s.verifier }

// Allow checks a plain request's right to do verb to things of a kind of the
// whole installation, for other surfaces of the same server.
func (s *Server) Allow(r *http.Request, verb auth.Verb, k penstock.Kind) error {
	p, err := s.verifier.Verify(r.Context(), bearer(r))
	if err != nil {
		return err
	}
	return auth.Allow(p, verb, k, "")
}

// Refuse answers an error as the API does.
func (s *Server) Refuse(w http.ResponseWriter, err error) { s.refuse(w, err) }

// OpenAPI is the description of the API, as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return json.MarshalIndent(s.api.OpenAPI(), "", "  ") }

func apiConfig(version string) huma.Config {
	c := huma.DefaultConfig("Penstock", version)
	c.DocsPath, c.SchemasPath = "", ""
	c.CreateHooks = nil // no $schema fields in answers: what is applied again is what was read
	c.Info.Description = "The control plane for AI work on scarce accelerators."
	c.Servers = []*huma.Server{{URL: "/api"}}
	c.Components = &huma.Components{
		Schemas:         newRegistry(),
		SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
	}
	c.Security = []map[string][]string{{"token": {}}}
	json := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: strictJSON}
	c.Formats = map[string]huma.Format{"application/json": json, "json": json}
	c.Transformers = []huma.Transformer{ourRefusals}
	c.OnAddOperation = []huma.AddOpFunc{describeProblems}
	return c
}

func (s *Server) routes() {
	kind[v1.ProjectSpec, v1.ProjectStatus](s, penstock.KindProject, "projects")
	kind[v1.PoolSpec, v1.PoolStatus](s, penstock.KindPool, "pools")
	kind[v1.SecretSpec, v1.SecretStatus](s, penstock.KindSecret, "secrets")
	kind[v1.DatasetSpec, v1.DatasetStatus](s, penstock.KindDataset, "datasets")
	kind[v1.DatasetVersionSpec, struct{}](s, penstock.KindDatasetVersion, "datasetversions")
	kind[v1.ModelSpec, v1.ModelStatus](s, penstock.KindModel, "models")
	kind[v1.ModelVersionSpec, v1.ModelVersionStatus](s, penstock.KindModelVersion, "modelversions")
	kind[v1.JobSpec, v1.JobStatus](s, penstock.KindJob, "jobs")
	kind[v1.AttemptSpec, v1.AttemptStatus](s, penstock.KindAttempt, "attempts")
	kind[v1.EndpointSpec, v1.EndpointStatus](s, penstock.KindEndpoint, "endpoints")
	kind[v1.PipelineSpec, v1.PipelineStatus](s, penstock.KindPipeline, "pipelines")
	kind[v1.MonitorSpec, v1.MonitorStatus](s, penstock.KindMonitor, "monitors")
	s.applyRoutes()
	s.jobRoutes()
	s.modelRoutes()
	s.costRoutes()
	s.tokenRoutes()
	s.streamRoutes()
}

// op describes one operation.
func (s *Server) op(id, method, path, summary, tag string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: "/v1" + path, Summary: summary, Tags: []string{tag}, MaxBodyBytes: s.MaxBody,
		BodyReadTimeout: 30 * time.Second,
	}
}

// body is an answer with nothing but a body.
type body[T any] struct{ Body T }

func answer[T any](s *Server, v T, err error) (*body[T], error) {
	if err != nil {
		return nil, s.fail(err)
	}
	return &body[T]{v}, nil
}

// answers is answer for a list: none is [], not null.
func answers[T any](s *Server, list []T, err error) (*body[[]T], error) {
	if list == nil {
		list = []T{}
	}
	return answer(s, list, err)
}

// fail is the answer to an error; a fault of our own is logged here, once.
func (s *Server) fail(err error) error {
	f := problem(err)
	if f.cause != nil {
		s.Log.Error("internal fault", "error", f.cause)
	}
	return f
}
