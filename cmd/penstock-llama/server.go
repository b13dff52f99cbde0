package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/penstock/penstock"
)

const (
	bodyLimit   = 8 << 20          // bytes of a request
	readTimeout = 30 * time.Second // for a whole body
	slowReader  = 60 * time.Second // for one write to a client
)

// promptTokensHeader tells, before the first token, how many tokens the prompt
// has: whoever meters a stream needs it when the client leaves before the end.
const promptTokensHeader = "Penstock-Prompt-Tokens"

// generator makes text; the engine is one.
type generator interface {
	Chat(messages []message) string
	Generate(ctx context.Context, text string, o options) (answer, error)
}

// options steer one generation.
type options struct {
	Max         int     // tokens at most; 0 is to the end of the context
	Temperature float32 // 0 takes the likeliest token
	TopP        float32
	Seed        uint32
	Stop        []string
}

// answer is a generation that has begun.
type answer struct {
	PromptTokens int
	Steps        <-chan step
}

// step is one generated token: the text that it made certain, which may be
// empty. A last step, of no token, has Finish ("stop" or "length") or Err set.
type step struct {
	Text   string
	Finish string
	Err    error
}

// server answers the OpenAI API for one model.
type server struct {
	engine   generator
	model    string
	log      *slog.Logger
	draining atomic.Bool
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, completions(), parseCompletion)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, chatCompletions(), func(b []byte) (call, error) { return parseChat(b, s.engine.Chat) })
	})
	return mux
}

// health turns to 503 while draining, so that no new requests are sent here.
func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		ID     string `json:"id"`
		Object string `json:"object"`
		Owner  string `json:"owned_by"`
	}
	writeJSON(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []entry `json:"data"`
	}{"list", []entry{{s.model, "model", "penstock"}}})
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, d dialect, parse func([]byte) (call, error)) {
	in, err := read(w, r)
	if err != nil {
		s.fail(w, err)
		return
	}
	c, err := parse(in)
	if err != nil {
		s.fail(w, err)
		return
	}
	if c.Model == "" {
		c.Model = s.model
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel() // frees the slot at once, also when the client is gone
	a, err := s.engine.Generate(ctx, c.Text, c.Options)
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set(promptTokensHeader, strconv.Itoa(a.PromptTokens))
	if c.Stream {
		s.stream(ctx, w, d, c, a)
		return
	}
	s.whole(ctx, w, d, c, a)
}

// read takes the body, bounded in bytes and in time.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout)) // a recorder has none
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &penstock.Error{Code: penstock.TooLarge, Msg: "the body has more than " + strconv.Itoa(bodyLimit) + " bytes"}
	}
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the body ended too early", Err: err}
	}
	return in, nil
}

// next waits for a step; ok is false when the client is gone.
func next(ctx context.Context, a answer) (st step, ok bool) {
	select {
	case st = <-a.Steps:
		return st, true
	case <-ctx.Done():
		return step{}, false
	}
}

func (s *server) whole(ctx context.Context, w http.ResponseWriter, d dialect, c call, a answer) {
	var text []byte
	u := usage{Prompt: a.PromptTokens}
	for {
		st, ok := next(ctx, a)
		if !ok {
			return
		}
		if st.Err != nil {
			s.fail(w, st.Err)
			return
		}
		text = append(text, st.Text...)
		if st.Finish == "" {
			u.Completion++
			continue
		}
		u.Total = u.Prompt + u.Completion
		out := d.reply(d.whole, rand.Text(), c.Model, time.Now())
		out.Choices, out.Usage = d.full(string(text), st.Finish), &u
		writeJSON(w, http.StatusOK, out)
		return
	}
}

// stream sends one chunk for each token, also where a token made no text certain
// yet: who counts chunks counts tokens.
func (s *server) stream(ctx context.Context, w http.ResponseWriter, d dialect, c call, a answer) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	out := d.reply(d.chunk, rand.Text(), c.Model, time.Now())
	u := usage{Prompt: a.PromptTokens}
	if out.Choices = d.opening(); out.Choices != nil && send(w, out) != nil {
		return
	}
	for {
		st, ok := next(ctx, a)
		if !ok {
			return
		}
		if st.Err != nil {
			s.log.Error("generation failed", "err", st.Err)
			_, form := describe(st.Err)
			_ = send(w, form)
			return
		}
		out.Choices = d.part(st.Text, st.Finish)
		if send(w, out) != nil {
			return
		}
		if st.Finish != "" {
			break
		}
		u.Completion++
	}
	if c.Usage {
		u.Total = u.Prompt + u.Completion
		out.Choices, out.Usage = []choice{}, &u
		if send(w, out) != nil {
			return
		}
	}
	_ = event(w, []byte("[DONE]"))
}

func send(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return event(w, data)
}

// event writes one server-sent event and flushes it.
func event(w http.ResponseWriter, data []byte) error {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(slowReader)) // a recorder has none
	line := make([]byte, 0, len(data)+8)
	line = append(append(append(line, "data: "...), data...), "\n\n"...)
	if _, err := w.Write(line); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return err
	}
	// The connection's next request must not inherit the deadline.
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

func (s *server) fail(w http.ResponseWriter, err error) {
	status, form := describe(err)
	if status >= 500 {
		s.log.Error("request failed", "err", err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, form)
}

// describe is an error's status and OpenAI form. A prompt that doesn't fit the
// context has the code that clients look for when they shorten it.
func describe(err error) (int, failure) {
	form := failureBody{Message: "internal error", Type: "server_error", Code: string(penstock.CodeOf(err))}
	var e *penstock.Error
	if errors.As(err, &e) {
		form.Message = e.Msg
		if e.Hint != "" {
			form.Message += ": " + e.Hint
		}
	}
	status := penstock.InfoOf(err).HTTP
	switch penstock.CodeOf(err) {
	case penstock.OverLimit:
		status, form.Type, form.Code = http.StatusBadRequest, "invalid_request_error", "context_length_exceeded"
	case penstock.Invalid, penstock.Unsupported:
		status, form.Type = http.StatusBadRequest, "invalid_request_error"
	case penstock.TooLarge:
		form.Type = "invalid_request_error"
	}
	return status, failure{form}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
