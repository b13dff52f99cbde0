// Command tour takes one model all the way, as its user would: data, training
// that survives a killed worker, registry, gate, serving, cost, drift,
// retraining, and leaving. What it does, it does with the penstock command line;
// the typed client only looks. Each step checks its numbers, and the first that
// isn't right ends the tour with status 1. At the end stands a report on one page.
//
//	DEMO_FAST=1   trains 80 steps and sends fewer requests
//	DEMO_KEEP=1   leaves the server running, with everything in it
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/term"
)

func main() {
	root := flag.String("root", ".", "the repository, with the programs in bin/")
	out := flag.String("out", filepath.Join(".build", "demo"), "folder for data, logs and the report; it is emptied first")
	flag.Parse()
	o := options{Root: *root, Dir: *out, Out: os.Stdout, Pace: full, After: stop}
	// A bar needs to know how wide it may be.
	columns, _, err := term.GetSize(int(os.Stdout.Fd()))
	o.Terminal = err == nil && columns > 0
	if os.Getenv("DEMO_FAST") != "" {
		o.Pace = fast
	}
	if os.Getenv("DEMO_KEEP") != "" {
		o.After = keep
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = run(ctx, o)
	cancel()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ntour: %s\n", err)
		os.Exit(1)
	}
}
