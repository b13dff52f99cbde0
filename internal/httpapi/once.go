package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

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
		a, err := s.onceCall(w, r, key)
		if err != nil {
			s.refuse(w, err)
			return
		}
		held, before, err := s.claim(r.Context(), a)
		switch {
		case err != nil:
			s.refuse(w, err)
		case held.Token > 0:
			s.answerOnce(w, r, next, a, held)
		case before.Request != a.Request:
			s.refuse(w, &penstock.Error{Code: penstock.Invalid, Msg: "this Idempotency-Key was used for another call", Hint: "take a new key for each call"})
		default:
			replay(w, before)
		}
	})
}

// onceCall says what is remembered of a call: whose it is, by token and role,
// so that nobody is answered with what somebody else was told, and what was
// asked. The body can be read again afterwards.
func (s *Server) onceCall(w http.ResponseWriter, r *http.Request, key string) (store.Answer, error) {
	p := principal(r.Context())
	a := store.Answer{Actor: p.CredentialID + " " + string(p.Role), Key: key}
	switch {
	case len(key) > maxKeyBytes:
		return a, invalid("Idempotency-Key", "", "it has %d bytes, %d are allowed", len(key), maxKeyBytes)
	case r.URL.Path == "/v1/tokens":
		return a, invalid("Idempotency-Key", "leave it out; a token too many can be revoked", "the answer holds the token, so it is not kept and can't be repeated")
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	if err != nil {
		return a, bodyError(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	sum := sha256.Sum256([]byte(r.Method + " " + r.URL.RequestURI() + "\n" + r.Header.Get("If-Match") + "\n" + string(content)))
	a.Request = penstock.DigestOf(sum[:])
	return a, nil
}

// bodyError is why a body couldn't be read to its end.
func bodyError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("the body is larger than %d bytes", large.Limit)}
	}
	return &penstock.Error{Code: penstock.Canceled, Msg: "the body broke off", Err: err}
}

func replay(w http.ResponseWriter, before store.Answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Idempotent-Replayed", "true")
	w.WriteHeader(before.Status)
	_, _ = w.Write(before.Body) // the caller is gone if this fails
}

func (s *Server) answerOnce(w http.ResponseWriter, r *http.Request, next http.Handler, a store.Answer, held store.Lease) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go s.keepClaim(ctx, cancel, held)
	answer := &heldWriter{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(answer, r.WithContext(ctx))
	cancel()
	if answer.status < 300 {
		a.Status, a.Body, a.At = answer.status, answer.body.Bytes(), time.Now().UTC().Truncate(time.Microsecond)
	}
	if err := s.endClaim(r.Context(), a, held); err != nil {
		s.refuse(w, fmt.Errorf("remember answer: %w", err))
		return
	}
	answer.send(w)
}
