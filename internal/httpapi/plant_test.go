package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/blob/fs"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/secret"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// plant is the API over a real store, blobs and control, without executors: what
// is asked for is kept, and nothing runs.
type plant struct {
	t      *testing.T
	dir    string
	store  store.Store
	server *httpapi.Server
	log    *lockedBuffer
	root   string // a token of the installation's admin
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newPlant(t *testing.T, edits ...func(*httpapi.Options)) *plant {
	t.Helper()
	p := &plant{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	var err error
	if p.store, err = sqlite.Open(t.Context(), filepath.Join(p.dir, "penstock.db")); err != nil {
		t.Fatal(err)
	}
	blobs, err := fs.Open(filepath.Join(p.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := secret.Load(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options := httpapi.Options{
		Store: p.store, Blobs: blobs, Log: log, Version: "test", Currency: "EUR",
		Control: control.New(control.Options{Store: p.store, Blobs: blobs, Sealer: box, Log: log}),
	}
	for _, edit := range edits {
		edit(&options)
	}
	p.server = httpapi.New(options)
	t.Cleanup(func() {
		p.server.Close()
		for _, c := range []io.Closer{blobs, p.store} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	p.root = p.token("root", "", penstock.RoleAdmin)
	return p
}

// token issues an access token straight into the store.
func (p *plant) token(subject, project string, role penstock.Role) string {
	p.t.Helper()
	return p.issue(auth.Request{Use: store.Access, Subject: subject, Project: project, Role: role})
}

func (p *plant) issue(r auth.Request) string {
	p.t.Helper()
	token, credential, err := auth.Issue(r, time.Now().UTC().Truncate(time.Microsecond))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.store.Update(p.t.Context(), func(tx store.Tx) error { return tx.PutCredential(credential) }); err != nil {
		p.t.Fatal(err)
	}
	return token.Reveal()
}

// tenant makes a project with one member and gives the member's token.
func (p *plant) tenant(project, subject string, role penstock.Role) string {
	p.t.Helper()
	p.apply(p.root, manifest("Project", "", project, fmt.Sprintf(`{"owner":"o","costCentre":"1","members":[{"subject":%q,"role":%q}]}`, subject, role)))
	return p.token(subject, project, role)
}

// answer is what came of a call.
type answer struct {
	status int
	header http.Header
	body   string
}

// call makes one; header are pairs of names and values.
func (p *plant) call(token, method, path, body string, header ...string) answer {
	p.t.Helper()
	r := httptest.NewRequest(method, "/api"+path, strings.NewReader(body)).WithContext(p.t.Context())
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.server.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Result().Header, w.Body.String()}
}

// must makes a call that succeeds.
func (p *plant) must(token, method, path, body string, header ...string) answer {
	p.t.Helper()
	a := p.call(token, method, path, body, header...)
	if a.status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

// refused makes a call that is answered with a Problem of a code.
func (p *plant) refused(want penstock.Code, token, method, path, body string, header ...string) v1.Problem {
	p.t.Helper()
	return p.problem(want, method+" "+path, p.call(token, method, path, body, header...))
}

// problem checks that an answer is a whole Problem of a code.
func (p *plant) problem(want penstock.Code, what string, a answer) v1.Problem {
	p.t.Helper()
	var got v1.Problem
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		p.t.Errorf("%s: %d %q is no problem: %v", what, a.status, a.body, err)
		return got
	}
	status := penstock.InfoOf(&penstock.Error{Code: want}).HTTP
	if got.Code != want || a.status != status || got.Status != status || got.Detail == "" ||
		got.Type != "urn:penstock:error:"+string(want) || a.header.Get("Content-Type") != "application/problem+json" {
		p.t.Errorf("%s: want %d %s as application/problem+json, got %d %s %s", what, status, want, a.status, a.header.Get("Content-Type"), a.body)
	}
	return got
}

func (p *plant) apply(token string, objects ...string) answer {
	p.t.Helper()
	return p.must(token, "POST", "/v1/apply", `{"objects":[`+strings.Join(objects, ",")+`]}`)
}

func (p *plant) revision() int64 {
	p.t.Helper()
	var n int64
	if err := p.store.View(p.t.Context(), func(tx store.Tx) (err error) { n, err = tx.Revision(); return err }); err != nil {
		p.t.Fatal(err)
	}
	return n
}

// manifest is an object as a caller sends it.
func manifest(kind, project, name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"penstock/v1","kind":%q,"metadata":{"project":%q,"name":%q},"spec":%s}`, kind, project, name, spec)
}

const jobSpec = `{"tasks":[{"name":"main","command":["true"],"resources":{"cpu":"1"}}]}`

func job(project, name string) string { return manifest("Job", project, name, jobSpec) }

// decode reads an answer's body.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// callWith makes a call whose caller leaves with ctx.
func (p *plant) callWith(ctx context.Context, token, method, path string) {
	p.t.Helper()
	r := httptest.NewRequest(method, "/api"+path, nil).WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+token)
	p.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
}
