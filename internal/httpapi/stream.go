package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// streamRoutes are those whose bodies are not one JSON document: huma describes
// none of them, docs/api.md does.
func (s *Server) streamRoutes() {
	s.mux.HandleFunc("GET /v1/watch", s.watch)
	s.mux.HandleFunc("GET /v1/jobs/{project}/{name}/logs", s.logs)
	s.mux.HandleFunc("GET /v1/jobs/{project}/{name}/exec", s.exec)
	s.mux.HandleFunc("GET /v1/jobs/{project}/{name}/forward", s.forward)
	s.mux.HandleFunc("HEAD /v1/blobs/{digest}", s.headBlob)
	s.mux.HandleFunc("PUT /v1/blobs/{digest}", s.putBlob)
	s.mux.HandleFunc("POST /v1/agent/reports", s.reports)
	s.mux.HandleFunc("GET /v1/agent/orders/{rank}", s.order)
	s.mux.HandleFunc("GET /v1/agent/blobs/{digest}", s.agentBlob(s.getBlob))
	s.mux.HandleFunc("HEAD /v1/agent/blobs/{digest}", s.agentBlob(s.headBlob))
	s.mux.HandleFunc("PUT /v1/agent/blobs/{digest}", s.agentBlob(s.putBlob))
}

// heartbeat keeps proxies from closing a quiet watch.
const heartbeat = 15 * time.Second

// watch streams changes as server-sent events. It goes on after ?after= or the
// header Last-Event-ID; without either it starts now. Events are limited to
// what the caller may see, and to ?project= and ?kind=.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	after, err := s.watchFrom(r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	kind := penstock.Kind(r.URL.Query().Get("kind"))
	if kind != "" && !slices.Contains(penstock.Kinds(), kind) {
		s.refuse(w, invalid("kind", fmt.Sprintf("kinds: %v", penstock.Kinds()), "%.80q is not a kind", kind))
		return
	}
	if err := s.replay(w, r, &after); err != nil { // the first page can still be refused
		s.refuse(w, err)
		return
	}
	for {
		changed := s.Store.Changed()
		if err := s.replay(w, r, &after); err != nil {
			s.endWatch(r, err)
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-time.After(heartbeat):
			if _, err := io.WriteString(w, ": still here\n\n"); err != nil {
				return
			}
		}
	}
}

// endWatch ends a stream that has begun. The client asks again from where it
// was, and is then told why.
func (s *Server) endWatch(r *http.Request, err error) {
	if penstock.CodeOf(err) == penstock.Internal && r.Context().Err() == nil {
		s.Log.Error("watch", "error", err)
	}
}

// replay sends what changed after a revision, as far as the caller may see it
// today: a token that was revoked sees nothing more.
func (s *Server) replay(w http.ResponseWriter, r *http.Request, after *int64) error {
	p, err := s.identify(r)
	if err != nil {
		return err
	}
	ctx := context.WithValue(r.Context(), principalKey{}, p)
	project, kind := r.URL.Query().Get("project"), penstock.Kind(r.URL.Query().Get("kind"))
	for {
		var changes []store.Change
		err := s.Store.View(ctx, func(tx store.Tx) (err error) {
			changes, err = tx.Changes(*after, maxPage)
			return err
		})
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		for _, c := range changes {
			*after = c.Revision
			o := c.Object
			if project != "" && o.Metadata.Project != project || kind != "" && o.Kind != kind || s.allow(ctx, auth.Watch, o.Ref()) != nil {
				continue
			}
			if err := writeChange(w, v1.Change{Revision: c.Revision, Op: string(c.Op), Object: withoutSealed(o)}); err != nil {
				return err
			}
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return &penstock.Error{Code: penstock.Canceled, Msg: "the caller left", Err: err}
		}
		if len(changes) < maxPage {
			return nil
		}
	}
}

func (s *Server) watchFrom(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("after")
	if text == "" {
		text = r.Header.Get("Last-Event-ID")
	}
	if text != "" {
		after, err := strconv.ParseInt(text, 10, 64)
		if err != nil || after < 0 {
			return 0, invalid("after", "take it from a list, or from the id of the last event", "%.40q is not a revision", text)
		}
		return after, nil
	}
	var newest int64
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		newest, err = tx.Revision()
		return err
	})
	return newest, err
}

func writeChange(w io.Writer, c v1.Change) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", c.Revision, c.Op, data); err != nil {
		return &penstock.Error{Code: penstock.Canceled, Msg: "the caller left", Err: err}
	}
	return nil
}

// logs streams what one task wrote, as plain text.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var a v1.Attempt
	var rank int
	tail, err := number("tail", q.Get("tail"))
	if err == nil {
		a, rank, err = s.taskOf(r, auth.Get)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	_, executor, err := s.executorOf(r, a)
	if err != nil {
		s.refuse(w, err)
		return
	}
	from, err := executor.Logs(r.Context(), a.Metadata.UID, rank, run.LogOptions{Follow: q.Get("follow") == "true", Tail: tail})
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer from.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	copyFlushing(w, from)
}

// taskOf finds the task that a call names with ?attempt= and ?rank=, for who may
// do verb with its job.
func (s *Server) taskOf(r *http.Request, verb auth.Verb) (v1.Attempt, int, error) {
	var a v1.Attempt
	ref, q := jobOf(r), r.URL.Query()
	attempt, err := number("attempt", q.Get("attempt"))
	var rank int
	if err == nil {
		rank, err = number("rank", q.Get("rank"))
	}
	if err == nil {
		err = s.allow(r.Context(), verb, ref)
	}
	if err == nil {
		a, err = s.attemptOf(r.Context(), ref, attempt)
	}
	if n := len(a.Spec.Tasks); err == nil && rank >= n {
		err = &penstock.Error{Code: penstock.NotFound, Where: ref.String(), Msg: fmt.Sprintf("there is no rank %d in a gang of %d", rank, n), Hint: "ranks count from 0"}
	}
	return a, rank, err
}

// jobOf is the job that a call's path names.
func jobOf(r *http.Request) penstock.Ref {
	return penstock.Ref{Kind: penstock.KindJob, Project: r.PathValue("project"), Name: r.PathValue("name")}
}

// number reads one of a query; none is 0.
func number(name, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, invalid(name, "", "%.40q is not a number from 0 on", text)
	}
	return n, nil
}

// executorOf is the executor that an attempt runs on, and its name.
func (s *Server) executorOf(r *http.Request, a v1.Attempt) (string, run.Executor, error) {
	var pool v1.Object
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		pool, err = tx.Get(penstock.Ref{Kind: penstock.KindPool, Name: a.Spec.Pool})
		return err
	})
	if err != nil {
		return "", nil, err
	}
	typed, err := v1.As[v1.PoolSpec, v1.PoolStatus](pool)
	if err != nil {
		return "", nil, err
	}
	executor, ok := s.Executors[typed.Spec.Executor]
	if !ok {
		return "", nil, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("this server has no executor %q", typed.Spec.Executor)}
	}
	return typed.Spec.Executor, executor, nil
}

// copyFlushing passes on what comes as soon as it comes.
func copyFlushing(w http.ResponseWriter, from io.Reader) {
	flush, buf := http.NewResponseController(w), make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil || flush.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// agentBlob lets an agent at bytes only while its attempt lives.
func (s *Server) agentBlob(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o v1.Object
		err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
			o, err = tx.ByUID(principal(r.Context()).Attempt)
			return err
		})
		switch {
		case penstock.CodeOf(err) == penstock.NotFound || err == nil && o.Metadata.Phase.Final():
			s.refuse(w, &penstock.Error{Code: penstock.Fenced, Msg: "the attempt has ended"})
			return
		case err != nil:
			s.refuse(w, err)
			return
		}
		next(w, r)
	}
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) {
	d, err := penstock.ParseDigest(r.PathValue("digest"))
	var size int64
	if err == nil {
		size, err = s.Blobs.Size(r.Context(), d)
	}
	var from io.ReadCloser
	if err == nil {
		from, err = s.Blobs.Open(r.Context(), d, 0, -1)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer from.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.Copy(w, from); err != nil {
		panic(http.ErrAbortHandler) // the only way to tell the reader that the body is not whole
	}
}

func (s *Server) headBlob(w http.ResponseWriter, r *http.Request) {
	d, err := s.blobDigest(r, auth.Get)
	var size int64
	if err == nil {
		size, err = s.Blobs.Size(r.Context(), d)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
}

// blobDigest is the digest of the path, for who may do verb with blobs. Agents
// were let through by agentBlob.
func (s *Server) blobDigest(r *http.Request, verb auth.Verb) (penstock.Digest, error) {
	if p := principal(r.Context()); p.Use != store.Agent {
		if err := auth.Allow(p, verb, auth.KindBlob, p.Project); err != nil {
			return "", err
		}
	}
	return penstock.ParseDigest(r.PathValue("digest"))
}

// putBlob stores the body under the digest that it must have.
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) {
	d, err := s.blobDigest(r, auth.Create)
	if err == nil && r.ContentLength > maxBlob {
		err = bodyError(&http.MaxBytesError{Limit: maxBlob})
	}
	if err == nil {
		from := &reader{from: http.MaxBytesReader(w, r.Body, maxBlob)}
		if err = s.Blobs.Put(r.Context(), d, from); err != nil && from.err != nil {
			err = bodyError(from.err)
		}
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// reader keeps the error that its caller broke off with, apart from those of
// the store that reads it.
type reader struct {
	from io.Reader
	err  error
}

// Read passes on what is read.
func (r *reader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// reports takes what an agent tells of its own attempt.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	var in v1.Reports
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, s.MaxBody)).Decode(&in); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			s.refuse(w, bodyError(err))
			return
		}
		s.refuse(w, &penstock.Error{Code: penstock.Invalid, Msg: "the body is not a list of reports", Err: err})
		return
	}
	taken, err := s.Control.Report(r.Context(), principal(r.Context()).Attempt, in.Reports)
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v1.ReportsAnswer{Taken: taken}) // the agent sends again if this fails
}

// order hands a task's order to the one agent that runs it.
func (s *Server) order(w http.ResponseWriter, r *http.Request) {
	rank, err := strconv.Atoi(r.PathValue("rank"))
	if err != nil {
		s.refuse(w, invalid("rank", "ranks count from 0", "%.40q is not a rank", r.PathValue("rank")))
		return
	}
	order, err := s.Control.Order(r.Context(), principal(r.Context()).Attempt, rank, r.URL.Query().Get("run"))
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it holds secrets
	_ = json.NewEncoder(w).Encode(order)        // the agent asks again if this fails
}
