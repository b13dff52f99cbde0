package httpapi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// failure is a Problem on its way out, as huma wants it.
type failure struct {
	v1.Problem
	cause error
}

// Error is the detail.
func (f *failure) Error() string { return f.Detail }

// GetStatus is the HTTP status.
func (f *failure) GetStatus() int { return f.Status }

// ContentType is that of RFC 9457.
func (f *failure) ContentType(string) string { return "application/problem+json" }

// MarshalJSON leaves the cause out.
func (f *failure) MarshalJSON() ([]byte, error) { return json.Marshal(f.Problem) }

// problem turns an error into an answer: the one place where a code becomes a
// status. What isn't a penstock.Error stays unseen; the log has it under the id.
func problem(err error) *failure {
	info := penstock.InfoOf(err)
	p := v1.Problem{
		Type: "urn:penstock:error:" + string(info.Code), Title: string(info.Code), Status: info.HTTP, Code: info.Code,
	}
	var e *penstock.Error
	if info.Code == penstock.Internal || !errors.As(err, &e) {
		id := rand.Text()[:10]
		p.Detail = "internal fault " + id
		p.Hint = "the server's log has the details under this id"
		return &failure{p, &numbered{id, err}}
	}
	p.Detail, p.Where, p.Hint = penstock.Public(e), e.Where, e.Hint
	return &failure{p, nil}
}

// numbered is an internal fault with the id that its caller was told.
type numbered struct {
	id  string
	err error
}

func (n *numbered) Error() string { return n.id + ": " + n.err.Error() }

// failure is an error on its way out, logged if it is a fault of our own.
func (s *Server) failure(err error) *failure {
	var f *failure
	if !errors.As(err, &f) {
		errors.As(s.fail(err), &f)
	}
	return f
}

// refuse answers a plain handler's error.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	f := s.failure(err)
	w.Header().Set("Content-Type", "application/problem+json")
	if f.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="penstock"`)
	}
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(f.Problem) // the caller is gone if this fails
}
