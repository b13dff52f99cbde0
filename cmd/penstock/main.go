// Command penstock is the control plane and its command line: 'penstock dev' and
// 'penstock serve' run a server, everything else talks to one.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"github.com/penstock/penstock/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	e := cli.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: version()}
	if e.Terminal = term.IsTerminal(int(os.Stdout.Fd())); e.Terminal {
		e.Width, _, _ = term.GetSize(int(os.Stdout.Fd())) // 0 is: don't cut
	}
	status := cli.Run(ctx, cli.New(e, devCommand(e), serveCommand(e), storeCommand(e), healthCommand()), os.Args[1:], os.Stderr)
	stop()
	os.Exit(status)
}

// version is the release, or the commit that was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && info.Main.Version == "(devel)" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}
