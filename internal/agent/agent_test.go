package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run/runtest"
)

func TestAnAnswerIsFinalOnlyWhereItIsPenstocksOwn(t *testing.T) {
	for _, c := range []struct {
		status    int
		body      string
		code      penstock.Code
		temporary bool
	}{
		{409, `{"code":"fenced","detail":"attempt 2 has taken over"}`, penstock.Fenced, false},
		{401, ``, penstock.Unauthenticated, false},
		{403, `<html>`, penstock.Denied, false},
		{404, `{"code":"not_found"}`, penstock.NotFound, false},
		{404, `<html>a stranger on the same port</html>`, "", true},
		{413, `{"code":"too_large"}`, penstock.TooLarge, false},
		{429, `{"code":"over_limit"}`, penstock.OverLimit, true},
		{500, `{"code":"internal"}`, penstock.Internal, true},
		{500, `{"code":"corrupt"}`, penstock.Corrupt, false},
		{503, `{"code":"unavailable"}`, penstock.Unavailable, true},
		{302, ``, "", true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		_, err := dial(t, v1.Contact{URL: server.URL, Token: "t"}).report(t.Context(), []v1.Report{{Seq: 1}})
		server.Close()
		if got := errors.As(err, &temporary{}); got != c.temporary || penstock.CodeOf(err) != c.code {
			t.Errorf("%d %s gives %v (%s), temporary: %v", c.status, c.body, err, penstock.CodeOf(err), got)
		}
	}
}

func dial(t *testing.T, contact v1.Contact) *client {
	t.Helper()
	c, err := newClient(contact)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheServersAddressIsReadAgainAfterAFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "address")
	c := dial(t, v1.Contact{URL: "http://127.0.0.1:1", AddressFile: file, Token: "t"})
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = true }))
	defer server.Close()
	if err := os.WriteFile(file, []byte(server.URL+"/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := persist(t.Context(), func() error { _, err := c.stored(t.Context(), "sha256:00"); return err })
	if err != nil || !asked {
		t.Errorf("got %v; asked: %v", err, asked)
	}
}

func TestATransferThatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, moved, cancel := stalling(t.Context())
		defer cancel()
		time.Sleep(stallTime - time.Second)
		moved()
		time.Sleep(stallTime - time.Second)
		if ctx.Err() != nil {
			t.Errorf("given up although it moved: %v", context.Cause(ctx))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Errorf("not given up after %s", stallTime)
		}
	})
}

func TestTheEarliestEndOfSeveralStopsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		signals := make(chan os.Signal, 3)
		grace := make(chan time.Duration, 3)
		s := listen(ctx, signals, func() time.Duration { return <-grace })
		begin := time.Now()
		for _, g := range []time.Duration{time.Hour, time.Minute, 2 * time.Hour} {
			grace <- g
			signals <- syscall.SIGTERM
		}
		<-s.asked
		<-s.over
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("over after %s, want a minute", got)
		}
	})
}

func TestSpoiledBytesInTheCacheAreFetchedAgain(t *testing.T) {
	server := runtest.NewServer(t)
	file := server.AddBlob("a", "right")
	c := cache{dir: t.TempDir(), client: dial(t, server.Contact())}
	path, err := c.get(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoiled := range []string{"wrong", "", "right and more"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(spoiled), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := c.get(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(again); string(got) != "right" || err != nil {
			t.Errorf("with %q in the cache it gives %q (%v)", spoiled, got, err)
		}
	}
}

func TestAHostileDigestMakesNoFile(t *testing.T) {
	dir := t.TempDir()
	c := cache{dir: filepath.Join(dir, "cache"), client: dial(t, v1.Contact{})}
	if _, err := c.get(t.Context(), v1.File{Path: "a", Digest: "sha256:../../../evil"}); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("got %v, want invalid", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("it made %v (%v)", entries, err)
	}
}

func TestAProcessIsNotMistakenForAnother(t *testing.T) {
	own, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	earlier, otherBoot := own, own
	earlier.Start--
	otherBoot.Boot = "another"
	if !own.Alive() || earlier.Alive() || otherBoot.Alive() {
		t.Errorf("alive: self %v, an earlier one of that number %v, one of another boot %v", own.Alive(), earlier.Alive(), otherBoot.Alive())
	}
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); child.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a killed process that wasn't waited for counts as alive")
		}
	}
	_ = cmd.Wait() // killed
}

func TestAFeedIsReachableHoweverLongItsFoldersNameIs(t *testing.T) {
	for _, name := range []string{"short", strings.Repeat("long", 40)} {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		f := Folder(filepath.Join(dir, name))
		if err := os.Mkdir(string(f), 0o700); err != nil {
			t.Fatal(err)
		}
		socket, stop, err := serveFeed(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "sample") }))
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
		answer, err := client.Get("http://feed/")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(answer.Body); string(got) != "sample" || err != nil {
			t.Errorf("the feed gives %q (%v)", got, err)
		}
		_ = answer.Body.Close()
		stop()
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

func TestACommandIsFoundAsTheTaskWouldFindIt(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run.sh": 0o700, "notes.txt": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, path, want string }{
		{"run.sh", dir, filepath.Join(dir, "run.sh")},
		{"./run.sh", "", filepath.Join(dir, "run.sh")},
		{"run.sh", "/nowhere", "not in PATH=/nowhere"},
		{"notes.txt", dir, "not in PATH"},
		{"./notes.txt", "", "not executable"},
		{"./nothing", "", "no such file"},
		{"./", "", "a folder"},
	} {
		got, err := findCommand(c.name, dir, c.path)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s in PATH=%s gives %q, want %q", c.name, c.path, got, c.want)
		}
	}
}

func TestATaskWithoutDevicesSeesNone(t *testing.T) {
	env := environment(v1.Order{Env: map[string]string{"CUDA_VISIBLE_DEVICES": "0"}}, places{folder: "/task"})
	if env["CUDA_VISIBLE_DEVICES"] != "" || env["NVIDIA_VISIBLE_DEVICES"] != "void" {
		t.Errorf("it sees %q and %q", env["CUDA_VISIBLE_DEVICES"], env["NVIDIA_VISIBLE_DEVICES"])
	}
}

func TestNamesThatLeaveTheirFolderAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/a", "a\x00b"} {
		if checkElement(name) == nil {
			t.Errorf("%q was accepted as a name", name)
		}
	}
	for _, p := range []string{"", ".", "../a", "a/../b", "/a", "a//b", "a/"} {
		if checkPath(p) == nil {
			t.Errorf("%q was accepted as a path", p)
		}
	}
}

func TestAnAgentBeatsWhileItHasNothingElseToSay(t *testing.T) {
	s := newTestSpool(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := &agent{spool: s}
		s.changed = make(chan struct{}) // one of this bubble
		go a.beat(ctx)
		wait := func(want int) {
			t.Helper()
			time.Sleep(heartbeat)
			synctest.Wait()
			if got := s.waiting(); got != want {
				t.Errorf("%d reports wait, want %d", got, want)
			}
		}
		wait(1)
		wait(1) // the server doesn't have the first one yet: no second one
		s.acknowledge(1)
		wait(1)
	})
}

func TestATaskThatHasBegunIsNeverRunAgain(t *testing.T) {
	f := Folder(t.TempDir())
	if err := f.Write(v1.Order{Command: []string{"/bin/true"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.write(begunFile, nil); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Options{Dir: f}); penstock.CodeOf(err) != penstock.Conflict {
		t.Errorf("got %v, want a refusal", err)
	}
	if !f.has(orderFile) || f.has(taskFile) {
		t.Error("it began")
	}
}

func TestTwoAgentsNeverShareAFolder(t *testing.T) {
	f := Folder(t.TempDir())
	unlock, err := lockPath(t.Context(), f.path(lockFile))
	if err != nil {
		t.Fatal(err)
	}
	if !f.Held() {
		t.Error("a folder that was taken isn't seen as held")
	}
	if err := Run(t.Context(), Options{Dir: f}); penstock.CodeOf(err) != penstock.Busy {
		t.Errorf("got %v, want busy", err)
	}
	unlock()
	if f.Held() {
		t.Error("a folder that was let go is seen as held")
	}
}

func TestAShorterGraceCountsThoughTheAgentSawOnlyALaterRequest(t *testing.T) {
	f := Folder(t.TempDir())
	id, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.writeJSON(agentFile, id); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1) // all but the first one find it full
	signal.Notify(signals, syscall.SIGTERM)
	defer signal.Stop(signals)
	for _, grace := range []time.Duration{time.Hour, time.Minute, 2 * time.Hour} {
		if err := f.Stop(grace); err != nil {
			t.Fatal(err)
		}
	}
	<-signals
	if got := f.grace(0); got > time.Minute || got < 0 {
		t.Errorf("it has %s, want less than a minute", got)
	}
}
