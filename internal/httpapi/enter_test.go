package httpapi_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/store"
)

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

// A caller that doesn't keep to the window can't fill the server's memory.
func TestEnteredInputIsBounded(t *testing.T) {
	g := newGate(t)
	conn, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/v1/jobs/lab/a/exec?command=sleep&command=600&stdin=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Connection: keep-alive, upgrade\r\nUpgrade: %s\r\n\r\n", g.dev, v1.Upgrade)
	from := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(from, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	go func() { // until it is cut off
		for v1.WriteFrame(conn, v1.Frame{Payload: make([]byte, v1.MaxFrame)}) == nil {
		}
	}()
	for {
		f, err := v1.ReadFrame(from, nil)
		if err != nil {
			break // cut off in the middle of what it sent: it need not have heard why
		}
		if f.Channel == v1.ChannelEnd {
			if !strings.Contains(string(f.Payload), "of input wait for the command; 262144 may") {
				t.Errorf("%s", f.Payload)
			}
			break
		}
	}
	until(t, g.entrant.ended)
	g.await(2)
	if entries := g.entries(); !strings.Contains(entries[len(entries)-1].Detail, "of input wait for the command") {
		t.Errorf("%+v", entries)
	}
}
