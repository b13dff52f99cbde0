// Command store measures both adapters of the state store in one run, on one
// disk, each with the settings of production: every commit is synced.
//
//	go run ./bench/store
//
// Submissions are Updates of 8 clients, each with one job, its event and the
// audit entry of its call. Claims are Updates of 8 workers that each take the
// oldest queued job, change its phase and say so in an event. The list is read
// in pages of 200, of 100,000 jobs of 20 projects, through several filters.
//
// PostgreSQL is the one installed here, started for this run alone, with the
// settings it comes with. CPU seconds are those of this process and, for
// PostgreSQL, of its server. The last line is one JSON object; list_ms is the
// median of all pages, and list_p99_ms what one page in a hundred takes at least.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// options say how much is measured.
type options struct {
	Jobs int           // in the list
	For  time.Duration // of submissions, then of claims
}

// figures are what is measured of an adapter. Rates are per second of wall time.
type figures struct {
	SubmitPerS float64 `json:"submit_per_s"`
	ClaimPerS  float64 `json:"claim_per_s"`
	ListMS     float64 `json:"list_ms"`
	ListP99MS  float64 `json:"list_p99_ms"`
}

func main() {
	var o options
	flag.IntVar(&o.Jobs, "jobs", 100_000, "how many jobs there are in the list")
	flag.DurationVar(&o.For, "for", 8*time.Second, "how long submissions are measured, then claims")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	folder, err := os.MkdirTemp("", "penstock-store-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	sync, err := syncTime(folder)
	if err != nil {
		return err
	}
	fmt.Printf("%d CPUs, load %s, one sync of the disk takes %.2f ms\n", runtime.NumCPU(), load(), sync.Seconds()*1e3)
	embedded, err := ofSQLite(ctx, o, filepath.Join(folder, "state.db"))
	if err != nil {
		return fmt.Errorf("measure sqlite: %w", err)
	}
	server, err := ofPostgres(ctx, o)
	if err != nil {
		return fmt.Errorf("measure postgres: %w", err)
	}
	line, err := json.Marshal(map[string]figures{"sqlite": embedded, "postgres": server})
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", line)
	return nil
}

func ofSQLite(ctx context.Context, o options, path string) (f figures, err error) {
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return measure(ctx, o, "sqlite", s, meter{})
}

func ofPostgres(ctx context.Context, o options) (f figures, err error) {
	server, err := pgtest.Open(ctx, "fsync=on", "full_page_writes=on", "max_connections=100")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	name, err := server.Create(ctx)
	if err != nil {
		return f, err
	}
	s, err := postgres.Open(ctx, postgres.Options{URL: server.URL(name)})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return measure(ctx, o, "postgres", s, meter{server: server.PID()})
}

// measure measures one adapter and prints its table.
func measure(ctx context.Context, o options, name string, s store.Store, m meter) (f figures, err error) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\tn\twall s\tCPU s\tper s\tp50 ms\tp99 ms\tload\t\n", name)
	row := func(what string, u use, took []time.Duration) float64 {
		rate := float64(len(took)) / u.wall.Seconds()
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%.0f\t%.2f\t%.2f\t%s\t\n",
			what, len(took), u.wall.Seconds(), u.cpu.Seconds(), rate, quantile(took, 0.5), quantile(took, 0.99), load())
		return rate
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, store.Store, time.Duration) ([]time.Duration, error)
		rate *float64
	}{{"submit", submit, &f.SubmitPerS}, {"claim", claim, &f.ClaimPerS}} {
		began := m.read()
		took, err := step.do(ctx, s, o.For)
		if err != nil {
			return f, fmt.Errorf("%s: %w", step.what, err)
		}
		*step.rate = round(row(step.what, m.read().since(began), took))
	}
	began := m.read()
	took, err := fill(ctx, s, o.Jobs)
	if err != nil {
		return f, fmt.Errorf("fill: %w", err)
	}
	row("fill, 500 each", m.read().since(began), took)
	var all []time.Duration
	for _, q := range queries() {
		began := m.read()
		took, err := pages(ctx, s, q.Query)
		if err != nil {
			return f, fmt.Errorf("list: %w", err)
		}
		row("list by "+q.name, m.read().since(began), took)
		all = append(all, took...)
	}
	f.ListMS, f.ListP99MS = round(quantile(all, 0.5)), round(quantile(all, 0.99))
	return f, table.Flush()
}

// load is the load average of the last minute: what else the machine was doing.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
