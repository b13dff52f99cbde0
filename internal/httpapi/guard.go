package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

type principalKey struct{}

// principal is who calls. Every handler runs behind authenticate.
func principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// bearer is the token of the Authorization header.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// authenticate lets nobody in without a good token. Who it turns away has no
// name, so there is no audit entry: anybody could fill the log with them.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := s.identify(r)
		if err != nil {
			s.refuse(w, err)
			return
		}
		ctx := context.WithValue(r.Context(), principalKey{}, p)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, noteKey{}, &note{})))
	})
}

// identify finds who calls, with the role that the caller has now.
func (s *Server) identify(r *http.Request) (auth.Principal, error) {
	p, err := s.verifier.Verify(r.Context(), bearer(r))
	if err == nil && p.Project != "" && p.Use == store.Access {
		p.Role, err = s.effective(r.Context(), p)
	}
	return p, err
}

// admit lets agents only to their own routes, everybody else only to the others,
// and nobody to what isn't one.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, want := principal(r.Context()), store.Access
		if agents(r) {
			want = store.Agent
		}
		if p.Use != want {
			s.refuse(w, &penstock.Error{Code: penstock.Denied, Msg: fmt.Sprintf("this is a token for %s use; %.200s takes one for %s use", p.Use, r.URL.Path, want)})
			return
		}
		if _, route := s.mux.Handler(r); route == "" || path.Clean(r.URL.Path) != r.URL.Path {
			s.refuse(w, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no %s %.200s", r.Method, r.URL.Path), Hint: "GET /api/openapi.json describes the API"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func agents(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v1/agent/") }

// effective is the role of a project's token: what the token may at most, and
// what its subject is in the project today.
func (s *Server) effective(ctx context.Context, p auth.Principal) (penstock.Role, error) {
	var o v1.Object
	err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		o, err = tx.Get(penstock.Ref{Kind: penstock.KindProject, Name: p.Project})
		return err
	})
	if penstock.CodeOf(err) == penstock.NotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	project, err := v1.As[v1.ProjectSpec, v1.ProjectStatus](o)
	return auth.Effective(p, project), err
}

type noteKey struct{}

// note is what a handler adds to the audit entry of its call: what the path
// doesn't name, such as the objects of a set. One whose handler wrote entries of
// its own is written: it gets no other.
type note struct {
	text    string
	written bool
}

func remark(ctx context.Context, text string) {
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.text += " " + text
	}
}

// audit writes down each call and what came of it. Agents' reports are facts of
// their own and are not repeated here.
func (s *Server) audit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := principal(r.Context())
		if p.Use == store.Agent && agents(r) {
			next.ServeHTTP(w, r)
			return
		}
		if reads(r) {
			s.journal.Read(w, r, next, func(status int) (store.AuditEntry, bool) { return entryOf(r, status), !written(r) })
			return
		}
		held := &heldWriter{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(held, r)
		if err := s.journal.Now(entryOf(r, held.status)); err != nil {
			s.refuse(w, fmt.Errorf("write audit entry: %w", err))
			return
		}
		held.send(w)
	})
}

func written(r *http.Request) bool {
	n, ok := r.Context().Value(noteKey{}).(*note)
	return ok && n.written
}

// write makes an entry about a call durable that goes on, or has ended.
func (s *Server) write(r *http.Request, status int, text string) error {
	e := entryOf(r, status)
	e.Detail = bounded(e.Detail + " " + text)
	if err := s.journal.Now(e); err != nil {
		return fmt.Errorf("write audit entry: %w", err)
	}
	if n, ok := r.Context().Value(noteKey{}).(*note); ok {
		n.written = true
	}
	return nil
}

func entryOf(r *http.Request, status int) store.AuditEntry {
	p := principal(r.Context())
	e := store.AuditEntry{
		At: time.Now().UTC().Truncate(time.Microsecond), Actor: p.Subject, Role: string(p.Role),
		Verb: r.Method, Target: bounded(r.URL.Path), Outcome: strconv.Itoa(status), Detail: "token " + p.CredentialID,
	}
	if n, ok := r.Context().Value(noteKey{}).(*note); ok {
		e.Detail = bounded(e.Detail + n.text)
	}
	return e
}

// bounded is text from outside as the log keeps it.
func bounded(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxDetail)], "\uFFFD")
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// heldWriter keeps an answer back until it may be sent.
type heldWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *heldWriter) Header() http.Header         { return w.header }
func (w *heldWriter) WriteHeader(status int)      { w.status = status }
func (w *heldWriter) Write(b []byte) (int, error) { return w.body.Write(b) }

func (w *heldWriter) send(to http.ResponseWriter) {
	for name, values := range w.header {
		to.Header()[name] = values
	}
	to.WriteHeader(w.status)
	_, _ = to.Write(w.body.Bytes()) // the caller is gone if this fails
}
