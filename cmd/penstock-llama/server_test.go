package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"github.com/penstock/penstock"
)

// script is a generator that gives the same steps to every request.
type script struct {
	steps []step
	err   error
	asked chan options // the options of each request, if not nil
	gone  chan error   // why the request's context ended, if not nil
}

func (s script) Chat(messages []message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Content)
	}
	return b.String()
}

func (s script) Generate(ctx context.Context, _ string, o options) (answer, error) {
	if s.err != nil {
		return answer{}, s.err
	}
	if s.asked != nil {
		s.asked <- o
	}
	if s.gone != nil {
		context.AfterFunc(ctx, func() { s.gone <- ctx.Err() })
	}
	steps := make(chan step, len(s.steps))
	for _, st := range s.steps {
		steps <- st
	}
	return answer{PromptTokens: 4, Steps: steps}, nil
}

func post(t *testing.T, g generator, path, in string) *httptest.ResponseRecorder {
	t.Helper()
	s := &server{engine: g, model: "tiny", log: slog.New(slog.DiscardHandler)}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(in)))
	return w
}

func threeTokens() script {
	return script{steps: []step{{Text: "a"}, {Text: ""}, {Text: "é"}, {Text: "!", Finish: "stop"}}}
}

func TestWholeAnswerHasTextFinishAndUsage(t *testing.T) {
	for path, text := range map[string]string{"/v1/completions": "choices.0.text", "/v1/chat/completions": "choices.0.message.content"} {
		w := post(t, threeTokens(), path, `{"model":"m","prompt":"x","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`)
		got := gjson.GetMany(w.Body.String(), text, "choices.0.finish_reason", "usage.prompt_tokens", "usage.completion_tokens", "usage.total_tokens", "model")
		want := []string{"aé!", "stop", "4", "3", "7", "m"}
		for i := range want {
			if got[i].String() != want[i] {
				t.Errorf("%s: %s", path, w.Body)
			}
		}
	}
}

func TestStreamHasOneChunkForEachToken(t *testing.T) {
	for path, count := range map[string]string{"/v1/completions": "choices.0.text", "/v1/chat/completions": "choices.0.delta.content"} {
		w := post(t, threeTokens(), path, `{"prompt":"x","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}`)
		tokens, text := 0, ""
		events := strings.Split(strings.TrimSuffix(w.Body.String(), "\n\n"), "\n\n")
		for _, event := range events {
			data := strings.TrimPrefix(event, "data: ")
			if part := gjson.Get(data, count); part.Exists() && !gjson.Get(data, "choices.0.delta.role").Exists() {
				text += part.String()
				if gjson.Get(data, "choices.0.finish_reason").Type == gjson.Null {
					tokens++
				}
			}
		}
		if tokens != 3 || text != "aé!" || events[len(events)-1] != "data: [DONE]" {
			t.Errorf("%s: %d tokens, text %q in\n%s", path, tokens, text, w.Body)
		}
		if usage := gjson.Get(events[len(events)-2][6:], "usage.completion_tokens").Int(); usage != 3 {
			t.Errorf("%s: usage %d", path, usage)
		}
		if w.Header().Get(promptTokensHeader) != "4" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
	}
}

func TestStreamWithoutAskingHasNoUsage(t *testing.T) {
	w := post(t, threeTokens(), "/v1/completions", `{"prompt":"x","stream":true}`)
	if strings.Contains(w.Body.String(), "usage") {
		t.Fatal(w.Body)
	}
}

func TestFailedStreamEndsWithAnErrorAndNoDone(t *testing.T) {
	g := script{steps: []step{{Text: "a"}, {Err: &penstock.Error{Code: penstock.Internal, Msg: "lost"}}}}
	w := post(t, g, "/v1/completions", `{"prompt":"x","stream":true}`)
	if body := w.Body.String(); strings.Contains(body, "[DONE]") || !strings.Contains(body, `data: {"error":{"message":"lost"`) {
		t.Fatal(body)
	}
}

func TestOptionsReachTheEngine(t *testing.T) {
	g := threeTokens()
	g.asked = make(chan options, 1)
	post(t, g, "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"max_completion_tokens":9,"temperature":0,"top_p":0.5,"seed":-1,"stop":"end"}`)
	want := options{Max: 9, Temperature: 0, TopP: 0.5, Seed: 1<<32 - 1, Stop: []string{"end"}}
	if diff := cmp.Diff(want, <-g.asked); diff != "" {
		t.Fatal(diff)
	}
}

func TestBadRequestsAreRefusedInTheAPIsForm(t *testing.T) {
	for in, code := range map[string]string{
		`{`:                                    "invalid",
		`{"prompt":"x","prompt":"y"}`:          "invalid", // a name that stands twice
		`{"prompt":7}`:                         "invalid",
		`{"prompt":["a","b"]}`:                 "unsupported",
		`{"prompt":"x","n":2}`:                 "unsupported",
		`{"prompt":"x","logprobs":0}`:          "unsupported",
		`{"prompt":"x","max_tokens":0}`:        "invalid",
		`{"prompt":"x","temperature":-1}`:      "invalid",
		`{"prompt":"x","top_p":0}`:             "invalid",
		`{"prompt":"x","stop":[""]}`:           "invalid",
		`{"prompt":"x","stream_options":{}}`:   "invalid",
		`{"prompt":"x","max_tokens":"twelve"}`: "invalid",
	} {
		w := post(t, threeTokens(), "/v1/completions", in)
		if got := gjson.Get(w.Body.String(), "error.code").String(); w.Code != 400 || got != code {
			t.Errorf("%s: %d %s", in, w.Code, w.Body)
		}
	}
	if w := post(t, threeTokens(), "/v1/completions", `{"prompt":"`+strings.Repeat("a", bodyLimit)+`"}`); w.Code != 413 {
		t.Errorf("a body over the limit: %d", w.Code)
	}
	full := script{err: &penstock.Error{Code: penstock.Unavailable, Msg: "full"}}
	if w := post(t, full, "/v1/completions", `{"prompt":"x"}`); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a full queue: %d %v", w.Code, w.Header())
	}
}

func TestClientThatLeavesStopsItsGeneration(t *testing.T) {
	g := script{steps: []step{{Text: "a"}}, gone: make(chan error, 1)}
	s := &server{engine: g, model: "tiny", log: slog.New(slog.DiscardHandler)}
	web := httptest.NewServer(s.handler())
	defer web.Close()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", web.URL+"/v1/completions", strings.NewReader(`{"prompt":"x","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	leave()
	select {
	case <-g.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the generation still ran")
	}
}

func TestHealthTurnsWhileDraining(t *testing.T) {
	s := &server{engine: threeTokens(), log: slog.New(slog.DiscardHandler)}
	for draining, want := range map[bool]int{false: 200, true: 503} {
		s.draining.Store(draining)
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/health", nil))
		if w.Code != want {
			t.Errorf("draining %v: %d", draining, w.Code)
		}
	}
}
