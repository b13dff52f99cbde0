// Command penstock-llama serves one GGUF model with llama.cpp, over the part of
// the OpenAI API that penstock's gateway speaks: models, completions and chat
// completions, whole or streamed. It is the serving runtime "llama", and the
// only program of Penstock that loads native libraries (without cgo; libffi.so.8
// must be installed).
//
//	penstock-llama --model tiny.gguf --addr 127.0.0.1:8080
//
// As a task of Penstock it needs no arguments: it listens on 127.0.0.1 and
// PENSTOCK_PORT and serves the one *.gguf of PENSTOCK_MODELS/model.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/penstock/penstock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, os.Args[1:], os.Getenv, log); err != nil {
		fmt.Fprintln(os.Stderr, "penstock-llama: "+err.Error())
		var e *penstock.Error
		if errors.As(err, &e) && e.Hint != "" {
			fmt.Fprintln(os.Stderr, "  "+e.Hint)
		}
		stop()
		os.Exit(max(1, penstock.InfoOf(err).Exit))
	}
}

// flags are the command line's.
type flags struct {
	config
	addr, file, name string
	grace            time.Duration
}

func parseFlags(args []string, getenv func(string) string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("penstock-llama", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.Libraries, "lib", getenv("PENSTOCK_LLAMA_LIB"), "folder of the llama.cpp libraries")
	set.StringVar(&f.Model, "model", "", "GGUF file")
	set.StringVar(&f.file, "file", "", "GGUF file, relative to PENSTOCK_MODELS/model; else the only one there")
	set.StringVar(&f.name, "name", "", "what /v1/models calls the model; else the file's name")
	set.StringVar(&f.addr, "addr", "", "host:port to listen on; else 127.0.0.1 and PENSTOCK_PORT")
	set.IntVar(&f.Context, "context", 0, "tokens of one request, prompt and answer; 0 is what the model was trained with")
	set.IntVar(&f.Slots, "slots", 4, "requests decoded together")
	set.IntVar(&f.Queue, "queue", 64, "requests that wait for a slot")
	// Go's own number heeds the limits of a cgroup. More threads than CPUs would
	// spin while they wait for each other.
	set.IntVar(&f.Threads, "threads", runtime.GOMAXPROCS(0), "threads that compute")
	set.DurationVar(&f.grace, "grace", 25*time.Second, "time for running requests to end after SIGTERM")
	if err := set.Parse(args); err != nil {
		return f, &penstock.Error{Code: penstock.Invalid, Msg: err.Error(), Hint: usageText(set)}
	}
	if set.NArg() > 0 || f.Context < 0 || f.Slots < 1 || f.Slots > 64 || f.Queue < 0 || f.Threads < 1 {
		return f, &penstock.Error{
			Code: penstock.Invalid, Msg: "no arguments besides flags; context and queue are 0 or more, slots 1 to 64, threads 1 or more",
			Hint: usageText(set),
		}
	}
	return f, nil
}

func usageText(set *flag.FlagSet) string {
	var b strings.Builder
	set.VisitAll(func(f *flag.Flag) { fmt.Fprintf(&b, "--%s  %s\n  ", f.Name, f.Usage) })
	return strings.TrimSpace(b.String())
}

// run serves until ctx ends, then lets running requests finish within the grace.
func run(ctx context.Context, args []string, getenv func(string) string, log *slog.Logger) error {
	f, err := parseFlags(args, getenv)
	if err != nil {
		return err
	}
	if f.Libraries, err = findLibraries(f.Libraries); err != nil {
		return err
	}
	if f.Model, err = findModel(f, getenv("PENSTOCK_MODELS")); err != nil {
		return err
	}
	if f.addr == "" {
		port := getenv("PENSTOCK_PORT")
		if port == "" {
			return &penstock.Error{Code: penstock.Invalid, Msg: "there is no address to listen on", Hint: "give --addr or set PENSTOCK_PORT"}
		}
		f.addr = net.JoinHostPort("127.0.0.1", port)
	}
	if f.name == "" {
		f.name = strings.TrimSuffix(filepath.Base(f.Model), ".gguf")
	}
	e, err := open(f.config)
	if err != nil {
		return err
	}
	defer e.Close()
	listener, err := net.Listen("tcp", f.addr)
	if err != nil {
		return &penstock.Error{Code: penstock.Busy, Msg: "can't listen", Where: f.addr, Err: err, Hint: "choose another --addr"}
	}
	log.Info("serving", "addr", listener.Addr().String(), "model", f.Model, "context", e.context, "slots", f.Slots, "threads", f.Threads)
	return listen(ctx, listener, &server{engine: e, model: f.name, log: log}, f.grace)
}

func listen(ctx context.Context, l net.Listener, s *server, grace time.Duration) error {
	web := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.log.Info("draining", "grace", grace)
	ending, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := web.Shutdown(ending); err != nil {
		s.log.Warn("requests were cut off", "after", grace)
		return web.Close()
	}
	return nil
}

// findModel is the file to serve: --model, or --file or the only *.gguf in the
// version that was staged.
func findModel(f flags, models string) (string, error) {
	if f.Model != "" {
		return f.Model, nil
	}
	if models == "" {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: "there is no model to serve", Hint: "give --model, or set PENSTOCK_MODELS to a folder with model/*.gguf in it"}
	}
	folder := filepath.Join(models, "model")
	if f.file != "" {
		if !filepath.IsLocal(f.file) {
			return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("--file %.80q leads out of the model's folder", f.file), Hint: "give a path relative to " + folder}
		}
		return filepath.Join(folder, f.file), nil
	}
	found, err := filepath.Glob(filepath.Join(folder, "*.gguf"))
	if err != nil || len(found) != 1 {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("there are %d *.gguf files; one is needed", len(found)), Where: folder, Hint: "name one with --file", Err: err}
	}
	return found[0], nil
}
