package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
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

// authenticate lets nobody in without a token, and agents only to their own
// routes.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := s.verifier.Verify(r.Context(), bearer(r))
		if err != nil {
			s.refuse(w, err)
			return
		}
		if p.Project != "" && p.Use == store.Access {
			if p.Role, err = s.effective(r.Context(), p); err != nil {
				s.refuse(w, err)
				return
			}
		}
		agents := strings.HasPrefix(r.URL.Path, "/v1/agent/")
		if want := map[bool]store.CredentialUse{true: store.Agent, false: store.Access}[agents]; p.Use != want {
			s.refuse(w, &penstock.Error{Code: penstock.Denied, Msg: fmt.Sprintf("this is a token for %s use; %s takes one for %s use", p.Use, r.URL.Path, want)})
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
	})
}

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

// audit writes down each call and what came of it. Agents' reports are facts of
// their own and are not repeated here.
func (s *Server) audit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := principal(r.Context())
		if p.Use == store.Agent {
			next.ServeHTTP(w, r)
			return
		}
		entry := store.AuditEntry{
			At: time.Now().UTC().Truncate(time.Microsecond), Actor: p.Subject, Role: string(p.Role),
			Verb: r.Method, Target: r.URL.Path, Detail: "token " + p.CredentialID,
		}
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if reads(r) {
			next.ServeHTTP(seen, r)
			entry.Outcome = fmt.Sprint(seen.status)
			s.journal.later(entry)
			return
		}
		held := &heldWriter{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(held, r)
		entry.Outcome = fmt.Sprint(held.status)
		if err := s.journal.now(r.Context(), entry); err != nil {
			s.refuse(w, fmt.Errorf("write audit entry: %w", err))
			return
		}
		held.send(w)
	})
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the flusher.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

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

// idempotent answers a repeated call with the same Idempotency-Key as it was
// answered the first time, without doing it again. Faults of our own and
// conflicts are not remembered: repeating those is what the key is for.
func (s *Server) idempotent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		if key == "" || reads(r) || strings.HasPrefix(r.URL.Path, "/v1/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		if len(key) > maxKeyBytes {
			s.refuse(w, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("the Idempotency-Key has %d bytes, %d are allowed", len(key), maxKeyBytes)})
			return
		}
		content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
		if err != nil {
			s.refuse(w, &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("the body is larger than %d bytes, or broke off", s.MaxBody), Err: err})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(content))
		s.answerOnce(w, r, next, key, content)
	})
}

func (s *Server) answerOnce(w http.ResponseWriter, r *http.Request, next http.Handler, key string, content []byte) {
	sum := sha256.Sum256([]byte(r.Method + " " + r.URL.RequestURI() + "\n" + string(content)))
	a := store.Answer{Actor: principal(r.Context()).Subject, Key: key, Request: penstock.DigestOf(sum[:])}
	var before store.Answer
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		before, err = tx.Recall(a.Actor, key)
		return err
	})
	switch {
	case err == nil && before.Request != a.Request:
		s.refuse(w, &penstock.Error{Code: penstock.Invalid, Msg: "this Idempotency-Key was used for another call", Hint: "take a new key for each call"})
		return
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Idempotent-Replayed", "true")
		w.WriteHeader(before.Status)
		_, _ = w.Write(before.Body) // the caller is gone if this fails
		return
	case penstock.CodeOf(err) != penstock.NotFound:
		s.refuse(w, err)
		return
	}
	held := &heldWriter{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(held, r)
	if held.status < 300 {
		a.Status, a.Body, a.At = held.status, held.body.Bytes(), time.Now().UTC().Truncate(time.Microsecond)
		if err := s.Store.Update(r.Context(), func(tx store.Tx) error { return tx.Remember(a) }); err != nil {
			s.refuse(w, fmt.Errorf("remember answer: %w", err))
			return
		}
	}
	held.send(w)
}
