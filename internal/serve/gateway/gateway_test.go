package gateway_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/gjson"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/serve/gateway"
	"github.com/penstock/penstock/internal/store"
)

func prometheusRegistry() *prometheus.Registry { return prometheus.NewRegistry() }
func discard() *slog.Logger                    { return slog.New(slog.DiscardHandler) }

// katanemo/plano#980, api7/aisix#111, litellm#39796: characters cut at a chunk's
// edge and tool calls put together wrongly.
func TestStreamArrivesByteForByteHoweverTheNetworkCutsIt(t *testing.T) {
	tools := `{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{\"x\":"}}]},"finish_reason":null}]}`
	streams := map[string]string{
		"characters": events(begins, `{"choices":[{"delta":{"content":"é😀漢"}}]}`, stops, used, done),
		"CRLF":       strings.ReplaceAll(events(begins, hello, stops, used, done), "\n", "\r\n"),
		"CR":         strings.ReplaceAll(events(begins, hello, stops, used, done), "\n", "\r"),
		"comments":   ": ping\n\n" + events(begins, hello) + ": ping\n\n" + events(stops, used, done) + ": bye\n\n",
		"tool calls": events(begins, tools, strings.Replace(tools, `"index":1`, `"index":0`, 1), stops, used, done),
		"unknown":    events(begins, `{"choices":[{"delta":{"reasoning_content":"hm"},"x":[1, 2]}],"new":true}`, hello, stops, used, done),
		"no space":   strings.ReplaceAll(events(begins, hello, stops, used, done), "data: ", "data:"),
	}
	for name, stream := range streams {
		for _, piece := range []int{1, 2, 3, 5, 7, 100000} {
			h := build(t, gateway.Limits{}, raw{kind: "text/event-stream", body: stream, piece: piece})
			res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true,"stream_options":{"include_usage":true}}`)
			got, err := io.ReadAll(res.Body)
			if diff := cmp.Diff(stream, string(got)); diff != "" || err != nil {
				t.Errorf("%s in pieces of %d: %v %s", name, piece, err, diff)
			}
			if b := billOf(h.store.settlement(t)); b != (bill{5, 1, "ok", "upstream", 200}) {
				t.Errorf("%s in pieces of %d: %+v", name, piece, b)
			}
		}
	}
}

func TestUsageChunkIsKeptFromClientsThatDidNotAsk(t *testing.T) {
	h := build(t, gateway.Limits{}, raw{kind: "text/event-stream", body: events(begins, hello, stops, used, done), piece: 9})
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true}`)
	got, _ := io.ReadAll(res.Body)
	if diff := cmp.Diff(events(begins, hello, stops, done), string(got)); diff != "" {
		t.Fatal(diff)
	}
}

// catch is a replica that keeps the body it was sent.
type catch struct {
	mu   sync.Mutex
	body string
	then http.Handler
}

func (c *catch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.body = string(body)
	c.mu.Unlock()
	c.then.ServeHTTP(w, r)
}

func TestOnlyModelAndStreamOptionsOfABodyChange(t *testing.T) {
	for in, want := range map[string]string{
		`{ "x": [1.0, 2e3], "model":"writer","messages":[{"content":"\u00e9 é"}] ,"big":12345678901234567890}`: `{ "x": [1.0, 2e3], "model":"writer","messages":[{"content":"\u00e9 é"}] ,"big":12345678901234567890}`,
		`{"model":"vision/writer","a":"<&>"}`:                                             `{"model":"writer","a":"<&>"}`,
		`{"model":"writer","stream":true}`:                                                `{"model":"writer","stream":true,"stream_options":{"include_usage":true}}`,
		`{"model":"writer","stream":true,"stream_options":null,"a":1}`:                    `{"model":"writer","stream":true,"stream_options":{"include_usage":true},"a":1}`,
		`{"model":"writer","stream":true,"stream_options":{"x":1,"include_usage":false}}`: `{"model":"writer","stream":true,"stream_options":{"x":1,"include_usage":true}}`,
		`{"model":"writer","stream":true,"stream_options":{"include_usage":true, "y":2}}`: `{"model":"writer","stream":true,"stream_options":{"include_usage":true, "y":2}}`,
	} {
		c := &catch{then: raw{kind: "application/json", body: `{}`, piece: 9}}
		h := build(t, gateway.Limits{}, c)
		res := h.send(t, t.Context(), "/v1/completions", in)
		_, _ = io.ReadAll(res.Body)
		if diff := cmp.Diff(want, c.body); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestCallersAreToldWhatIsWrongInOpenAIsForm(t *testing.T) {
	h := build(t, gateway.Limits{Body: 500}, &model{})
	h.keys["other"] = store.Credential{ID: "key-2", Use: store.Gateway, Project: "speech"}
	h.keys["narrow"] = store.Credential{ID: "key-3", Use: store.Gateway, Project: "vision", Endpoints: []string{"reader"}}
	h.keys["access"] = store.Credential{ID: "key-4", Use: store.Access, Project: "vision"}
	h.keys["once"] = store.Credential{ID: "key-5", Use: store.Gateway, Project: "vision", Rate: 1}
	h.keys["poor"] = store.Credential{ID: "key-6", Use: store.Gateway, Project: "vision", Limit: 10}
	fine := `{"model":"vision/writer","messages":[],"max_tokens":1}`
	for _, c := range []struct {
		key, path, body string
		status          int
		code            string
	}{
		{"", chatUse, fine, 401, "invalid_api_key"},
		{"wrong", chatUse, fine, 401, "invalid_api_key"},
		{"access", chatUse, fine, 401, "invalid_api_key"},
		{"", "/anything", fine, 401, "invalid_api_key"},
		{key, "/anything", fine, 404, "model_not_found"},
		{key, chatUse, `{"model":"nobody","messages":[]}`, 404, "model_not_found"},
		{"other", chatUse, fine, 404, "model_not_found"},
		{"other", chatUse, `{"model":"writer"}`, 404, "model_not_found"},
		{"narrow", chatUse, fine, 404, "model_not_found"},
		{key, chatUse, `{"messages":[]}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer"`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","max_tokens":1,"max_tokens":100}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","max_tokens":1.5}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","n":-1}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","stream":"yes"}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","stream":true,"stream_options":7}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","x":` + strings.Repeat("[", 400) + `}`, 400, "invalid"},
		{key, chatUse, `{"model":"writer","x":"` + strings.Repeat("a", 600) + `"}`, 413, "too_large"},
		{"poor", chatUse, fine, 429, "insufficient_quota"},
		{"once", chatUse, fine, 200, ""},
		{"once", chatUse, fine, 429, "rate_limit_exceeded"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", h.url+c.path, strings.NewReader(c.body))
		if c.key != "" {
			req.Header.Set("Authorization", "Bearer "+c.key)
		}
		res, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(res.Body)
		res.Body.Close()
		got := gjson.ParseBytes(all).Get("error")
		if res.StatusCode != c.status || got.Get("code").String() != c.code || (c.status != 200 && got.Get("message").String() == "") {
			t.Errorf("%s %s %.60s: %d %s", c.key, c.path, c.body, res.StatusCode, all)
		}
		if c.status == 429 && res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.code)
		}
	}
	if n := len(h.store.ledger(t)); n != 1 {
		t.Errorf("%d requests in the ledger, want the one that was served", n)
	}
}

func TestModelsListsWhatTheKeyOpens(t *testing.T) {
	h := build(t, gateway.Limits{})
	reader := writer()
	reader.Metadata.Name, reader.Metadata.UID = "reader", "uid-reader"
	h.store.put(t, reader)
	for endpoints, want := range map[string]string{"": `["vision/reader","vision/writer"]`, "reader": `["vision/reader"]`, "x": `[]`} {
		cred := store.Credential{ID: "key-1", Use: store.Gateway, Project: "vision"}
		if endpoints != "" {
			cred.Endpoints = []string{endpoints}
		}
		h.keys[key] = cred
		req, _ := http.NewRequestWithContext(t.Context(), "GET", h.url+"/v1/models", nil)
		req.Header.Set("Authorization", "bearer "+key)
		res, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if got := gjson.GetBytes(all, "data.#.id").Raw; got != want {
			t.Errorf("key for %q: %s", endpoints, all)
		}
	}
}

// litellm#38153, #38610: a fallback after the first event showed two beginnings.
func TestAnotherReplicaTakesOverWithoutATraceBeforeContent(t *testing.T) {
	full := events(begins, hello, stops, done)
	for name, first := range map[string]http.Handler{
		"reset after the beginning": raw{kind: "text/event-stream", body: events(strings.Replace(begins, "choices", "first", 1)), piece: 999, end: reset},
		"end after the beginning":   raw{kind: "text/event-stream", body: events(begins), piece: 999},
		"error as the first event":  raw{kind: "text/event-stream", body: events(begins, `{"error":{"message":"no"}}`), piece: 999},
		"reset before any byte":     http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"busy":                      raw{kind: "text/plain", body: "full", piece: 9, status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			calls := &atomicInt{}
			h := build(t, gateway.Limits{}, first, raw{kind: "text/event-stream", body: full, piece: 7, calls: calls})
			res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true}`)
			got, _ := io.ReadAll(res.Body)
			if diff := cmp.Diff(full, string(got)); diff != "" || calls.load() != 1 {
				t.Fatalf("%d calls: %s", calls.load(), diff)
			}
			if b := billOf(h.store.settlement(t)); b != (bill{1, 1, "ok", "counted", 200}) {
				t.Fatalf("%+v", b)
			}
		})
	}
}

func TestNoReplicaIsAskedAgainAfterContent(t *testing.T) {
	calls := &atomicInt{}
	cut := raw{kind: "text/event-stream", body: events(begins, hello), piece: 999, end: reset, calls: calls}
	h := build(t, gateway.Limits{}, cut, cut, cut)
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true}`)
	got, _ := io.ReadAll(res.Body)
	if calls.load() != 1 || strings.Count(string(got), "hello") != 1 || !strings.Contains(string(got), `data: {"error":`) {
		t.Fatalf("%d calls: %s", calls.load(), got)
	}
}

func TestDeadReplicasAreTriedWithinABound(t *testing.T) {
	dead := func() v1.Replica {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return v1.Replica{Address: l.Addr().String(), Ready: true}
	}
	live := httptest.NewServer(&model{})
	defer live.Close()
	ready := v1.Replica{Address: strings.TrimPrefix(live.URL, "http://"), Ready: true}
	body := `{"model":"writer","messages":[],"max_tokens":1}`

	h := build(t, gateway.Limits{Attempts: 2})
	h.store.put(t, writer(dead(), ready))
	for range 4 {
		if res := h.send(t, t.Context(), chatUse, body); res.StatusCode != 200 {
			t.Fatalf("with one of two replicas alive: %s", res.Status)
		}
	}
	h.store.put(t, writer(dead(), dead(), dead(), ready)) // more dead ones than attempts
	res := h.send(t, t.Context(), chatUse, body)
	all, _ := io.ReadAll(res.Body)
	if res.StatusCode != 502 || res.Header.Get("Retry-After") == "" {
		t.Fatalf("%s %s", res.Status, all)
	}
	h.store.put(t, writer(v1.Replica{Address: ready.Address})) // not ready
	res = h.send(t, t.Context(), chatUse, body)
	if all, _ := io.ReadAll(res.Body); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || gjson.GetBytes(all, "error.code").String() != "no_ready_replica" {
		t.Fatalf("%s %s", res.Status, all)
	}
	h.store.ledger(t)
}

// suna#5986: context_length_exceeded became a 502, so agents couldn't shorten.
func TestClientsErrorsPassThroughAndTheReplicasOwnDoNot(t *testing.T) {
	long := `{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`
	for _, c := range []struct {
		status, want int
		code         string
	}{
		{400, 400, "context_length_exceeded"}, {422, 422, "context_length_exceeded"}, {429, 429, "context_length_exceeded"},
		{401, 502, "upstream_error"}, {403, 502, "upstream_error"}, {302, 502, "upstream_error"}, {500, 502, "upstream_error"},
		{503, 503, "upstream_error"}, {504, 504, "upstream_error"},
	} {
		h := build(t, gateway.Limits{}, raw{kind: "application/json", body: long, piece: 999, status: c.status})
		res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true}`)
		all, _ := io.ReadAll(res.Body)
		if res.StatusCode != c.want || gjson.GetBytes(all, "error.code").String() != c.code || (c.want == c.status && c.status < 500 && string(all) != long) {
			t.Errorf("%d became %d %s", c.status, res.StatusCode, all)
		}
		if b := billOf(h.store.settlement(t)); b != (bill{0, 0, "failed", "counted", c.want}) {
			t.Errorf("%d: %+v", c.status, b)
		}
	}
}

// ai-gateway#1189, #682: usage of a compressed answer wasn't read.
func TestNothingIsCompressedAndWhatIsAnywayIsRefused(t *testing.T) {
	m := &model{}
	h := build(t, gateway.Limits{}, m)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", h.url+chatUse, strings.NewReader(`{"model":"writer","messages":[],"max_tokens":1}`))
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept-Encoding", "gzip, br")
	res, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := m.headers[0].Values("Accept-Encoding"); len(got) > 0 {
		t.Errorf("asked the replica for %q", got)
	}
	h = build(t, gateway.Limits{}, raw{kind: "application/json", encoding: "gzip", body: "\x1f\x8b", piece: 9})
	res = h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[]}`)
	if all, _ := io.ReadAll(res.Body); res.StatusCode != 502 || res.Header.Get("Content-Encoding") != "" || !gjson.ValidBytes(all) {
		t.Errorf("%s %q", res.Status, all)
	}
}

// litellm#8075, #25203, #31467: keys in logs, errors and at the wrong server.
func TestTheCallersSecretsStayInTheGateway(t *testing.T) {
	m := &model{}
	h := build(t, gateway.Limits{}, m)
	var seen strings.Builder
	for _, secret := range []string{key, "psk-unknown-canary"} {
		for _, path := range []string{chatUse, "/v1/completions", "/nowhere"} {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", h.url+path, strings.NewReader(`{"model":"writer","messages":[],"max_tokens":1,"api_base":"http://127.0.0.1:1"}`))
			req.Header.Set("Authorization", "Bearer "+secret)
			req.Header.Set("Cookie", "session=cookie-canary")
			req.Header.Set("X-Api-Key", "header-canary")
			res, err := h.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			all, _ := io.ReadAll(res.Body)
			res.Body.Close()
			seen.Write(all)
			for name, values := range res.Header {
				seen.WriteString(name + strings.Join(values, ","))
			}
		}
	}
	for _, header := range m.headers {
		for name, values := range header {
			seen.WriteString(name + ": " + strings.Join(values, ",") + "\n")
		}
	}
	for _, r := range h.store.ledger(t) {
		seen.WriteString(r.ID + r.Key + r.Route)
	}
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		seen.WriteString(f.String())
	}
	seen.WriteString(h.log.String())
	for _, canary := range []string{key, "canary", "Authorization", "Cookie"} {
		if strings.Contains(seen.String(), canary) {
			t.Errorf("%s was seen in\n%s", canary, seen.String())
		}
	}
}

// caddy#938: two idle connections to a host used up the ports.
func TestConnectionsToReplicasAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(&model{})
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	h := build(t, gateway.Limits{})
	h.store.put(t, writer(v1.Replica{Address: strings.TrimPrefix(server.URL, "http://"), Ready: true}))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 20 {
				body := `{"model":"writer","messages":[],"max_tokens":1,"stream":true}`
				if i%2 == 0 {
					body = `{"model":"writer","messages":[],"max_tokens":1}`
				}
				res := h.send(t, t.Context(), chatUse, body)
				_, _ = io.Copy(io.Discard, res.Body)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if opened > 32 {
		t.Fatalf("%d connections for 16 clients", opened)
	}
}

func TestRequestsGoToTheReplicaWithTheFewest(t *testing.T) {
	var mu sync.Mutex
	served := ""
	hold, held := make(chan struct{}), make(chan struct{})
	replica := func(name string) http.Handler {
		return &model{step: func(r *http.Request, _ int) {
			mu.Lock()
			served += name
			first := len(served) == 1
			mu.Unlock()
			if first {
				close(held)
				<-hold
			}
		}}
	}
	h := build(t, gateway.Limits{}, replica("a"), replica("b"))
	ask := func() {
		res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":1}`)
		_, _ = io.Copy(io.Discard, res.Body)
	}
	var wg sync.WaitGroup
	wg.Go(ask)
	<-held
	for range 3 { // while a is busy
		ask()
	}
	close(hold)
	wg.Wait()
	for range 4 { // both are free: the one that rested longest
		ask()
	}
	if diff := cmp.Diff("abbb"+"abab", served); diff != "" {
		t.Fatal(diff)
	}
}

func TestARateIsGivenBackEvenly(t *testing.T) {
	h := build(t, gateway.Limits{}, &model{})
	h.keys[key] = store.Credential{ID: "key-1", Use: store.Gateway, Project: "vision", Rate: 600} // one in 100 ms
	refused := 0
	for range 700 {
		res := h.send(t, t.Context(), chatUse, `{`)
		if res.StatusCode == 429 {
			refused++
			break
		}
	}
	if refused == 0 {
		t.Fatal("700 requests passed a rate of 600 a minute")
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if res := h.send(t, t.Context(), chatUse, `{`); res.StatusCode == 400 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the rate was not given back")
		}
	}
}
