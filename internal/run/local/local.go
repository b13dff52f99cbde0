// Package local runs attempts as processes of this machine, each under its own
// penstock-agent, which lives in a session of its own and so survives the
// server.
//
// All state is in the executor's folder, one folder for each attempt and in it
// one for each rank. A gang starts in two steps: first every agent takes its
// folder and waits; then the file "started" appears, and all of them begin. So
// there is one moment before which nothing of the gang ran, and after which it
// has been started, wherever the server is killed.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
)

const (
	startedFile = "started"     // every agent of the gang may begin
	portFile    = "master-port" // the attempt's MASTER_PORT
	cacheFolder = "cache"
	dropPrefix  = ".forgotten-"
	// beginTime is how long a new agent may take to report for work.
	beginTime  = 20 * time.Second
	beginPause = 2 * time.Millisecond
)

// Options say where an Executor works.
type Options struct {
	// Dir is the executor's own folder.
	Dir string
	// AgentPath is the penstock-agent program.
	AgentPath string
	// Node is the name of this machine; empty is its host name.
	Node string
}

// Executor is a run.Executor.
type Executor struct {
	dir, agent, node string

	mu       sync.Mutex // one Start or Forget at a time
	stopping sync.Mutex // one Stop at a time
}

var _ run.Executor = (*Executor)(nil)

// New makes an Executor of the folder Options.Dir, also of one that another
// server left behind.
func New(o Options) (*Executor, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find executor folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, cacheFolder), 0o700); err != nil {
		return nil, fmt.Errorf("make executor folder: %w", err)
	}
	if info, err := os.Stat(o.AgentPath); err != nil || info.Mode()&0o111 == 0 {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("there is no program penstock-agent at %q", o.AgentPath), Err: err,
			Hint: "install penstock-agent next to penstock, or say where it is",
		}
	}
	agentPath, err := filepath.Abs(o.AgentPath)
	if err != nil {
		return nil, fmt.Errorf("find penstock-agent: %w", err)
	}
	e := &Executor{dir: dir, agent: agentPath, node: o.Node}
	if e.node == "" {
		if e.node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("read host name: %w", err)
		}
	}
	return e, nil
}

// attemptDir is the folder of an attempt. A UID comes from the server's own
// records, but it becomes a path: anything else is refused.
func (e *Executor) attemptDir(attempt penstock.UID) (string, error) {
	name := string(attempt)
	if name == "" || name == cacheFolder || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the uid of an attempt", name)}
	}
	return filepath.Join(e.dir, name), nil
}

func rankFolder(dir string, rank int) agent.Folder {
	return agent.Folder(filepath.Join(dir, strconv.Itoa(rank)))
}

// ranks lists the ranks that have a folder, in order.
func ranks(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	var out []int
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil && entry.IsDir() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

func started(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, startedFile))
	return err == nil
}

// Start implements run.Executor.
func (e *Executor) Start(ctx context.Context, gang []v1.Order) error {
	if len(gang) == 0 {
		return &penstock.Error{Code: penstock.Invalid, Msg: "a gang has one task at least"}
	}
	dir, err := e.attemptDir(gang[0].Attempt)
	if err != nil {
		return err
	}
	if err := refuseImages(gang); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if started(dir) {
		return nil
	}
	err = e.gather(ctx, dir, gang)
	if err == nil {
		err = touch(filepath.Join(dir, startedFile))
	}
	if err != nil {
		return errors.Join(err, e.disband(dir))
	}
	return nil
}

// refuseImages: a process of this machine has this machine's programs, and
// nobody shall take them for those of an image.
func refuseImages(gang []v1.Order) error {
	for _, order := range gang {
		if order.Image != "" {
			return &penstock.Error{
				Code: penstock.Unsupported, Msg: fmt.Sprintf("task set %s wants the image %.80s, and local processes have none", order.Set, order.Image),
				Hint: "leave image out, or set pool to one of a cluster",
			}
		}
	}
	return nil
}

// gather brings every agent of the gang to its gate. What an interrupted Start
// has done already is kept.
func (e *Executor) gather(ctx context.Context, dir string, gang []v1.Order) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make attempt folder: %w", err)
	}
	port, err := masterPort(dir)
	if err != nil {
		return err
	}
	var folders []agent.Folder
	for _, order := range gang {
		order.MasterAddr, order.MasterPort = "127.0.0.1", port
		f := rankFolder(dir, order.Rank)
		if err := f.Write(order); err != nil {
			return err
		}
		folders = append(folders, f)
	}
	exits := make([]<-chan struct{}, len(folders))
	for i, f := range folders {
		if exits[i], err = e.ensure(dir, f); err != nil {
			return err
		}
	}
	for i, f := range folders {
		if err := arrival(ctx, f, exits[i]); err != nil {
			return fmt.Errorf("start rank %d: %w", gang[i].Rank, err)
		}
	}
	return nil
}

// masterPort is a port that was free when the attempt was first started.
func masterPort(dir string) (int, error) {
	path := filepath.Join(dir, portFile)
	if b, err := os.ReadFile(path); err == nil {
		if port, err := strconv.Atoi(string(b)); err == nil {
			return port, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, errors.Join(l.Close(), os.WriteFile(path, []byte(strconv.Itoa(port)), 0o600))
}

// ensure starts an agent in the folder unless one is there. The channel is
// closed when the new agent ends.
func (e *Executor) ensure(dir string, f agent.Folder) (<-chan struct{}, error) {
	if sight, _ := f.Look(); sight != agent.Waiting {
		return nil, nil
	}
	output, err := f.Output()
	if err != nil {
		return nil, fmt.Errorf("open agent log: %w", err)
	}
	defer output.Close()
	cmd := exec.Command(e.agent, "run", "--dir", string(f), "--gate", filepath.Join(dir, startedFile), "--cache", filepath.Join(e.dir, cacheFolder))
	cmd.Dir = string(f)
	// The server's environment may hold secrets of its own.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Msg: "an agent could not be started", Err: err, Hint: "check " + e.agent}
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its folder
		close(ended)
	}()
	return ended, nil
}

// arrival waits until the agent of a folder is at its gate.
func arrival(ctx context.Context, f agent.Folder, ended <-chan struct{}) error {
	deadline := time.After(beginTime)
	for {
		if sight, _ := f.Look(); sight == agent.Alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			if f.Held() {
				// One that a killed server had started was quicker: it will do.
				ended = nil
				continue
			}
			return &penstock.Error{Code: penstock.Unavailable, Msg: "its agent ended at once: " + f.Complaint()}
		case <-deadline:
			return &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("its agent did not report for work within %s: %s", beginTime, f.Complaint())}
		case <-time.After(beginPause):
		}
	}
}

// disband ends a gang that doesn't stand, so that it can be started anew.
func (e *Executor) disband(dir string) error {
	all, err := ranks(dir)
	errs := []error{err}
	for _, rank := range all {
		errs = append(errs, rankFolder(dir, rank).Kill())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return e.drop(dir)
}

// drop removes an attempt's folder. It has gone under its name before the first
// file of it goes, so that half of it is never seen.
func (e *Executor) drop(dir string) error {
	gone := filepath.Join(e.dir, dropPrefix+filepath.Base(dir))
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attempt folder: %w", err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove attempt folder: %w", err)
	}
	return nil
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark attempt as started: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return errors.Join(fmt.Errorf("mark attempt as started: %w", err), f.Close())
	}
	return errors.Join(f.Sync(), f.Close(), dir.Sync(), dir.Close())
}

// Stop implements run.Executor.
func (e *Executor) Stop(_ context.Context, attempt penstock.UID, grace time.Duration) error {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return err
	}
	e.stopping.Lock()
	defer e.stopping.Unlock()
	all, err := ranks(dir)
	errs := []error{err}
	for _, rank := range all {
		errs = append(errs, rankFolder(dir, rank).Stop(grace))
	}
	return errors.Join(errs...)
}

// Observe implements run.Executor.
func (e *Executor) Observe(ctx context.Context) ([]run.Observation, error) {
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	var out []run.Observation
	for _, entry := range entries {
		dir, err := e.attemptDir(penstock.UID(entry.Name()))
		if err != nil || !entry.IsDir() || !started(dir) {
			continue
		}
		all, err := ranks(dir)
		if err != nil {
			return nil, err
		}
		for _, rank := range all {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			state, detail := observe(rankFolder(dir, rank))
			out = append(out, run.Observation{Attempt: penstock.UID(entry.Name()), Rank: rank, State: state, Detail: detail})
		}
	}
	return out, nil
}

// observe looks at one task of a gang that was started. What an agent that is
// gone left running dies first.
func observe(f agent.Folder) (run.State, string) {
	sight, detail := f.Look()
	if sight == agent.Alive {
		return run.Running, ""
	}
	if sight == agent.Waiting {
		detail = strings.TrimSpace("the agent was gone before it began. " + f.Complaint())
	}
	if err := f.Sweep(); err != nil {
		return run.Running, "its agent is gone, but " + err.Error()
	}
	return run.Gone, detail
}

// Forget implements run.Executor.
func (e *Executor) Forget(_ context.Context, attempt penstock.UID) error {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all, err := ranks(dir)
	if err != nil {
		return err
	}
	for _, rank := range all {
		if state, _ := observe(rankFolder(dir, rank)); state == run.Running {
			return &penstock.Error{
				Code: penstock.Busy, Msg: fmt.Sprintf("rank %d of attempt %s still runs", rank, attempt),
				Hint: "stop it, and wait until it is gone",
			}
		}
	}
	return e.drop(dir)
}

// Logs implements run.Executor.
func (e *Executor) Logs(ctx context.Context, attempt penstock.UID, rank int, opts run.LogOptions) (io.ReadCloser, error) {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return nil, err
	}
	f := rankFolder(dir, rank)
	if _, err := os.Stat(string(f)); err != nil {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("rank %d of attempt %s has no log here", rank, attempt), Err: err}
	}
	if !opts.Follow {
		return f.Log(opts.Tail, nil)
	}
	return f.Log(opts.Tail, func() bool {
		// A task whose agent hasn't begun yet has its log still before it.
		sight, _ := f.Look()
		_, gone := os.Stat(string(f))
		return ctx.Err() == nil && sight != agent.Over && gone == nil
	})
}
