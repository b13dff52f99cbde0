package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/serve/gateway"
	"github.com/penstock/penstock/internal/store"
)

// memory is a store.Store that keeps endpoints and the requests' ledger, with
// the port's own rules. Any other method of its Tx would panic.
type memory struct {
	mu        sync.Mutex
	changed   chan struct{}
	endpoints []v1.Object
	requests  map[string]store.Request
	settled   map[string]bool
	failing   error // what the next transactions end with
}

func newMemory() *memory {
	return &memory{changed: make(chan struct{}), requests: map[string]store.Request{}, settled: map[string]bool{}}
}

type memoryTx struct {
	store.Tx
	m *memory
}

func (m *memory) View(_ context.Context, fn func(store.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil {
		return m.failing
	}
	return fn(memoryTx{m: m})
}

func (m *memory) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.View(ctx, fn)
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *memory) Close() error { return nil }

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = err
}

// put makes the endpoint writer of project vision be served at the addresses.
func (m *memory) put(t testing.TB, e v1.Endpoint) {
	t.Helper()
	o, err := e.Object()
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endpoints = slices.DeleteFunc(m.endpoints, func(old v1.Object) bool { return old.Metadata.UID == o.Metadata.UID })
	m.endpoints = append(m.endpoints, o)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (tx memoryTx) List(store.Query) ([]v1.Object, error) { return slices.Clone(tx.m.endpoints), nil }

func (tx memoryTx) Reserve(r store.Request, limit int64) error {
	var sum int64
	for id, old := range tx.m.requests {
		if old.Key != r.Key {
			continue
		}
		if tx.m.settled[id] {
			sum += old.PromptTokens + old.CompletionTokens
		} else {
			sum += old.Reserved
		}
	}
	if limit > 0 && sum+r.Reserved > limit {
		return &penstock.Error{Code: penstock.OverLimit, Msg: fmt.Sprintf("%d + %d > %d", sum, r.Reserved, limit)}
	}
	tx.m.requests[r.ID] = r
	return nil
}

func (tx memoryTx) Settle(r store.Request) (bool, error) {
	if tx.m.settled[r.ID] {
		return false, nil
	}
	old, ok := tx.m.requests[r.ID]
	if !ok {
		return false, &penstock.Error{Code: penstock.NotFound, Msg: "no request " + r.ID}
	}
	r.Version = old.Version // who and what was asked is fixed by Reserve
	tx.m.requests[r.ID], tx.m.settled[r.ID] = r, true
	return true, nil
}

func (tx memoryTx) Requests(q store.RequestQuery) ([]store.Request, error) {
	var list []store.Request
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(tx.m.requests))) {
		if r := tx.m.requests[id]; (!q.Open || !tx.m.settled[id]) && (q.Limit == 0 || len(list) < q.Limit) {
			list = append(list, r)
		}
	}
	return list, nil
}

// ledger gives all requests, and fails the test if one is open.
func (m *memory) ledger(t testing.TB) []store.Request {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := memoryTx{m: m}.Requests(store.RequestQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if !m.settled[r.ID] {
			t.Errorf("request %s is open", r.ID)
		}
	}
	return list
}

// settlement waits for the ledger's only request to be settled.
func (m *memory) settlement(t testing.TB) store.Request {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		m.mu.Lock()
		for id, r := range m.requests {
			if len(m.requests) == 1 && m.settled[id] {
				m.mu.Unlock()
				return r
			}
		}
		m.mu.Unlock()
	}
	t.Fatal("the request was not settled within 10 s")
	return store.Request{}
}

// house is a gateway with one endpoint, vision/writer.
type house struct {
	store   *memory
	metrics *prometheus.Registry
	log     *strings.Builder // under the handler's own lock
	url     string
	client  *http.Client
	keys    map[string]store.Credential
	leavers sync.Map
}

// left is closed when the gateway learns that the client of the request with
// this Traceparent left.
func (h *house) left(id string) chan struct{} {
	c, _ := h.leavers.LoadOrStore(id, make(chan struct{}))
	return c.(chan struct{})
}

const key = "psk-vision-0123456789"

// build makes a house whose endpoint is served by the given replicas.
func build(t testing.TB, limits gateway.Limits, replicas ...http.Handler) *house {
	t.Helper()
	h := &house{store: newMemory(), metrics: prometheus.NewRegistry(), log: &strings.Builder{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
	h.keys = map[string]store.Credential{key: {ID: "key-1", Use: store.Gateway, Project: "vision"}}
	var ready []v1.Replica
	for i, handler := range replicas {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		ready = append(ready, v1.Replica{Rank: i, Address: strings.TrimPrefix(server.URL, "http://"), Ready: true})
	}
	h.store.put(t, writer(ready...))
	g, err := gateway.New(gateway.Options{
		Store: h.store, Metrics: h.metrics, Limits: limits, Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Verify: func(_ context.Context, key string) (store.Credential, error) {
			if cred, ok := h.keys[key]; ok {
				return cred, nil
			}
			return store.Credential{}, &penstock.Error{Code: penstock.Unauthenticated, Msg: "unknown key"}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stop := context.AfterFunc(r.Context(), func() { close(h.left(r.Header.Get("Traceparent"))) })
		defer stop()
		g.ServeHTTP(w, r)
	}))
	h.url = front.URL
	// In this order: the clients' connections, the gateway, its connections.
	t.Cleanup(func() { h.client.CloseIdleConnections(); front.Close(); g.Close() })
	return h
}

func writer(replicas ...v1.Replica) v1.Endpoint {
	return v1.Endpoint{
		Kind: penstock.KindEndpoint, Metadata: v1.Metadata{Project: "vision", Name: "writer", UID: "uid-writer"},
		Status: v1.EndpointStatus{Version: "sha256:aa", Replicas: replicas},
	}
}

// send posts a body with the key and gives the response, whose body the test's
// end closes.
func (h *house) send(t testing.TB, ctx context.Context, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// model is a replica that generates max_tokens tokens and keeps an own count, by
// the request's id.
type model struct {
	mu        sync.Mutex
	generated map[string][2]int64 // prompt and completion tokens
	headers   []http.Header
	step      func(r *http.Request, n int) // before each token, if not nil
}

func (m *model) count(id string, prompt, completion int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generated == nil {
		m.generated = map[string][2]int64{}
	}
	m.generated[id] = [2]int64{prompt, completion}
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Max    int  `json:"max_tokens"`
		Stream bool `json:"stream"`
		Usage  struct {
			Include bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.Header.Get("X-Request-Id")
	m.mu.Lock()
	m.headers = append(m.headers, r.Header.Clone())
	m.mu.Unlock()
	w.Header().Set("Penstock-Prompt-Tokens", "7")
	if in.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
		say(w, `{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)
	}
	made := 0
	for ; made < in.Max && r.Context().Err() == nil; made++ {
		if m.step != nil {
			m.step(r, made)
		}
		m.count(id, 7, int64(made)+1)
		if in.Stream {
			say(w, fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":"é%d"},"finish_reason":null}]}`, made))
		}
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":7,"completion_tokens":%d,"total_tokens":%d}`, made, made+7)
	if !in.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}],%s}`, usage)
		return
	}
	say(w, `{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`)
	if in.Usage.Include {
		say(w, `{"choices":[],`+usage+`}`)
	}
	say(w, "[DONE]")
}

// say writes one event and sends it off.
func say(w http.ResponseWriter, data string) {
	fmt.Fprintf(w, "data: %s\n\n", data)
	_ = http.NewResponseController(w).Flush()
}

// raw answers every request with the same bytes, in pieces of size n, and then
// resets the connection if so told.
type raw struct {
	kind, body string
	encoding   string
	piece      int
	end        ending
	status     int
	calls      *atomicInt
}

type ending int

const (
	closed ending = iota
	reset
)

type atomicInt struct {
	mu sync.Mutex
	n  int
}

func (a *atomicInt) add() {
	if a != nil {
		a.mu.Lock()
		a.n++
		a.mu.Unlock()
	}
}

func (a *atomicInt) load() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

func (s raw) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.add()
	w.Header().Set("Content-Type", s.kind)
	if s.encoding != "" {
		w.Header().Set("Content-Encoding", s.encoding)
	}
	if s.end == reset {
		w.Header().Set("Content-Length", "1000000") // it will never come
	}
	w.WriteHeader(max(s.status, 200))
	for rest := s.body; rest != ""; {
		n := min(len(rest), max(1, s.piece))
		_, _ = w.Write([]byte(rest[:n]))
		_ = http.NewResponseController(w).Flush()
		rest = rest[n:]
	}
	if s.end == reset {
		panic(http.ErrAbortHandler)
	}
}

// events makes a stream of the data of each event.
func events(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return b.String()
}

const (
	begins  = `{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`
	hello   = `{"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}`
	stops   = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	used    = `{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}`
	done    = "[DONE]"
	chatUse = "/v1/chat/completions"
)
