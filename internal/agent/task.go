package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/agent/cgroup"
)

const (
	// maxProcesses bounds the processes and threads of one task: far more than
	// any trainer has, few enough for the machine to survive a fork bomb.
	maxProcesses = 16384
	// killTime is how long the agent tries to kill what is left of a task.
	killTime = 10 * time.Second
	reapTime = 5 * time.Second
)

// self is the command that stands for the agent's own program.
const self = "penstock-agent"

// task is a command that was started.
type task struct {
	order  v1.Order
	cmd    *exec.Cmd
	kin    kin
	group  *cgroup.Group // nil without limits
	limits string        // how the limits are held
	log    *logWriter

	ended  chan struct{} // closed when the command has ended
	piped  chan struct{} // closed when all that it wrote is in the log
	output *os.File
}

// start starts the command of an order. What it needs to be killed by somebody
// else is in the folder before it runs.
func start(f Folder, agent Identity, order v1.Order, p places, log *logWriter) (*task, error) {
	t := &task{order: order, log: log, ended: make(chan struct{}), piped: make(chan struct{})}
	t.kin = kin{agent: agent, mark: markOf(order)}
	var err error
	if t.cmd, err = command(f, order, environment(order, p)); err != nil {
		return nil, err
	}
	if p.given != nil {
		t.limits = "by the engine"
		return t, t.launch(f, nil)
	}
	group, why := cgroup.Create(cgroup.Root, path.Join(string(order.Attempt), strconv.Itoa(order.Rank)), cgroup.Limits{
		Memory: int64(order.Resources[penstock.Memory]), CPU: int64(order.Resources[penstock.CPU]), Processes: maxProcesses,
	})
	if why == nil {
		err = t.launch(f, group)
		if err == nil {
			return t, nil
		}
		why = err
		if clear := cgroup.Clear(group.Dirs()); clear != nil {
			return nil, clear
		}
		// A command can be started once only: this one may still be, outside.
		if t.cmd, err = command(f, order, environment(order, p)); err != nil {
			return nil, err
		}
	}
	t.limits = "none: " + why.Error()
	return t, t.launch(f, nil)
}

// command is the command of an order, ready to be started.
func command(f Folder, order v1.Order, env map[string]string) (*exec.Cmd, error) {
	if len(order.Command) == 0 {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the task has no command"}
	}
	dir := f.path(workFolder)
	var program string
	var err error
	if order.Command[0] == self {
		program, err = os.Executable()
	} else {
		program, err = findCommand(order.Command[0], dir, env["PATH"])
	}
	if err != nil {
		return nil, err
	}
	env["PWD"] = dir
	return &exec.Cmd{
		Path: program, Args: order.Command, Dir: dir, Env: lines(env),
		// The kernel kills the command if the agent dies (prctl(2),
		// PR_SET_PDEATHSIG); the executor looks for what that leaves.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	}, nil
}

// launch starts the command, in a group or, with nil, without one.
func (t *task) launch(f Folder, group *cgroup.Group) error {
	state := running{Mark: t.kin.mark}
	run := t.cmd.Start
	if group != nil {
		t.group, t.limits, state.Groups = group, group.String(), group.Dirs()
		run = func() error { return group.Start(t.cmd) }
	}
	if err := f.writeJSON(taskFile, state); err != nil {
		return err
	}
	output, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	t.cmd.Stdout, t.cmd.Stderr, t.output = input, input, output
	started := make(chan error, 1)
	go t.hold(run, started)
	err = <-started
	_ = input.Close()
	if err != nil {
		t.group = nil
		_ = output.Close()
		return &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("the command %s could not be started", t.cmd.Path), Err: err,
			Hint: "see whether the file is a program for this machine, and what its first line (#!) asks for",
		}
	}
	go func() {
		defer close(t.piped)
		_, _ = io.Copy(t.log, output) // the log takes everything
	}()
	return nil
}

// hold starts the command and waits for it, all on one thread that nothing else
// runs on: the kernel takes the end of the thread that started a process for the
// death of its parent.
func (t *task) hold(run func() error, started chan<- error) {
	runtime.LockOSThread() // for good: the thread ends with this goroutine
	err := run()
	started <- err
	if err != nil {
		return
	}
	_ = t.cmd.Wait() // how it ended is in ProcessState
	close(t.ended)
}

// await waits until the command has ended, and passes on what it is told.
func (t *task) await(ctx context.Context, stop *stopper) {
	reap := time.NewTicker(reapTime)
	defer reap.Stop()
	asked := stop.asked
	for {
		select {
		case <-t.ended:
			return
		case <-asked:
			asked = nil
			_ = unix.Kill(-t.cmd.Process.Pid, unix.SIGTERM) // it may have ended by itself
		case <-stop.over:
			t.killAll()
			return
		case <-ctx.Done():
			t.killAll()
			return
		case <-reap.C:
			reapOrphans(t.cmd.Process.Pid)
		}
	}
}

func (t *task) killAll() {
	// Either may have ended by itself; the command may have left its group.
	_ = unix.Kill(-t.cmd.Process.Pid, unix.SIGKILL)
	_ = t.cmd.Process.Kill()
	<-t.ended
}

// finish ends what the command left running, and tells how it all ended.
func (t *task) finish() v1.Exited {
	leftover, err := t.kin.living()
	if err == nil && len(leftover) > 0 {
		t.log.note("the command ended and left %d processes behind: they are killed", len(leftover))
		err = t.kin.kill(killTime)
	}
	if err != nil {
		t.log.note("%s", err)
	}
	reapOrphans(0)
	select {
	case <-t.piped:
	case <-time.After(time.Second): // somebody outside the task holds the pipe
	}
	_ = t.output.Close()
	e := t.exit()
	t.addUsage(&e)
	return e
}

// exit tells how the command itself ended. A signal's code is 128 and its
// number, as a shell has it.
func (t *task) exit() v1.Exited {
	status := t.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return v1.Exited{Code: 128 + int(status.Signal()), Signal: unix.SignalName(status.Signal())}
	}
	return v1.Exited{Code: status.ExitStatus()}
}

// addUsage tells what the task took: as its control group counted, or else the
// time of all its processes that were waited for and the largest of them.
func (t *task) addUsage(e *v1.Exited) {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &used) == nil {
		e.CPUTime = v1.Duration(used.Utime.Nano() + used.Stime.Nano())
		e.MaxBytes = used.Maxrss << 10
	}
	if t.group == nil {
		return
	}
	counted, err := t.group.Usage()
	if err == nil {
		e.CPUTime, e.MaxBytes = v1.Duration(counted.CPU), counted.MaxBytes
		if limit := t.order.Resources[penstock.Memory]; counted.OOMKills > 0 && e.Code != 0 {
			e.OverMemory = true
			e.Message = fmt.Sprintf("killed by the kernel: it wanted more than its memory of %s; ask for more in resources.memory", penstock.Memory.Format(limit))
		}
	}
	if err := cgroup.Clear(t.group.Dirs()); err != nil {
		t.log.note("%s", err)
	}
}
