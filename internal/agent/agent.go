// Package agent is what penstock-agent does for one task of an attempt: it
// stages data, starts the command, keeps its checkpoints and outputs, and
// reports all of it to the server, whatever happens to either of them.
//
// The order of a task is: stage, start, watch, collect, report. Reports go
// through a spool on disk and arrive once each, in order, even when the server
// is away for hours; the agent leaves once its last report, Exited, was taken.
// If a newer attempt has taken over, the server says so, and the agent kills its
// task and leaves.
//
// Nothing of a task outlives it: the command dies with its agent (the kernel
// sees to that), what the command left behind is killed at its end, and if the
// agent itself is killed, the executor finds the rest (Folder.Sweep).
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

const (
	heartbeat = 10 * time.Second
	poll      = 200 * time.Millisecond
	// patience bounds how long the agent waits for the server: before a task
	// starts, and after it has ended.
	patience = 24 * time.Hour
	// gateTime is how long an agent waits to be let in.
	gateTime  = time.Minute
	gatePause = 5 * time.Millisecond
)

// Options are what an agent is started with.
type Options struct {
	// Dir is the task's folder with its order.
	Dir Folder
	// Gate is a file that must be there before the task begins: the executor
	// makes it when the whole gang stands. Empty is no gate.
	Gate string
	// Cache is the folder of blobs that the machine's tasks share.
	Cache string
	// Signals are SIGTERM and SIGINT, caught from the start of the program on.
	Signals <-chan os.Signal
	// Remote is how the order is got from the server; nil is an order that stands
	// in Dir.
	Remote *Remote
	// Feed makes the handler that hands out samples of the data in dataDir. nil
	// is an agent that can't.
	Feed func(order v1.Order, dataDir string) (http.Handler, error)
}

// agent is the state of one run.
type agent struct {
	options Options
	id      Identity
	order   v1.Order
	root    *os.Root
	client  *client
	spool   *spool
	log     *logWriter
	stop    *stopper
	grace   atomic.Int64 // the order's, in ns
}

// Run does everything for one task and returns once the server has its last
// report, or disowned the attempt, or was away for a day. It may be called once
// in the life of a program, and does its work once in the life of a folder.
func Run(ctx context.Context, o Options) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	// What the task orphans becomes a child of the agent, so that it can be found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	a, unlock, err := enter(ctx, o)
	if err != nil {
		return err
	}
	defer unlock()
	defer a.root.Close()

	delivered := make(chan error, 1)
	go func() {
		err := a.spool.deliver(ctx, a.client)
		if err != nil {
			leave(err)
		}
		delivered <- err
	}()
	go a.beat(ctx)
	err = a.whole(ctx)
	leave(err)
	<-delivered
	return errors.Join(err, a.spool.close(), o.Dir.left(err))
}

// left notes why the agent leaves, and removes what nobody needs any more.
func (f Folder) left(err error) error {
	f.clean()
	why := "it delivered its last report"
	if err != nil {
		why = err.Error()
	}
	return f.write(leftFile, []byte(why+"\n"))
}

// enter takes the folder for this agent alone, waits for the gate, and reads the
// order.
func enter(ctx context.Context, o Options) (*agent, func(), error) {
	lock, err := os.OpenFile(o.Dir.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open task folder: %w", err)
	}
	unlock := func() { _ = lock.Close() }
	a, err := begin(ctx, lock, o)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return a, unlock, nil
}

func begin(ctx context.Context, lock *os.File, o Options) (*agent, error) {
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, &penstock.Error{Code: penstock.Busy, Msg: "another agent has the task folder", Err: err}
	}
	if o.Dir.has(begunFile) {
		return nil, &penstock.Error{Code: penstock.Conflict, Msg: "the task was run before, and a task runs once"}
	}
	a := &agent{options: o}
	a.stop = listen(ctx, o.Signals, func() time.Duration { return o.Dir.grace(v1.Duration(a.grace.Load())) })
	var err error
	if a.id, err = Identify(os.Getpid()); err != nil {
		return nil, err
	}
	if err := o.Dir.writeJSON(agentFile, a.id); err != nil {
		return nil, err
	}
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	a.grace.Store(int64(a.order.Grace))
	if err := o.awaitGate(ctx, a.stop); err != nil {
		return nil, err
	}
	if err := o.Dir.write(begunFile, nil); err != nil {
		return nil, err
	}
	// Nothing at rest holds the token from here on.
	if err := os.Remove(o.Dir.path(orderFile)); err != nil && o.Remote == nil {
		return nil, fmt.Errorf("remove order: %w", err)
	}
	return a, a.open()
}

// take reads the order, or asks the server for it.
func (a *agent) take(ctx context.Context) error {
	remote := a.options.Remote
	if remote == nil {
		if err := a.options.Dir.read(orderFile, &a.order); err != nil {
			return err
		}
		var err error
		a.client, err = newClient(a.order.Server)
		return err
	}
	c, err := newClient(remote.Contact)
	if err != nil {
		return err
	}
	ctx, cancel := until(ctx, a.stop.asked, errStopped)
	defer cancel()
	a.client = c
	a.order, err = remote.fetch(ctx, c)
	return err
}

// awaitGate waits for the gate. Once that is there, the task counts as started,
// and being stopped is for it to report.
func (o Options) awaitGate(ctx context.Context, stop *stopper) error {
	if o.Gate == "" {
		return nil
	}
	deadline := time.After(gateTime)
	asked := false
	for {
		if _, err := os.Stat(o.Gate); err == nil {
			return nil
		}
		if asked {
			return &penstock.Error{Code: penstock.Canceled, Msg: "stopped before the gang stood"}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stop.asked:
			asked = true
		case <-deadline:
			return &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("the gang did not stand within %s", gateTime)}
		case <-time.After(gatePause):
		}
	}
}

func (a *agent) open() error {
	f := a.options.Dir
	var err error
	if a.root, err = os.OpenRoot(string(f)); err != nil {
		return fmt.Errorf("open task folder: %w", err)
	}
	if a.log, err = newLogWriter(f.path(logFolder), logFileBytes); err != nil {
		return err
	}
	if a.spool, err = newSpool(f.path(spoolFile), a.order.Rank, time.Now); err != nil {
		return err
	}
	if a.options.Remote != nil {
		a.log.echo = a.options.Remote.Echo
	}
	return nil
}

// beat tells the server that the agent lives, where nothing else does.
func (a *agent) beat(ctx context.Context) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if a.spool.waiting() == 0 {
				_ = a.spool.add(v1.Report{}) // an empty report can be encoded
			}
		}
	}
}

// whole is the life of the task. It returns nil once Exited was taken, and else
// why the agent gave up.
func (a *agent) whole(ctx context.Context) error {
	exited := a.task(ctx)
	if err := a.log.close(); err != nil {
		exited.Message = join(exited.Message, "the log was not kept whole: "+err.Error())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := a.spool.add(v1.Report{Exited: &exited}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	if !a.spool.drained(ctx) {
		return context.Cause(ctx)
	}
	return nil
}

var (
	errPatience = &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("the server was away for %s", patience)}
	errStopped  = &penstock.Error{Code: penstock.Canceled, Msg: "the task was stopped"}
)

// task stages, starts, watches and collects, and tells how it ended.
func (a *agent) task(ctx context.Context) v1.Exited {
	places, err := a.stage(ctx)
	if err != nil {
		return unstarted(err)
	}
	if a.order.Feed != nil {
		socket, stop, err := a.feed()
		if err != nil {
			return unstarted(err)
		}
		defer stop()
		places.feed = socket
	}
	var k *keeper
	if a.order.Checkpoints {
		if k, err = newKeeper(a.root, a.client, a.spool, a.log); err != nil {
			return unstarted(err)
		}
	}
	if a.options.Remote != nil {
		places.given = a.options.Remote.inherited()
	}
	t, err := start(a.options.Dir, a.id, a.order, places, a.log)
	if err != nil {
		return unstarted(err)
	}
	started := v1.Started{PID: t.cmd.Process.Pid, Limits: t.limits}
	if a.options.Remote != nil {
		started.Node = a.options.Remote.Node
	}
	_ = a.spool.add(v1.Report{Started: &started}) // can be encoded
	return a.watch(ctx, t, k, places.port)
}

// unstarted is the end of a task whose command never ran.
func unstarted(err error) v1.Exited {
	message := err.Error()
	var e *penstock.Error
	if errors.As(err, &e) && e.Hint != "" {
		message += "; " + e.Hint
	}
	return v1.Exited{Code: -1, StartFailed: true, Message: message}
}

// stage prepares the folder. Being asked to stop ends it.
func (a *agent) stage(ctx context.Context) (places, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	ctx, cancelStop := until(ctx, a.stop.asked, errStopped)
	defer cancelStop()
	s := stager{root: a.root, order: a.order, cache: cache{dir: a.options.Cache, client: a.client}}
	if s.cache.dir == "" {
		s.cache.dir = a.options.Dir.path("cache")
	}
	p := places{folder: a.options.Dir}
	if err := s.prepare(ctx); err != nil {
		return p, err
	}
	if err := a.options.Remote.meet(ctx); err != nil {
		return p, err
	}
	if ctx.Err() != nil {
		return p, context.Cause(ctx)
	}
	var err error
	if a.order.Serve != nil {
		p.port, err = freePort()
	}
	return p, err
}

func (a *agent) feed() (socket string, stop func(), err error) {
	if a.options.Feed == nil {
		return "", nil, &penstock.Error{Code: penstock.Unsupported, Msg: "this agent can't hand out samples"}
	}
	if err := checkElement(a.order.Feed.Data); err != nil {
		return "", nil, err
	}
	handler, err := a.options.Feed(a.order, filepath.Join(a.options.Dir.path(dataFolder), a.order.Feed.Data))
	if err != nil {
		return "", nil, fmt.Errorf("open feed of %s: %w", a.order.Feed.Data, err)
	}
	return serveFeed(a.options.Dir, handler)
}

// watch follows the running command to its end, and stores what it made.
func (a *agent) watch(ctx context.Context, t *task, k *keeper, port int) v1.Exited {
	// What is to be stored may take until the grace is over, and a day at most
	// after the end.
	storing, stopStoring := until(ctx, a.stop.over, errStopped)
	defer stopStoring()
	watching, stopWatching := context.WithCancel(ctx)
	metrics := &tailer{path: a.options.Dir.path(metricFile), spool: a.spool, log: a.log, now: time.Now}
	var watchers, store errgroup.Group
	watchers.Go(func() error { return every(watching, poll, metrics.poll) })
	if k != nil {
		store.Go(func() error { k.store(storing); return nil })
		watchers.Go(func() error { return every(watching, poll, func() error { return k.scan(storing, whileTraining) }) })
	}
	if a.order.Serve != nil {
		watchers.Go(func() error { a.ready(watching, port); return nil })
	}
	t.await(ctx, a.stop)
	exited := t.finish()
	end := time.AfterFunc(patience, stopStoring)
	defer end.Stop()

	stopWatching()
	err := errors.Join(watchers.Wait(), metrics.finish())
	if k != nil {
		err = errors.Join(err, k.scan(storing, afterTraining))
		close(k.queue)
		_ = store.Wait() // it tells of its errors itself
	}
	if err != nil {
		a.log.note("%s", err)
	}
	if exited.Code == 0 {
		a.collect(storing, &exited)
	}
	return exited
}

// every calls do until ctx ends.
func every(ctx context.Context, pause time.Duration, do func() error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if err := do(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *agent) ready(ctx context.Context, port int) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if awaitReady(ctx, address, a.order.Serve.Ready) {
		_ = a.spool.add(v1.Report{Ready: &v1.Ready{Address: address}}) // can be encoded
	}
}

// collect stores the outputs of a command that succeeded. If that can't be done,
// the task has failed.
func (a *agent) collect(ctx context.Context, exited *v1.Exited) {
	for _, name := range a.order.Outputs {
		out, err := collect(ctx, a.client, a.root, name)
		if err == nil {
			err = a.spool.add(v1.Report{Output: &out})
		}
		if err != nil {
			failed := unstarted(err)
			exited.Code, exited.Message = 1, join(exited.Message, failed.Message)
			a.log.note("%s", failed.Message)
			return
		}
	}
}

func join(first, second string) string {
	if first == "" {
		return second
	}
	return first + "; " + second
}
