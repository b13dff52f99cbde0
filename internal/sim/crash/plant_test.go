package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// pollPause is how often the state is asked for.
const pollPause = 100 * time.Millisecond

// plant is an installation in a data folder of its own, whose server is started
// again whenever it was killed, each time on another port.
type plant struct {
	t          *testing.T
	home, data string
	log        *os.File

	mu      sync.Mutex
	running process
	killed  bool // by this test
	closing bool
	starts  int
	done    chan struct{}
}

// newPlant starts a server. The test's end kills what is left of it.
func newPlant(t *testing.T) *plant {
	t.Helper()
	home := t.TempDir()
	log, err := os.Create(filepath.Join(home, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &plant{t: t, home: home, data: filepath.Join(home, "data"), log: log, done: make(chan struct{})}
	go p.supervise()
	t.Cleanup(p.destroy)
	return p
}

// env is all that the programs are told by their environment.
func (p *plant) env() []string {
	return []string{
		"HOME=" + p.home, "PENSTOCK_CONTEXT=" + p.context(), "PATH=" + os.Getenv("PATH"), "PENSTOCK_LLAMA_LIB=" + llamaFolder(),
	}
}

func (p *plant) context() string { return filepath.Join(p.home, "context.json") }

// supervise is what systemd would do. The thread is held because the kernel
// takes its end for the death of the server's parent, and kills the server then:
// it doesn't outlive a test that was itself killed.
func (p *plant) supervise() {
	runtime.LockOSThread()
	defer close(p.done)
	for {
		cmd := exec.Command(filepath.Join(programs, "penstock"), "dev", "--data", p.data, "--listen", "127.0.0.1:0")
		cmd.Env, cmd.Stdout, cmd.Stderr = p.env(), p.log, p.log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		p.mu.Lock()
		if p.closing {
			p.mu.Unlock()
			return
		}
		err := cmd.Start()
		if err == nil {
			start, _ := startOf(cmd.Process.Pid)
			p.running, p.killed = process{pid: cmd.Process.Pid, start: start, role: server}, false
			p.starts++
		}
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		p.mu.Lock()
		killed, closing := p.killed, p.closing
		p.running = process{}
		p.mu.Unlock()
		if !killed {
			if !closing || err != nil {
				p.t.Errorf("the server ended by itself: %v\n%s", err, p.tail())
			}
			return
		}
	}
}

// tail is the end of the server's log.
func (p *plant) tail() []byte {
	b, _ := os.ReadFile(p.log.Name()) // for a failing test only
	return b[max(0, len(b)-4000):]
}

// killServer ends the server with SIGKILL.
func (p *plant) killServer() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running.pid == 0 || p.killed || !p.running.kill() {
		return false
	}
	p.killed = true
	return true
}

// stop ends the server with SIGTERM, as an operator does, and waits for it.
func (p *plant) stop() {
	p.t.Helper()
	p.mu.Lock()
	p.closing = true
	if p.running.pid != 0 && p.running.alive() {
		_ = syscall.Kill(p.running.pid, syscall.SIGTERM) // waited for below
	}
	p.mu.Unlock()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Error("the server did not stop within 30 s of SIGTERM")
	}
}

// destroy kills everything that is left, without asking.
func (p *plant) destroy() {
	p.mu.Lock()
	p.closing = true
	if p.running.pid != 0 && p.running.kill() {
		p.killed = true
	}
	p.mu.Unlock()
	<-p.done
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := look(p.data)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			p.t.Errorf("%d processes can't be killed", len(left))
			break
		}
		for _, process := range left {
			process.kill()
		}
	}
	if p.t.Failed() {
		p.t.Logf("the end of the server's log:\n%s", p.tail())
	}
	_ = p.log.Close()
}

// client speaks to the server that was started last.
func (p *plant) client() (*client.Client, error) {
	var at struct{ Server, Token string }
	b, err := os.ReadFile(p.context())
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Msg: "no server has been ready yet", Err: err}
	}
	return &client.Client{Base: at.Server, Token: at.Token}, nil
}

// away reports whether err only says that there is no server right now. A
// connection that broke off in the middle of an answer is such a case as well.
func away(err error) bool {
	var e *penstock.Error
	return !errors.As(err, &e) || e.Code == penstock.Unavailable || e.Code == penstock.Canceled
}

// call makes one call, again while no server answers.
func (p *plant) call(ctx context.Context, what string, fn func(context.Context, *client.Client) error) {
	p.t.Helper()
	p.until(ctx, what, func(ctx context.Context, c *client.Client) (bool, error) { return true, fn(ctx, c) })
}

// until polls until done says so. An error of the server is the test's end.
func (p *plant) until(ctx context.Context, what string, done func(context.Context, *client.Client) (bool, error)) {
	p.t.Helper()
	var last error
	for {
		c, err := p.client()
		if err == nil {
			var ok bool
			once, cancel := context.WithTimeout(ctx, 10*time.Second)
			ok, err = done(once, c)
			cancel()
			if ok && err == nil {
				return
			}
		}
		if err != nil {
			last = err
			if !away(err) {
				p.t.Fatalf("%s: %v", what, err)
			}
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s: not within the time given (the last error was %v)%s", what, last, p.state())
		case <-time.After(pollPause):
		}
	}
}

// state is what the objects say, for a failing test.
func (p *plant) state() string {
	c, err := p.client()
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b bytes.Buffer
	for _, kind := range []penstock.Kind{penstock.KindJob, penstock.KindAttempt, penstock.KindEndpoint} {
		objects, _, err := c.List(ctx, kind, client.ListOptions{})
		if err != nil {
			fmt.Fprintf(&b, "\n%s: %v", kind, err)
		}
		for _, o := range objects {
			fmt.Fprintf(&b, "\n%s is %s: %.600s", o.Ref(), o.Metadata.Phase, o.Status)
		}
	}
	return b.String()
}

// command runs the command line, again while it can't reach a server.
func (p *plant) command(ctx context.Context, args ...string) {
	p.t.Helper()
	p.until(ctx, "penstock "+args[0], func(ctx context.Context, _ *client.Client) (bool, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(programs, "penstock"), args...)
		cmd.Env = p.env()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() != 1 {
			return false, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("exit %d: %s", exit.ExitCode(), out)}
		}
		if err != nil {
			return false, &penstock.Error{Code: penstock.Unavailable, Msg: string(out), Err: err}
		}
		return true, nil
	})
}

// get reads an object, which must be there.
func (p *plant) get(ctx context.Context, ref penstock.Ref) v1.Object {
	p.t.Helper()
	var o v1.Object
	p.call(ctx, "get "+ref.String(), func(ctx context.Context, c *client.Client) (err error) {
		o, err = c.Get(ctx, ref)
		return err
	})
	return o
}

// reach waits for an object's phase, and ends the test when it ends in another.
func (p *plant) reach(ctx context.Context, ref penstock.Ref, want penstock.Phase) {
	p.t.Helper()
	p.until(ctx, fmt.Sprintf("wait until %s is %s", ref, want), func(ctx context.Context, c *client.Client) (bool, error) {
		o, err := c.Get(ctx, ref)
		if err == nil && o.Metadata.Phase != want && (o.Metadata.Phase.Final() || o.Metadata.Phase == penstock.PhaseFailed) {
			err = &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("it is %s: %s%s", o.Metadata.Phase, o.Status, p.state())}
		}
		return err == nil && o.Metadata.Phase == want, err
	})
}
