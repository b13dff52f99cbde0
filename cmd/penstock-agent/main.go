// Command penstock-agent sits next to every task, on every executor. It is
// started by the executor with the task's private folder, and does what package
// agent says. It is also the program behind the commands that Penstock itself
// runs as jobs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/dataset"
	"github.com/penstock/penstock/internal/feed"
)

const usage = `usage:
  penstock-agent run --dir DIR [--gate FILE] [--cache DIR]   run the task whose order is in DIR
  penstock-agent run --dir DIR --contact FILE --rank N --master HOST:PORT [--first N] [--local-rank N] [--node NAME] [--cache DIR]
                                                             run that task of the attempt whose server is in FILE
  penstock-agent stop --dir DIR --grace TIME                 ask the task to end: SIGTERM now, SIGKILL after TIME
  penstock-agent sweep --dir DIR                             kill what a task left whose agent is gone
  penstock-agent prepare                                     make a dataset's version; a job, started by Penstock
  penstock-agent install DIR                                 copy this program into DIR, for an init container
  penstock-agent version                                     say which build this is
`

func main() {
	// Before anything else: an executor may stop a task at any moment.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// dispatch runs one subcommand and gives the program's exit status.
func dispatch(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "run":
		return run(args[1:], stderr, signals)
	case "stop":
		return stop(args[1:], stderr)
	case "sweep":
		return sweep(args[1:], stderr)
	case "prepare":
		return prepare(args[1:], stdout, stderr, signals)
	case "install":
		if len(args) != 2 {
			fmt.Fprint(stderr, "penstock-agent: install needs one folder\n"+usage)
			return 2
		}
		return status(install(args[1]), stderr)
	case "version":
		fmt.Fprintln(stdout, version())
		return 0
	}
	fmt.Fprintf(stderr, "penstock-agent: there is no command %q\n%s", args[0], usage)
	return 2
}

func run(args []string, stderr io.Writer, signals <-chan os.Signal) int {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "the task's private folder")
	gate := flags.String("gate", "", "a file that must be there before the task begins")
	cache := flags.String("cache", "", "the folder of blobs that this machine's tasks share")
	asked := remoteFlags(flags)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *dir == "" || flags.NArg() > 0 {
		fmt.Fprint(stderr, "penstock-agent: run needs --dir and nothing else\n"+usage)
		return 2
	}
	remote, err := asked()
	if err != nil {
		return status(err, stderr)
	}
	return status(agent.Run(context.Background(), agent.Options{
		Dir: agent.Folder(*dir), Gate: *gate, Cache: *cache, Signals: signals, Remote: remote, Feed: feed.Handler,
	}), stderr)
}

// remoteFlags are how an engine says which task of which attempt this is. What
// it gives is nil for a task whose order stands in its folder.
func remoteFlags(flags *flag.FlagSet) func() (*agent.Remote, error) {
	contact := flags.String("contact", "", "a file that tells how to reach the server")
	rank := flags.Int("rank", 0, "the task's rank, counted from --first")
	first := flags.Int("first", 0, "the rank of the first task of its set")
	local := flags.Int("local-rank", 0, "how many tasks of lower rank share this machine")
	node := flags.String("node", "", "the name of this machine, where the engine chose it")
	master := flags.String("master", "", "HOST:PORT of rank 0")
	return func() (*agent.Remote, error) {
		if *contact == "" {
			return nil, nil
		}
		host, text, err := net.SplitHostPort(*master)
		if err != nil {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("--master %q is not HOST:PORT", *master), Err: err}
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("--master %q is not HOST:PORT", *master), Err: err}
		}
		c, err := agent.ReadContact(*contact)
		return &agent.Remote{
			Contact: c, Rank: *first + *rank, LocalRank: *local, Node: *node, MasterAddr: host, MasterPort: port, Echo: os.Stdout,
		}, err
	}
}

// sweep ends what is left of a task on this machine, for an engine that can't
// see to it itself.
func sweep(args []string, stderr io.Writer) int {
	if len(args) != 2 || args[0] != "--dir" {
		fmt.Fprint(stderr, "penstock-agent: sweep needs --dir and nothing else\n"+usage)
		return 2
	}
	return status(agent.Folder(args[1]).Sweep(), stderr)
}

// stop tells the agent that has the folder how long its task has: an engine can
// send a signal only.
func stop(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("stop", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "the task's private folder")
	grace := flags.Duration("grace", -1, "the time from SIGTERM to SIGKILL")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *dir == "" || *grace < 0 || flags.NArg() > 0 {
		fmt.Fprint(stderr, "penstock-agent: stop needs --dir and --grace and nothing else\n"+usage)
		return 2
	}
	return status(agent.Folder(*dir).Stop(*grace), stderr)
}

// prepare is the job that makes a dataset's version. A signal ends it.
func prepare(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return status(dataset.Main(ctx, args, stdout), stderr)
}

// status tells of err, with what can be done about it, and gives the program's
// exit status.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "penstock-agent: %s\n", err)
	var e *penstock.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(stderr, "  %s\n", e.Hint)
	}
	return 1
}

// version is the module's version and the commit that the program was built of.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}
