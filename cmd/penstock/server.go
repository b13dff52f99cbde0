package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/config"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/secret"
	"github.com/penstock/penstock/internal/serve/gateway"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/telemetry"
	"github.com/penstock/penstock/internal/webui"
)

// server is everything that runs in one process, wired from its adapters.
type server struct {
	config  config.Config
	log     *slog.Logger
	folder  *folder
	store   store.Store
	blobs   blobStore
	control *control.Control
	api     *httpapi.Server
	gateway *gateway.Gateway
	page    http.Handler
	metrics *prometheus.Registry
	// watching are the executors that watch their cluster until they are closed.
	watching []interface{ Close() }
	// kicked is control, once executors may wake it.
	kicked atomic.Pointer[control.Control]
}

// newServer opens the data folder and wires what works on it. Nothing listens
// and nothing runs yet.
func newServer(ctx context.Context, c config.Config, log *slog.Logger) (*server, error) {
	s := &server{config: c, log: log}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) open(ctx context.Context) error {
	var err error
	if s.folder, err = openFolder(s.config.DataDir); err != nil {
		return err
	}
	if s.store, err = s.openStore(ctx); err != nil {
		return err
	}
	if s.blobs, err = s.openBlobs(ctx); err != nil {
		return err
	}
	box, err := secret.Load(s.secretDir())
	if err != nil {
		return err
	}
	executors, err := s.openExecutors()
	if err != nil {
		return err
	}
	contact, err := s.contact()
	if err != nil {
		return err
	}
	programs, env := runtimes()
	s.control = control.New(control.Options{
		Store: s.store, Blobs: s.blobs, Sealer: box, Executors: executors, Server: contact,
		Runtimes: programs, RuntimeEnv: env, Log: s.log, Tick: time.Duration(s.config.Tick),
		Replica: s.config.Replica, Sole: !s.shared(), // the data folder's lock keeps other servers out
	})
	s.kicked.Store(s.control)
	s.api = httpapi.New(httpapi.Options{
		Store: s.store, Blobs: s.blobs, Control: s.control, Executors: executors, Log: s.log, Version: version(), Currency: s.config.Currency,
		MaxBody: int64(s.config.Limits.Body), MaxObjects: s.config.Limits.Objects,
	})
	if s.page, err = webui.New(webui.Options{
		Store: s.store, Control: s.control, Verifier: s.api.Verifier(), Journal: s.api.Journal(), Executors: executors, Log: s.log, Version: version(), Currency: s.config.Currency,
	}); err != nil {
		return err
	}
	if s.metrics, err = telemetry.NewRegistry(telemetry.Build{Version: version()}); err != nil {
		return err
	}
	if err := s.metrics.Register(s.leader()); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	s.gateway, err = gateway.New(gateway.Options{Store: s.store, Verify: s.verifyKey, Log: s.log, Metrics: s.metrics, Shared: s.shared()})
	return err
}

// leader tells Prometheus which of several servers makes the passes.
func (s *server) leader() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "penstock_leader", Help: "Whether this server leads: it alone plans, starts and stops work. 0 or 1.",
	}, func() float64 {
		if s.control.Leading() {
			return 1
		}
		return 0
	})
}

// program finds one of Penstock's own programs: beside this one, or on PATH.
func program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", &penstock.Error{Code: penstock.NotFound, Msg: "there is no program " + name, Hint: "install it beside penstock; 'make build' builds all of them", Err: err}
	}
	return found, nil
}

// runtimes are the serving runtimes of this installation. One that isn't there
// is missed only by who serves with it.
func runtimes() (programs, env map[string]string) {
	programs, env = map[string]string{}, map[string]string{}
	llama, err := program("penstock-llama")
	if err != nil {
		return programs, env
	}
	programs["penstock-llama"] = llama
	for _, dir := range []string{os.Getenv("PENSTOCK_LLAMA_LIB"), filepath.Join(filepath.Dir(llama), "..", ".build", "llama", "lib"), filepath.Join(filepath.Dir(llama), "lib")} {
		if _, err := os.Stat(filepath.Join(dir, "libllama.so")); dir != "" && err == nil {
			if dir, err = filepath.Abs(dir); err == nil {
				env["PENSTOCK_LLAMA_LIB"] = dir
				break
			}
		}
	}
	return programs, env
}

// verifyKey finds the credential of a gateway key.
func (s *server) verifyKey(ctx context.Context, key string) (store.Credential, error) {
	p, err := s.api.Verifier().Verify(ctx, key)
	if err != nil {
		return store.Credential{}, err
	}
	if p.Use != store.Gateway {
		return store.Credential{}, &penstock.Error{Code: penstock.Unauthenticated, Msg: "this is not a gateway key", Hint: "make one with 'penstock token create NAME --key'"}
	}
	return store.Credential{ID: p.CredentialID, Use: p.Use, Subject: p.Subject, Project: p.Project, Endpoints: p.Endpoints, Limit: p.Limit, Rate: p.Rate}, nil
}

// handler joins the surfaces under one address. The gateway is among them
// unless it has an address of its own.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", s.api.Handler())
	if s.config.Gateway.Listen == "" {
		mux.Handle("/v1/", s.gateway)
	}
	mux.Handle("/", s.page)
	mux.Handle("GET /metrics", s.guarded(promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})))
	return mux
}

// guarded lets only viewers of the installation through.
func (s *server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.api.Allow(r, auth.Get, penstock.KindPool); err != nil {
			s.api.Refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// listen opens the address, with a clear word when it is taken.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &penstock.Error{Code: penstock.Busy, Msg: address + " is taken by another program", Hint: "name another with --listen, or port 0 for any free one"}
	case err != nil:
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "can't listen on " + address, Err: err}
	}
	return l, nil
}

// begin takes the address and the data folder, tells agents where the server
// is, and makes sure of its pool. What it took it gives back when it fails.
func begin(ctx context.Context, c config.Config, log *slog.Logger) (*server, net.Listener, string, error) {
	l, err := listen(ctx, c.Listen)
	if err != nil {
		return nil, nil, "", err
	}
	s, err := newServer(ctx, c, log)
	if err != nil {
		return nil, nil, "", errors.Join(err, l.Close())
	}
	url := "http://" + l.Addr().String()
	if c.TLS.Cert != "" {
		url = "https://" + l.Addr().String()
	}
	err = s.folder.publish(url + "/api")
	if err == nil {
		err = s.discoverPool(ctx)
	}
	if err != nil {
		return nil, nil, "", errors.Join(err, l.Close(), s.close())
	}
	return s, l, url, nil
}

// serve runs the loops and the HTTP server until ctx ends, then lets calls in
// flight finish and gives the lead back. Running work is not touched: its agents
// wait for the next server.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	if err := s.sweep(ctx); err != nil {
		return err
	}
	servers := []*http.Server{s.httpServer(ctx, s.handler())}
	listeners := []net.Listener{l}
	if address := s.config.Gateway.Listen; address != "" {
		own, err := listen(ctx, address)
		if err != nil {
			return err
		}
		servers, listeners = append(servers, s.httpServer(ctx, s.gateway)), append(listeners, own)
	}
	looping, stop := context.WithCancel(ctx)
	defer stop()
	looped := make(chan error, 1)
	go func() { looped <- s.control.Run(looping) }()
	failed := make(chan error, len(servers))
	for i, h := range servers {
		go func() { failed <- s.accept(h, listeners[i]) }()
	}
	if s.shared() {
		go s.sweepNow(ctx)
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		err = nil
	}
	stop()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	for _, h := range servers {
		if h.Shutdown(last) != nil {
			_ = h.Close() // streams that don't end by themselves are cut
		}
	}
	select {
	case <-looped: // that the lead was lost on the way out is no error
	case <-last.Done():
	}
	return err
}

// lastTime is what calls in flight, and the lead's return, have at the end.
const lastTime = 5 * time.Second

// sweep settles what gateways left open that died.
func (s *server) sweep(ctx context.Context) error {
	swept, err := s.gateway.Sweep(ctx)
	if err != nil {
		return fmt.Errorf("settle requests of the last run: %w", err)
	}
	if swept > 0 {
		s.log.Warn("requests of a server that died were settled with estimates", "count", swept)
	}
	return nil
}

// sweepNow sweeps now and then: among several servers nobody starts when one of
// them dies.
func (s *server) sweepNow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Minute):
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("sweep", "error", err)
		}
	}
}

func (s *server) httpServer(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
}

func (s *server) accept(h *http.Server, l net.Listener) error {
	if s.config.TLS.Cert != "" {
		return h.ServeTLS(l, s.config.TLS.Cert, s.config.TLS.Key)
	}
	return h.Serve(l)
}

func (s *server) close() error {
	var errs []error
	if s.gateway != nil {
		s.gateway.Close()
	}
	if s.api != nil {
		s.api.Close()
	}
	for _, e := range s.watching {
		e.Close()
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.close())
	}
	return errors.Join(errs...)
}
