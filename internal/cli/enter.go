package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

func (s *session) execCommand() *cobra.Command {
	var o client.ExecOptions
	var stdin, tty bool
	c := &cobra.Command{
		Use: "exec [flags] JOB -- COMMAND [ARG...]", Short: "Run a command beside a job's running task",
		Long: `Exec runs a command where a task of the job runs, and ends with the command's exit status.
The command ends when you leave. Its arguments are in the audit log: give secrets as input, with -i.`,
		Example: "  penstock exec train -- nvidia-smi\n  penstock exec train --rank 3 -it -- bash\n  penstock exec train -i -- tar xf - < fix.tar",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.parseRef(args[0], penstock.KindJob)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			o.Command, o.Out, o.Err = args[1:], s.Out, s.Err
			if stdin {
				o.In = s.In
			}
			if tty {
				return s.execTerminal(cmd.Context(), c, ref, o)
			}
			return exitOf(c.Exec(cmd.Context(), ref, o))
		},
	}
	f := c.Flags()
	f.BoolVarP(&stdin, "stdin", "i", false, "give it the standard input")
	f.BoolVarP(&tty, "tty", "t", false, "give it this terminal")
	taskFlags(c, &o.Rank, &o.Attempt)
	return c
}

// taskFlags say which task of a job is meant.
func taskFlags(c *cobra.Command, rank, attempt *int) {
	c.Flags().IntVar(rank, "rank", 0, "which task of the gang")
	c.Flags().IntVar(attempt, "attempt", 0, "which attempt (default: the newest)")
}

// exitOf ends with the status of a command that has run.
func exitOf(status int, err error) error {
	if err != nil || status == 0 {
		return err
	}
	return &exitError{status}
}

// execTerminal runs a command on the caller's terminal. With input it gets each
// key as it is pressed, Ctrl-C too, and shows it itself.
func (s *session) execTerminal(ctx context.Context, c *client.Client, ref penstock.Ref, o client.ExecOptions) error {
	out, ok := s.Out.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return noTerminal("output")
	}
	if o.In != nil {
		in, ok := s.In.(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return noTerminal("input")
		}
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("take over the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }() // there is nobody left to tell
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	o.Sizes = sizes(ctx, int(out.Fd()))
	return exitOf(c.Exec(ctx, ref, o))
}

func noTerminal(what string) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: "the standard " + what + " is not a terminal", Hint: "leave -t out"}
}

// sizes are those that a terminal has, now and after each change, until ctx ends.
func sizes(ctx context.Context, fd int) <-chan v1.TerminalSize {
	changed, sizes := make(chan os.Signal, 1), make(chan v1.TerminalSize)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer signal.Stop(changed)
		for {
			if width, height, err := term.GetSize(fd); err == nil {
				select {
				case sizes <- v1.TerminalSize{Columns: uint16(width), Rows: uint16(height)}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sizes
}

func (s *session) portForwardCommand() *cobra.Command {
	var o client.ForwardOptions
	c := &cobra.Command{
		Use: "port-forward [flags] JOB [LOCAL:]PORT...", Short: "Reach ports of a job's running task from this machine",
		Long: `Port-forward listens on 127.0.0.1 and connects whoever calls there to a port of the task.
It prints each local address with the task's port, and goes on until it is interrupted. LOCAL is the same as
PORT if it is left out; 0 takes any free one.`,
		Example: "  penstock port-forward train 6006\n  penstock port-forward train --rank 1 0:8265 9000:9000",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.parseRef(args[0], penstock.KindJob)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			if _, err := c.Get(cmd.Context(), ref); err != nil {
				return err
			}
			return s.portForward(cmd.Context(), c, ref, o, args[1:])
		},
	}
	taskFlags(c, &o.Rank, &o.Attempt)
	return c
}

// portForward listens on all ports, or on none, until ctx ends.
func (s *session) portForward(ctx context.Context, c *client.Client, ref penstock.Ref, o client.ForwardOptions, pairs []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ways := make([]way, 0, len(pairs))
	defer func() {
		for _, w := range ways {
			_ = w.Close()
		}
	}()
	for _, pair := range pairs {
		w, err := listenFor(ctx, pair)
		if err != nil {
			return err
		}
		ways = append(ways, w)
	}
	failed := make(chan error, len(ways))
	for _, w := range ways {
		fmt.Fprintf(s.Out, "%s\t%d\n", w.Addr(), w.port)
		to := o
		to.Port = w.port
		go func() {
			failed <- w.serve(func(near *net.TCPConn) {
				if err := carry(ctx, c, ref, to, near); err != nil && ctx.Err() == nil {
					showError(s.Err, err)
				}
			})
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// way is a local port that leads to one of a task.
type way struct {
	net.Listener
	port int
}

// listenFor opens the local side of [LOCAL:]PORT.
func listenFor(ctx context.Context, pair string) (way, error) {
	local, remote, two := strings.Cut(pair, ":")
	if !two {
		remote = local
	}
	from, err := strconv.ParseUint(local, 10, 16)
	to, bad := strconv.ParseUint(remote, 10, 16)
	if err != nil || bad != nil || to == 0 {
		return way{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.40q is not [LOCAL:]PORT", pair), Hint: "write 8080, 9000:8080, or 0:8080 for any free local port"}
	}
	address := net.JoinHostPort("127.0.0.1", strconv.FormatUint(from, 10))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return way{}, &penstock.Error{Code: penstock.Busy, Msg: address + " is taken by another program", Hint: fmt.Sprintf("write 0:%d for any free one", to)}
	case err != nil:
		return way{}, &penstock.Error{Code: penstock.Invalid, Msg: "can't listen on " + address, Err: err}
	}
	return way{l, int(to)}, nil
}

// serve gives each connection to fn.
func (w way) serve(fn func(*net.TCPConn)) error {
	for {
		conn, err := w.Accept()
		if err != nil {
			return fmt.Errorf("accept on %s: %w", w.Addr(), err)
		}
		go fn(conn.(*net.TCPConn))
	}
}

// carry connects one caller to the task's port. One that breaks is reset for the
// caller, too.
func carry(ctx context.Context, c *client.Client, ref penstock.Ref, o client.ForwardOptions, near *net.TCPConn) error {
	defer near.Close()
	far, err := c.Forward(ctx, ref, o)
	if err != nil {
		_ = near.SetLinger(0)
		return err
	}
	defer far.Close()
	var broken error // what broke first, unless that was the caller here
	var first sync.Once
	var going sync.WaitGroup
	going.Go(func() {
		if _, err := io.Copy(far, near); err != nil {
			first.Do(func() {})
			_ = far.Close()
			return
		}
		_ = far.CloseWrite() // the other direction sees who is gone
	})
	if _, err := io.Copy(near, far); err != nil {
		first.Do(func() { broken = err })
		_ = near.SetLinger(0)
		_ = near.Close()
	} else {
		_ = near.CloseWrite() // as above
	}
	going.Wait()
	if broken == nil {
		return nil
	}
	return &penstock.Error{Code: penstock.Unavailable, Where: ref.String(), Msg: fmt.Sprintf("a connection to port %d broke off", o.Port), Err: broken}
}
