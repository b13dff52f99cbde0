// Command start measures how soon and how light a dev server is: the time from
// the start of the process to its first good answer, its resident memory after
// three seconds at rest, and the size of the program. It starts the server five
// times on a fresh data folder and five times on one that is there already.
//
//	go run ./bench/start
//
// It takes bin/penstock where that was built, else it builds one aside. The last
// line is one JSON object with the worst of each; the exit status is 1 if one of
// them is over the limit: 1000 ms, 80 MB.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/penstock/penstock/api/v1/client"
)

const (
	starts   = 5
	rest     = 3 * time.Second
	limitMS  = 1000
	limitMB  = 80
	patience = 20 * time.Second
)

// figures are what is measured; MB are 10^6 bytes.
type figures struct {
	ReadyMS  int64   `json:"ready_ms"`
	RSSMB    float64 `json:"rss_mb"`
	BinaryMB float64 `json:"binary_mb"`
}

func main() {
	worst, err := measure(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
	line, err := json.Marshal(worst)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
	fmt.Printf("%s\n", line)
	if worst.ReadyMS >= limitMS || worst.RSSMB >= limitMB {
		os.Exit(1)
	}
}

func measure(ctx context.Context) (worst figures, err error) {
	dir, err := os.MkdirTemp("", "penstock-start-")
	if err != nil {
		return worst, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := find(ctx, dir)
	if err != nil {
		return worst, err
	}
	info, err := os.Stat(program)
	if err != nil {
		return worst, err
	}
	worst.BinaryMB = megabytes(info.Size())
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "data\tready ms\trss MB\t")
	for i := range 2 * starts {
		what, data := "fresh", filepath.Join(dir, "data"+strconv.Itoa(i))
		if i >= starts {
			what, data = "existing", filepath.Join(dir, "data0")
		}
		f, err := start(ctx, program, dir, data)
		if err != nil {
			return worst, err
		}
		fmt.Fprintf(table, "%s\t%d\t%.1f\t\n", what, f.ReadyMS, f.RSSMB)
		worst.ReadyMS, worst.RSSMB = max(worst.ReadyMS, f.ReadyMS), max(worst.RSSMB, f.RSSMB)
	}
	fmt.Fprintf(table, "worst\t%d\t%.1f\t\nlimit\t%d\t%d\t\n", worst.ReadyMS, worst.RSSMB, limitMS, limitMB)
	return worst, table.Flush()
}

// find gives the program that was built, or builds it and its agent in dir.
func find(ctx context.Context, dir string) (string, error) {
	built, err := filepath.Abs(filepath.Join("bin", "penstock"))
	if err != nil {
		return "", err
	}
	_, err = os.Stat(built)
	if err == nil {
		return built, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir,
		"github.com/penstock/penstock/cmd/penstock", "github.com/penstock/penstock/cmd/penstock-agent")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return filepath.Join(dir, "penstock"), build.Run()
}

// start runs one server on the data folder and ends it again.
func start(ctx context.Context, program, dir, data string) (f figures, err error) {
	reach := filepath.Join(dir, "context.json")
	if err := os.RemoveAll(reach); err != nil { // else the last server would be asked
		return f, err
	}
	server := exec.CommandContext(ctx, program, "dev", "--listen", "127.0.0.1:0", "--data", data)
	server.Env = append(os.Environ(), "PENSTOCK_CONTEXT="+reach)
	var said strings.Builder
	server.Stderr = &said
	began := time.Now()
	if err := server.Start(); err != nil {
		return f, err
	}
	defer func() {
		err = errors.Join(err, server.Process.Signal(syscall.SIGTERM), server.Wait())
		if err != nil {
			err = fmt.Errorf("%w; the server said:\n%s", err, said.String())
		}
	}()
	if err := ready(ctx, reach, began); err != nil {
		return f, err
	}
	f.ReadyMS = time.Since(began).Milliseconds()
	time.Sleep(rest) // what is measured is the memory at rest
	resident, err := rss(server.Process.Pid)
	f.RSSMB = megabytes(resident)
	return f, err
}

// ready asks until the server answers.
func ready(ctx context.Context, reach string, began time.Time) error {
	for ; ; time.Sleep(time.Millisecond) { // polls: the server is another process
		var c client.Client
		text, err := os.ReadFile(reach)
		if err == nil {
			var at struct{ Server, Token string }
			if err = json.Unmarshal(text, &at); err == nil {
				c.Base, c.Token = at.Server, at.Token
				_, err = c.Whoami(ctx)
			}
		}
		if err == nil {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("the server wasn't ready within %s: %w", patience, err)
		}
	}
}

// rss is the resident memory of a process in bytes: see proc_pid_status(5).
func rss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(size), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc has no VmRSS of the server")
}

func megabytes(n int64) float64 { return float64(n/1e4) / 100 }
