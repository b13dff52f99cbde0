package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
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

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/auth"
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

func TestEnteredCommandHasItsInputItsOutputsAndItsEnd(t *testing.T) {
	g := newGate(t)
	out, errs, code, err := g.exec("echo out; echo err >&2; exit 7")
	if diff := cmp.Diff([]any{"out\n", "err\n", 7}, []any{out, errs, code}); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if out, _, code, err := g.exec("head -c 1000000 /dev/zero"); len(out) != 1000000 || code != 0 || err != nil {
		t.Error(len(out), code, err)
	}
	ctx, _ := g.ctx()
	if _, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{}); penstock.CodeOf(err) != penstock.Invalid {
		t.Error(err)
	}
	if _, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Rank: 1, Command: []string{"true"}}); penstock.CodeOf(err) != penstock.NotFound {
		t.Error(err)
	}
	// One that never ends its input ends with the command all the same.
	never, _ := io.Pipe()
	if code, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Command: []string{"sh", "-c", "exit 3"}, In: never}); code != 3 || err != nil {
		t.Error(code, err)
	}
	if _, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Command: []string{"/nowhere"}}); penstock.CodeOf(err) != penstock.Internal || !strings.Contains(err.Error(), "internal fault") {
		t.Error(err)
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

func TestEnteredBytesArriveWholeBothWaysAtOnce(t *testing.T) {
	g := newGate(t)
	echo := g.echo()
	input := make([]byte, 8<<20)
	if _, err := rand.Read(input); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(input)
	for name, c := range map[string]*client.Client{"plain": g.client(g.dev), "TLS with HTTP/2": g.http2()} {
		t.Run(name, func(t *testing.T) {
			ctx, _ := g.ctx()
			sum := sha256.New()
			code, err := c.Exec(ctx, jobA, client.ExecOptions{Command: []string{"cat"}, In: bytes.NewReader(input), Out: sum})
			if got := [32]byte(sum.Sum(nil)); code != 0 || err != nil || got != want {
				t.Errorf("cat: %d %v, %x want %x", code, err, got, want)
			}
			tunnel, err := c.Forward(ctx, jobA, client.ForwardOptions{Port: echo})
			if err != nil {
				t.Fatal(err)
			}
			defer tunnel.Close()
			sent := make(chan error, 1)
			go func() {
				_, err := tunnel.Write(input)
				sent <- errors.Join(err, tunnel.CloseWrite())
			}()
			sum.Reset()
			_, err = io.Copy(sum, tunnel) // ends, since the other direction did
			if got := [32]byte(sum.Sum(nil)); err != nil || got != want {
				t.Errorf("echo: %v, %x want %x", err, got, want)
			}
			if err := until(t, sent); err != nil {
				t.Error(err)
			}
		})
	}
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

func TestEnteredTerminalFollowsItsCallers(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	resized := make(chan v1.TerminalSize)
	out, in := io.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Command: []string{"sh"}, Out: in, Sizes: resized})
		result <- err
	}()
	for _, size := range []v1.TerminalSize{{Columns: 80, Rows: 24}, {Columns: 132, Rows: 50}} {
		resized <- size
		want := fmt.Sprintf("%dx%d\n", size.Columns, size.Rows)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
			t.Errorf("%q %v, want %q", got, err, want)
		}
	}
	resized <- v1.TerminalSize{}
	if err := until(t, result); err != nil {
		t.Error(err)
	}
}

// forever is input that doesn't end.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

func TestEnteredCommandEndsWithItsCaller(t *testing.T) {
	g := newGate(t)
	for name, in := range map[string]io.Reader{"without input": nil, "with input that nobody reads": forever{}} {
		ctx, leave := g.ctx()
		result := g.aside(ctx, g.dev, client.ExecOptions{In: in})
		leave()
		if err := until(t, result); penstock.CodeOf(err) != penstock.Canceled {
			t.Errorf("%s: %v", name, err)
		}
		until(t, g.entrant.ended)
	}
}

func TestEnteredCommandEndsWithTheToken(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	made := decode[v1.TokenInfo](t, g.must(g.root, "POST", "/v1/tokens", `{"subject":"ann","project":"lab","role":"developer"}`))
	result := g.aside(ctx, made.Token, client.ExecOptions{})
	g.must(g.root, "DELETE", "/v1/tokens/"+made.ID, "")
	g.apply(g.root, job("lab", "after")) // a change is when it is looked
	if err := until(t, result); penstock.CodeOf(err) != penstock.Unauthenticated || !strings.Contains(err.Error(), "revoked") {
		t.Error(err)
	}
	until(t, g.entrant.ended)
}

func TestEnteredCommandEndsWithTheRole(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	result := g.aside(ctx, g.dev, client.ExecOptions{})
	g.apply(g.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1","members":[{"subject":"ann","role":"viewer"}]}`))
	if err := until(t, result); penstock.CodeOf(err) != penstock.Denied {
		t.Error(err)
	}
}

func TestEnteredCommandEndsWithTheTask(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	result := g.aside(ctx, g.dev, client.ExecOptions{})
	g.change(func(a *v1.Attempt) { a.Status.Tasks[0].State = "exited" })
	if err := until(t, result); penstock.CodeOf(err) != penstock.NotFound || !strings.Contains(err.Error(), "rank 0 of attempt 1 has ended") {
		t.Error(err)
	}
}

func TestEnteredCommandEndsWithTheServer(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	result := g.aside(ctx, g.dev, client.ExecOptions{})
	g.server.Close()
	if err := until(t, result); penstock.CodeOf(err) != penstock.Unavailable || !strings.Contains(err.Error(), "stopping") {
		t.Error(err)
	}
	until(t, g.entrant.ended)
	if trail := g.trail(); !strings.Contains(trail[len(trail)-1], "the server is stopping") {
		t.Error(trail)
	}
}

func TestEnteredConnectionsDontIdle(t *testing.T) {
	g := newGate(t, func(o *httpapi.Options) { o.EnterIdle = 100 * time.Millisecond })
	ctx, _ := g.ctx()
	result := g.aside(ctx, g.dev, client.ExecOptions{})
	if err := until(t, result); penstock.CodeOf(err) != penstock.OverLimit || !strings.Contains(err.Error(), "no byte went for 100ms") {
		t.Error(err)
	}
}

func TestEnterIsForDevelopersOfTheProject(t *testing.T) {
	g := newGate(t)
	g.tenant("speech", "bob", penstock.RoleAdmin)
	g.apply(g.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1","members":[{"subject":"ann","role":"developer"},{"subject":"vic","role":"viewer"}]}`))
	ctx, _ := g.ctx()
	echo := g.echo()
	for _, c := range []struct {
		who, token string
		want       penstock.Code
	}{
		{"developer", g.dev, ""},
		{"admin of all", g.root, ""},
		{"viewer", g.token("vic", "lab", penstock.RoleViewer), penstock.Denied},
		{"developer's token for viewing", g.token("ann", "lab", penstock.RoleViewer), penstock.Denied},
		{"admin of another project", g.token("bob", "speech", penstock.RoleAdmin), penstock.NotFound},
		{"nobody's member", g.token("eve", "lab", penstock.RoleAdmin), penstock.NotFound},
		{"its agent", g.issue(auth.Request{Use: store.Agent, Subject: "agent", Project: "lab", Attempt: g.attempt}), penstock.Denied},
		{"a gateway key", g.issue(auth.Request{Use: store.Gateway, Subject: "shop", Project: "lab"}), penstock.Denied},
		{"no one", "", penstock.Unauthenticated},
	} {
		if _, err := g.client(c.token).Exec(ctx, jobA, client.ExecOptions{Command: []string{"true"}}); penstock.CodeOf(err) != c.want {
			t.Errorf("exec as %s: %v, want %q", c.who, err, c.want)
		}
		tunnel, err := g.client(c.token).Forward(ctx, jobA, client.ForwardOptions{Port: echo})
		if penstock.CodeOf(err) != c.want {
			t.Errorf("forward as %s: %v, want %q", c.who, err, c.want)
		}
		if err == nil {
			_ = tunnel.Close()
		}
	}
}

func TestEnterIsForTasksThatRun(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	enter := func() error {
		_, err := g.client(g.dev).Exec(ctx, jobA, client.ExecOptions{Command: []string{"true"}})
		return err
	}
	for _, c := range []struct {
		phase penstock.Phase
		state string
		want  penstock.Code
	}{
		{penstock.PhaseRunning, "running", ""}, {penstock.PhaseRunning, "ready", ""}, {penstock.PhaseStarting, "", penstock.Pending},
		{penstock.PhaseRunning, "exited", penstock.NotFound}, {penstock.PhaseRunning, "gone", penstock.NotFound}, {penstock.PhaseLost, "running", penstock.NotFound},
	} {
		g.change(func(a *v1.Attempt) { a.Metadata.Phase, a.Status.Tasks[0].State = c.phase, c.state })
		if err := enter(); penstock.CodeOf(err) != c.want {
			t.Errorf("%s, %q: %v, want %q", c.phase, c.state, err, c.want)
		}
	}
	g.change(func(a *v1.Attempt) {
		a.Metadata.Phase, a.Status.Tasks[0].State, a.Spec.Pool = penstock.PhaseRunning, "running", "r"
	})
	if err := enter(); penstock.CodeOf(err) != penstock.Unsupported || !strings.Contains(err.Error(), `"plain"`) {
		t.Error(err)
	}
}

func TestEnterNeedsAnUpgrade(t *testing.T) {
	g := newGate(t)
	for _, header := range [][]string{nil, {"Connection", "Upgrade", "Upgrade", "websocket"}, {"Upgrade", v1.Upgrade}} {
		a := g.call(g.dev, "GET", "/v1/jobs/lab/a/exec?command=true", "", header...)
		if got := decode[v1.Problem](t, a); a.status != 426 || got.Status != 426 || !strings.Contains(got.Hint, v1.Upgrade) || a.header.Get("Upgrade") != v1.Upgrade {
			t.Errorf("%v: %d %v %s", header, a.status, a.header, a.body)
		}
	}
}

func TestEnterHasABoundForEachToken(t *testing.T) {
	g := newGate(t)
	ctx, _ := g.ctx()
	echo := g.echo()
	open := func(token string) (client.Tunnel, error) {
		return g.client(token).Forward(ctx, jobA, client.ForwardOptions{Port: echo})
	}
	var tunnels []client.Tunnel
	for range 32 {
		tunnel, err := open(g.dev)
		if err != nil {
			t.Fatal(err)
		}
		defer tunnel.Close()
		tunnels = append(tunnels, tunnel)
	}
	if _, err := open(g.dev); penstock.CodeOf(err) != penstock.OverLimit || !strings.Contains(err.Error(), "32") {
		t.Error(err)
	}
	other, err := open(g.root)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := tunnels[0].Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // polls until the server has seen it
		tunnel, err := open(g.dev)
		if err == nil {
			_ = tunnel.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestEnterIsInTheAuditLogBeforeItIsDone(t *testing.T) {
	g := newGate(t)
	var before []store.AuditEntry
	g.entrant.before = func() { before = g.entries() }
	if _, _, _, err := g.exec("exit 3\n"); err != nil {
		t.Fatal(err)
	}
	want := `enters attempt 1 rank 0: command ["sh" "-c" "exit 3\n"]`
	if last := before[len(before)-1]; last.Actor != "ann" || last.Outcome != "101" || !strings.Contains(last.Detail, want) {
		t.Errorf("before it ran: %+v, want %s", last, want)
	}
	g.await(2) // the end is written once it was told
	if _, _, _, err := g.exec(": " + strings.Repeat("ü", 2000)); err != nil {
		t.Fatal(err)
	}
	g.await(4)
	ctx, _ := g.ctx()
	if _, err := g.client(g.dev).Forward(ctx, jobA, client.ForwardOptions{Port: g.closed()}); penstock.CodeOf(err) != penstock.Unavailable {
		t.Error(err)
	}
	var got []string
	for _, line := range g.trail() {
		if _, what, ok := strings.Cut(line, "ann GET /v1/jobs/lab/a/"); ok {
			got = append(got, what)
		}
	}
	if len(got) != 6 {
		t.Fatalf("%d entries: %q", len(got), got)
	}
	for i, parts := range [][]string{
		{"exec 101 enters"}, {"exec 101 leaves attempt 1 rank 0 after ", ": exit code 3"},
		{"… (4", " bytes)"}, {"all went well"},
		{"forward 101 enters attempt 1 rank 0: port "}, {"forward 503 leaves", "nothing listens on port"},
	} {
		for _, part := range parts {
			if !strings.Contains(got[i], part) {
				t.Errorf("entry %d is %q, without %q", i, got[i], part)
			}
		}
	}
	// What can't be written down isn't done.
	for len(g.entrant.ended) > 0 {
		<-g.entrant.ended
	}
	if _, _, _, err := g.exec("true"); penstock.CodeOf(err) != penstock.Unavailable || len(g.entrant.ended) > 0 {
		t.Errorf("%v, and %d commands ran", err, len(g.entrant.ended))
	}
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

func TestEnteredPortThatBreaksIsNoEnd(t *testing.T) {
	g := newGate(t)
	broken := g.serve(func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	whole := g.serve(func(c *net.TCPConn) { _, _ = io.WriteString(c, "all of it") })
	for name, c := range map[string]*client.Client{"plain": g.client(g.dev), "TLS": g.http2()} {
		ctx, _ := g.ctx()
		tunnel, err := c.Forward(ctx, jobA, client.ForwardOptions{Port: broken})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tunnel.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, tunnel); err == nil {
			t.Errorf("%s: a broken connection looks as if it had ended after %d bytes", name, n)
		}
		_ = tunnel.Close()
		if tunnel, err = c.Forward(ctx, jobA, client.ForwardOptions{Port: whole}); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(tunnel); err != nil || string(got) != "all of it" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		_ = tunnel.Close()
	}
}
