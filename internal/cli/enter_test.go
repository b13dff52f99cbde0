package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// task plays a server whose job lab/a can be entered: fn gets the switched
// connection.
func task(t *testing.T, fn func(*http.Request, *bufio.ReadWriter, net.Conn)) string {
	t.Helper()
	var open sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/jobs/lab/a":
			fmt.Fprint(w, `{"apiVersion":"penstock/v1","kind":"Job","metadata":{"project":"lab","name":"a"},"spec":{}}`)
			return
		case "/api/v1/jobs/lab/a/exec", "/api/v1/jobs/lab/a/forward":
		default:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if r.URL.Query().Get("port") == "1" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"code":"unavailable","detail":"nothing listens on port 1"}`)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", v1.Upgrade)
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		open.Go(func() {
			defer conn.Close()
			fn(r, both, conn)
		})
	}))
	t.Cleanup(func() {
		s.Close()
		open.Wait()
	})
	return s.URL
}

// frame writes one, for a test whose caller notices if it fails.
func frame(w io.Writer, channel v1.Channel, payload string) {
	_ = v1.WriteFrame(w, v1.Frame{Channel: channel, Payload: []byte(payload)})
}

// penstockAt runs the command line against a server.
func penstockAt(ctx context.Context, url string, e Env, args ...string) int {
	e.Getenv = func(name string) string {
		return map[string]string{"PENSTOCK_SERVER": url, "PENSTOCK_TOKEN": "t", "PENSTOCK_PROJECT": "lab"}[name]
	}
	return Run(ctx, New(e), args, e.Err)
}

func TestExecIsTheCommandToItsCaller(t *testing.T) {
	url := task(t, func(r *http.Request, both *bufio.ReadWriter, conn net.Conn) {
		q := r.URL.Query()
		frame(conn, v1.ChannelStdout, fmt.Sprintf("%q rank %s attempt %s\n", q["command"], q.Get("rank"), q.Get("attempt")))
		frame(conn, v1.ChannelStderr, "careful\n")
		for q.Get("stdin") == "true" {
			f, err := v1.ReadFrame(both, nil)
			if err != nil || len(f.Payload) == 0 {
				break
			}
			frame(conn, v1.ChannelStdout, string(f.Payload))
		}
		frame(conn, v1.ChannelEnd, `{"exitCode":42}`)
	})
	for _, c := range []struct {
		args      []string
		out, errs string
		status    int
	}{
		{[]string{"exec", "a", "--rank", "2", "--attempt", "3", "--", "ls", "-l", "--rank"}, "[\"ls\" \"-l\" \"--rank\"] rank 2 attempt 3\n", "careful\n", 42},
		{[]string{"exec", "-i", "job/a", "--", "cat"}, "[\"cat\"] rank 0 attempt 0\nhello", "careful\n", 42},
		{[]string{"exec", "-t", "a", "--", "sh"}, "", "penstock: error: the standard output is not a terminal\npenstock: hint: leave -t out\n", 2},
	} {
		var out, errs bytes.Buffer
		status := penstockAt(t.Context(), url, Env{In: strings.NewReader("hello"), Out: &out, Err: &errs}, c.args...)
		if diff := cmp.Diff([]any{c.out, c.errs, c.status}, []any{out.String(), errs.String(), status}); diff != "" {
			t.Errorf("%v:\n%s", c.args, diff)
		}
	}
}

// terminal is a new one: what is written to its keyboard is read by who uses it.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

func TestExecTakesOverTheTerminalAndGivesItBack(t *testing.T) {
	keyboard, screen := terminal(t)
	resize := func(columns, rows uint16) {
		if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
			t.Error(err)
		}
	}
	attributes := func() unix.Termios {
		got, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *got
	}
	before := attributes()
	resize(80, 24)
	var got []string
	url := task(t, func(_ *http.Request, both *bufio.ReadWriter, conn net.Conn) {
		for range 3 {
			f, err := v1.ReadFrame(both, nil)
			if err != nil {
				t.Error(err)
				return
			}
			got = append(got, string(f.Payload))
			switch len(got) {
			case 1:
				resize(132, 50)
				if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
					t.Error(err)
				}
			case 2: // Ctrl-C is a key like any other
				if _, err := keyboard.Write([]byte{3}); err != nil {
					t.Error(err)
				}
			}
		}
		frame(conn, v1.ChannelEnd, `{"exitCode":0}`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if status := penstockAt(ctx, url, Env{In: screen, Out: screen, Err: io.Discard}, "exec", "-it", "a", "--", "sh"); status != 0 {
		t.Errorf("status %d", status)
	}
	if diff := cmp.Diff([]string{`{"columns":80,"rows":24}`, `{"columns":132,"rows":50}`, "\x03"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, attributes()); diff != "" {
		t.Error(diff)
	}
}

func TestPortForwardListensHereAndGoesOnAfterARefusal(t *testing.T) {
	url := task(t, func(_ *http.Request, both *bufio.ReadWriter, conn net.Conn) {
		_, _ = io.Copy(conn, both) // to the end of what the caller sends
	})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	errs, errIn := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- penstockAt(ctx, url, Env{Out: in, Err: errIn}, "port-forward", "a", "0:1", "0:8080")
	}()
	lines, said := bufio.NewScanner(out), bufio.NewScanner(errs)
	addresses := map[string]string{}
	for range 2 {
		lines.Scan()
		address, port, _ := strings.Cut(lines.Text(), "\t")
		addresses[port] = address
	}
	dial := func(port string) *net.TCPConn {
		conn, err := net.DialTimeout("tcp", addresses[port], 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*net.TCPConn)
	}
	refused := dial("1")
	said.Scan()
	if diff := cmp.Diff("penstock: error: nothing listens on port 1", said.Text()); diff != "" {
		t.Error(diff)
	}
	if _, err := refused.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a refused connection ended with %v, as if there had been nothing to say", err)
	}
	conn := dial("8080")
	if host, _, _ := net.SplitHostPort(addresses["8080"]); host != "127.0.0.1" {
		t.Errorf("it listens on %s", host)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Error(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	interrupt()
	if status := <-ended; status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestPortForwardRefusesWhatIsNoPortAndWhatIsTaken(t *testing.T) {
	url := task(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for arg, want := range map[string]penstock.Code{
		"x": penstock.Invalid, "0": penstock.Invalid, "1:2:3": penstock.Invalid, "70000": penstock.Invalid, "1:": penstock.Invalid, port + ":80": penstock.Busy,
	} {
		var out, errs bytes.Buffer
		status := penstockAt(t.Context(), url, Env{Out: &out, Err: &errs}, "port-forward", "a", "0:80", arg)
		if status != penstock.InfoOf(&penstock.Error{Code: want}).Exit || out.Len() > 0 || !strings.Contains(errs.String(), "hint") {
			t.Errorf("%s: %d %s %s", arg, status, &out, &errs)
		}
	}
}
