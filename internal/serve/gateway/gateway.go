// Package gateway answers the OpenAI API in front of every endpoint: it knows
// the caller by its key, chooses a ready replica, passes bytes on unchanged, and
// writes down exactly how many tokens each request used.
//
// A request is reserved in the ledger, with the most that it can use, before it
// goes anywhere, and settled exactly once with what it did use before its answer
// ends. What is billed is what the upstream generated, whoever ended the
// request; the ledger says who did (outcome) and how the count is known (source).
//
// Until the first content of an answer has been passed on, another replica may
// be tried; after it, never: the client would see two beginnings.
package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Verify gives the credential that a key stands for, or Unauthenticated where it
// is unknown, expired, revoked or not for the gateway.
type Verify func(ctx context.Context, key string) (store.Credential, error)

// Options are what a Gateway is made from. All but Limits must be given.
type Options struct {
	Store   store.Store
	Verify  Verify
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Limits  Limits
	// Shared says that other gateways use the same store.
	Shared bool
}

// Limits bound what one request can take. A zero field takes its default.
type Limits struct {
	Body   int64 // bytes of a request; default 8 MiB
	Answer int64 // bytes of an answer that isn't streamed; default 32 MiB
	// Attempts is how many replicas are tried for one request. Default 3.
	Attempts int
	// MaxTokens is how many tokens are generated at most for a key with a token
	// limit, where neither the request nor the endpoint bounds them. Default 4096.
	MaxTokens int64
	// Drain bounds how long an upstream goes on after its client has left, so
	// that its own count of tokens can still arrive.
	Drain Drain
	// FirstContent is the time to a stream's first content; default 5 minutes.
	// Idle is the time between two of its events; default 1 minute.
	FirstContent, Idle time.Duration
	// Whole is the time for an answer that isn't streamed. Default 15 minutes.
	Whole time.Duration
	// Write is how long a client may take to accept one write. Default 30 s.
	Write time.Duration
	// Read is how long a client may take to send its body. Default 30 s.
	Read time.Duration
}

// Drain ends at whichever bound is met first.
type Drain struct {
	Events int           // default 64
	Bytes  int64         // default 256 KiB
	Time   time.Duration // default 2 s
}

func (l Limits) orDefaults() Limits {
	set(&l.Body, 8<<20)
	set(&l.Answer, 32<<20)
	set(&l.Attempts, 3)
	set(&l.MaxTokens, 4096)
	set(&l.Drain.Events, 64)
	set(&l.Drain.Bytes, 256<<10)
	set(&l.Drain.Time, 2*time.Second)
	set(&l.FirstContent, 5*time.Minute)
	set(&l.Idle, time.Minute)
	set(&l.Whole, 15*time.Minute)
	set(&l.Write, 30*time.Second)
	set(&l.Read, 30*time.Second)
	return l
}

func set[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

// Gateway is an http.Handler for GET /v1/models, POST /v1/completions and POST
// /v1/chat/completions.
type Gateway struct {
	store     store.Store
	verify    Verify
	log       *slog.Logger
	limits    Limits
	born      time.Time
	shared    bool
	ledger    *batcher
	table     *table
	rates     *rates
	metrics   *metrics
	transport *http.Transport
	mux       *http.ServeMux
}

// New makes a Gateway and registers its metrics. Close releases its idle
// connections; call Sweep before the first request.
func New(o Options) (*Gateway, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		store: o.Store, verify: o.Verify, log: o.Log, limits: o.Limits.orDefaults(), born: time.Now().UTC(), shared: o.Shared,
		ledger: &batcher{store: o.Store}, table: newTable(o.Store), rates: newRates(), metrics: m, transport: newTransport(), mux: http.NewServeMux(),
	}
	g.mux.HandleFunc("GET /v1/models", g.models)
	g.mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, completions) })
	g.mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, chat) })
	g.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := g.caller(r); err != nil {
			g.refuse(w, err)
			return
		}
		g.refuse(w, &penstock.Error{Code: penstock.NotFound, Msg: "there is no " + r.Method + " " + r.URL.Path, Hint: "use /v1/models, /v1/completions or /v1/chat/completions"})
	})
	return g, nil
}

// newTransport is tuned for many streams to few hosts: the default of two idle
// connections to a host would use up the ports. Nothing is compressed, since
// usage is read from what passes. Connections are given up before the 5 s after
// which common Python servers close them, so that no request meets a closing one.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               nil, // replicas are addressed directly, whatever the environment says
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:        0, // no limit over all hosts; the next line bounds each
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     4 * time.Second,
		DisableCompression:  true,
		ReadBufferSize:      16 << 10,
		WriteBufferSize:     16 << 10,
	}
}

// Close releases idle connections to replicas.
func (g *Gateway) Close() { g.transport.CloseIdleConnections() }

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// caller is whose key the request shows.
func (g *Gateway) caller(r *http.Request) (store.Credential, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	key = strings.TrimSpace(key)
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return store.Credential{}, &penstock.Error{Code: penstock.Unauthenticated, Msg: "no key was sent", Hint: "send Authorization: Bearer and a gateway key"}
	}
	cred, err := g.verify(r.Context(), key)
	if err != nil {
		return store.Credential{}, err
	}
	if cred.Use != store.Gateway {
		return store.Credential{}, &penstock.Error{Code: penstock.Unauthenticated, Msg: "this token doesn't open the gateway", Hint: "send a gateway key"}
	}
	return cred, nil
}

// models lists the endpoints that the key opens.
func (g *Gateway) models(w http.ResponseWriter, r *http.Request) {
	cred, err := g.caller(r)
	if err != nil {
		g.refuse(w, err)
		return
	}
	endpoints, err := g.table.visible(r.Context(), cred)
	if err != nil {
		g.refuse(w, err)
		return
	}
	type entry struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		Owner   string `json:"owned_by"`
	}
	list := struct {
		Object string  `json:"object"`
		Data   []entry `json:"data"`
	}{"list", []entry{}}
	for _, e := range endpoints {
		list.Data = append(list.Data, entry{e.model(), "model", e.created.Unix(), e.project})
	}
	writeJSON(w, http.StatusOK, list)
}
