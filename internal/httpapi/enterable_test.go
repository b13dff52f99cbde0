package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// entrant enters "tasks" that are this machine: commands really run, ports are
// those of loopback. What it doesn't embed, no test here may call.
type entrant struct {
	run.Executor
	before func()        // each command
	ended  chan struct{} // one for each command
}

func newEntrant() *entrant {
	return &entrant{before: func() {}, ended: make(chan struct{}, 100)}
}

func (e *entrant) Exec(ctx context.Context, _ penstock.UID, _ int, command []string, s run.Streams) error {
	defer func() { e.ended <- struct{}{} }()
	e.before()
	if s.Sizes != nil {
		return sizes(ctx, s)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = s.Out, s.Err
	if s.In != nil {
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(in, s.In) // a command that doesn't read on breaks it
			_ = in.Close()
		}()
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		return run.Exit(exit.ExitCode())
	}
	return err
}

// sizes writes each size of the terminal, until one is empty.
func sizes(ctx context.Context, s run.Streams) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case size := <-s.Sizes:
			if size == (run.Size{}) {
				return nil
			}
			if _, err := fmt.Fprintf(s.Out, "%dx%d\n", size.Columns, size.Rows); err != nil {
				return err
			}
		}
	}
}

func (e *entrant) Dial(ctx context.Context, _ penstock.UID, _, port int) (io.ReadWriteCloser, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("nothing listens on port %d", port), Err: err}
	}
	return conn, nil
}

// gate is a plant with a task that runs and can be entered, job/lab/a.
type gate struct {
	*plant
	entrant *entrant
	front   *httptest.Server
	dev     string // a developer's token
	attempt penstock.UID
}

func newGate(t *testing.T, edits ...func(*httpapi.Options)) *gate {
	t.Helper()
	e := newEntrant()
	p := lab(t, append(edits, func(o *httpapi.Options) {
		o.Executors = map[string]run.Executor{"fake": e, "plain": struct{ run.Executor }{}}
	})...)
	g := &gate{plant: p, entrant: e, front: p.listen(), dev: p.token("ann", "lab", penstock.RoleDeveloper)}
	p.apply(p.root, manifest("Pool", "", "q", `{"executor":"fake"}`), manifest("Pool", "", "r", `{"executor":"plain"}`))
	_, g.attempt = p.running("a", penstock.PhaseRunning)
	g.change(func(a *v1.Attempt) { a.Spec.Pool, a.Status.Tasks[0].State = "q", "running" })
	return g
}

// change edits the attempt, as control does.
func (g *gate) change(edit func(*v1.Attempt)) {
	g.t.Helper()
	err := g.store.Update(g.t.Context(), func(tx store.Tx) error {
		o, err := tx.ByUID(g.attempt)
		if err != nil {
			return err
		}
		a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
		if err != nil {
			return err
		}
		edit(&a)
		if o, err = a.Object(); err != nil {
			return err
		}
		_, err = tx.Update(o)
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

var jobA = penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: "a"}

func (g *gate) client(token string) *client.Client {
	return &client.Client{Base: g.front.URL, Token: token}
}

// ctx ends before the test hangs.
func (g *gate) ctx() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	g.t.Cleanup(cancel)
	return ctx, cancel
}

// exec runs a shell's line with what is given as its input.
func (g *gate) exec(line string) (out, errs string, code int, err error) {
	ctx, _ := g.ctx()
	var o, e bytes.Buffer
	code, err = g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Command: []string{"sh", "-c", line}, Out: &o, Err: &e})
	return o.String(), e.String(), code, err
}

// aside starts a command that stays, and waits until it has said so. What comes
// of it is in the channel.
func (g *gate) aside(ctx context.Context, token string, o client.ExecOptions) <-chan error {
	g.t.Helper()
	out, in := io.Pipe()
	o.Command, o.Out = []string{"sh", "-c", "echo begun; exec sleep 600"}, in
	result := make(chan error, 1)
	go func() {
		_, err := g.client(token).Exec(ctx, jobA, o)
		_ = in.CloseWithError(io.ErrUnexpectedEOF)
		result <- err
	}()
	said := make([]byte, len("begun\n"))
	if _, err := io.ReadFull(out, said); err != nil {
		g.t.Fatal(err, <-result)
	}
	return result
}

// until takes what comes, before the test has waited too long.
func until[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came in 20 s")
		panic("unreachable")
	}
}

// http2 serves the plant as a server with TLS does, which offers HTTP/2 first.
func (g *gate) http2() *client.Client {
	g.t.Helper()
	s := httptest.NewUnstartedServer(g.server.Handler())
	s.EnableHTTP2 = true
	s.StartTLS()
	g.t.Cleanup(s.Close)
	c := &client.Client{Base: s.URL, Token: g.dev, HTTP: s.Client()}
	c.HTTP.Timeout = time.Minute
	resp, err := c.HTTP.Get(s.URL + "/api/v1/whoami")
	if err != nil {
		g.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.ProtoMajor != 2 {
		g.t.Fatal(resp.Proto, err)
	}
	return c
}

// echo is the port of a server that says what it hears, and ends when the caller
// has.
func (g *gate) echo() int {
	return g.serve(func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
}

func (g *gate) serve(fn func(*net.TCPConn)) int {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				fn(c.(*net.TCPConn))
				_ = c.Close()
			})
		}
	})
	g.t.Cleanup(func() {
		_ = l.Close()
		g.server.Close() // so that all connections end
		serving.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// entries are those of the audit log about the job.
func (g *gate) entries() []store.AuditEntry {
	g.t.Helper()
	var all []store.AuditEntry
	if err := g.store.View(g.t.Context(), func(tx store.Tx) (err error) {
		all, err = tx.Audit(0, 1000)
		return err
	}); err != nil {
		g.t.Error(err)
	}
	return slices.DeleteFunc(all, func(e store.AuditEntry) bool { return !strings.HasPrefix(e.Target, "/v1/jobs/lab/a/") })
}

// await waits until the audit log has n entries about the job.
func (g *gate) await(n int) {
	g.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(g.entries()) < n; time.Sleep(time.Millisecond) { // polls what runs beside it
		if time.Now().After(deadline) {
			g.t.Fatalf("%d entries, want %d", len(g.entries()), n)
		}
	}
}

// closed is a port on which nothing listens.
func (g *gate) closed() int {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		g.t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port
}
