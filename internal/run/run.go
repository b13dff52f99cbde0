// Package run is the port to the engines that run work. Adapters: local
// (processes of this machine, each under its agent), kubernetes and slurm; the
// suite in runtest holds for each of them.
//
// An Executor only starts, stops and looks. What happens inside a task is told
// by its agent, over the server's API (see v1.Report); the Executor's word
// counts where the agent can't speak any more, because it was killed or its
// machine is gone.
package run

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Executor runs attempts on one pool's machines. All methods may be called from
// many goroutines, may be repeated at any time, and must be after a restart of
// the server: they are idempotent.
type Executor interface {
	// Start makes the gang run: one agent for each order, in rank order, with
	// MasterAddr and MasterPort filled in (an agent on another machine asks the
	// server for the rest of its order, see v1.Order). Starting an attempt that was started
	// before, even if it has ended since, changes nothing. An error means that
	// nothing of the gang is left running by this call.
	Start(ctx context.Context, gang []v1.Order) error

	// Stop asks every task of the attempt to end: SIGTERM, and SIGKILL after
	// grace. It returns at once. Stopping again with a shorter grace shortens it.
	Stop(ctx context.Context, attempt penstock.UID, grace time.Duration) error

	// Observe tells the state of every task that was started and not forgotten.
	Observe(ctx context.Context) ([]Observation, error)

	// Forget removes what is kept of an attempt: folders, logs, accounting. It
	// refuses with Busy while a task of it runs.
	Forget(ctx context.Context, attempt penstock.UID) error

	// Logs reads what a task wrote to stdout and stderr, in order. With Follow
	// the reader goes on until the task has ended. The caller closes.
	Logs(ctx context.Context, attempt penstock.UID, rank int, opts LogOptions) (io.ReadCloser, error)

	// Nodes discovers the machines and their devices.
	Nodes(ctx context.Context) ([]v1.Node, error)
}

// LogOptions choose what of a log is read.
type LogOptions struct {
	Follow bool
	Tail   int // the last lines only; 0 is all
}

// State is what an Executor can see of a task.
type State string

// A task is pending while its engine has it but no agent runs yet: it waits for
// the site's scheduler, or an image. It runs while its agent lives. It is gone
// when the agent ended: after it delivered its last report, or because
// something killed it. Everything that the task started is dead before a task is
// seen as Gone.
const (
	Pending State = "pending"
	Running State = "running"
	Gone    State = "gone"
)

// Observation is the state of one task.
type Observation struct {
	Attempt penstock.UID
	Rank    int
	State   State
	// Detail says what a pending task waits for, or what is known of the end, for
	// people.
	Detail string
	// Node is where the task is, if the site's scheduler chose that.
	Node string
}

// Entrant is an Executor whose running tasks can be entered.
type Entrant interface {
	// Exec runs a command beside the task, where that runs, until it has ended or
	// ctx has. A command that ended otherwise than with 0 gives an Exit.
	Exec(ctx context.Context, attempt penstock.UID, rank int, command []string, s Streams) error

	// Dial connects to a TCP port of the task, as if from where it runs. The
	// caller closes; the end of ctx does, too. What it gives may have a method
	// CloseWrite() error, which ends the direction to the task alone.
	Dial(ctx context.Context, attempt penstock.UID, rank, port int) (io.ReadWriteCloser, error)
}

// Streams are the ends of a command. A nil one is not connected.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Sizes makes the streams a terminal, of the sizes that come. Err is not used
	// then: a terminal has one output.
	Sizes <-chan Size
}

// Size is that of a terminal, in characters.
type Size struct{ Columns, Rows uint16 }

// Exit is how a command ended that didn't succeed.
type Exit int

// Error says with which code.
func (e Exit) Error() string { return fmt.Sprintf("the command ended with exit code %d", int(e)) }
