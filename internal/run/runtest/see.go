package runtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

func secrets(b *bench) {
	const value = "swordfish-4711"
	b.run(`stat -c %a $PENSTOCK_SECRETS/hub/token; cat $PENSTOCK_SECRETS/hub/token > $SCRATCH/got; echo >> $SCRATCH/got; `+waitFor("end"),
		func(o *v1.Order) { o.Secrets = map[string]map[string]string{"hub": {"token": value}} })
	if got := b.saw("got"); got != value {
		b.t.Errorf("the command read %q", got)
	}
	pid := b.AgentPID(b.t, b.attempt, 0)
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			b.t.Fatal(err)
		}
		for what, hidden := range map[string]string{"secret": value, "token": b.Contact().Token} {
			if strings.Contains(string(text), hidden) {
				b.t.Errorf("the agent's %s holds the %s", file, what)
			}
		}
	}
	b.tell("end")
	b.succeed()
	if got := b.log(0); got != "400\n" {
		b.t.Errorf("the secret's mode is %q, want 400", got)
	}
}

func environment(b *bench) {
	b.t.Setenv("SERVERS_OWN_SECRET", "swordfish")
	b.run(`env`, func(o *v1.Order) {
		o.Env["RANK"] = "99" // the contract can't be overridden
		o.Env["LANG"] = "de_DE.UTF-8"
		o.Parameters = map[string]string{"learning-rate": "3e-4"}
		o.Devices = []string{"GPU-1", "GPU-2"}
		o.Resources = penstock.Resources{penstock.CPU: 1500}
	})
	b.succeed()
	env := "\n" + b.log(0)
	wanted := []string{
		"RANK=0", "LANG=de_DE.UTF-8", "PENSTOCK_PARAM_LEARNING_RATE=3e-4", "OMP_NUM_THREADS=1",
		"PENSTOCK_PROJECT=vision", "PENSTOCK_JOB=train", "PENSTOCK_ATTEMPT=1", "PENSTOCK_TASK=worker-0",
	}
	if b.Orders == Written {
		wanted = append(wanted, "CUDA_VISIBLE_DEVICES=GPU-1,GPU-2", "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2", "GLOO_SOCKET_IFNAME=lo")
	}
	for _, want := range wanted {
		if !strings.Contains(env, "\n"+want+"\n") {
			b.t.Errorf("the environment lacks %s", want)
		}
	}
	for _, bad := range []string{"swordfish", b.Contact().Token} {
		if strings.Contains(env, bad) {
			b.t.Errorf("the environment has %s", bad)
		}
	}
}

func logs(b *bench) {
	b.run(`echo one; echo two >&2; ` + waitFor("more") + `echo three; printf four`)
	r, err := b.Executor.Logs(b.t.Context(), b.attempt, 0, run.LogOptions{Follow: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			b.t.Errorf("read %q (%v), want %q", got, err, want)
		}
	}
	b.tell("more")
	rest, err := io.ReadAll(lines) // ends because the task does
	if got := string(rest); got != "three\nfour" || err != nil {
		b.t.Errorf("then read %q (%v)", got, err)
	}
	tail, err := b.Executor.Logs(b.t.Context(), b.attempt, 0, run.LogOptions{Tail: 2})
	if err != nil {
		b.t.Fatal(err)
	}
	defer tail.Close()
	if got, err := io.ReadAll(tail); string(got) != "three\nfour" || err != nil {
		b.t.Errorf("the last two lines are %q (%v)", got, err)
	}
}

// serving plays the server of a serving task: the command only shows its port.
func serving(b *bench) {
	b.run(`echo $PENSTOCK_PORT > $SCRATCH/port; `+waitFor("end"), func(o *v1.Order) { o.Serve = &v1.Serve{Ready: "/health"} })
	address := "127.0.0.1:" + b.saw("port")
	l, err := net.Listen("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	warm := make(chan struct{})
	asked := make(chan struct{}, 1000)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-warm:
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if r.URL.Path != "/health" {
			b.t.Errorf("asked for %s", r.URL.Path)
		}
	})}
	go func() { _ = server.Serve(l) }() // ends with Close
	defer server.Close()
	<-asked
	<-asked // the answer to the first one was: not ready
	if find(b, 0, readyPart) != nil {
		b.t.Error("ready although it answered 503")
	}
	close(warm)
	b.await("that it is ready", func() bool { return find(b, 0, readyPart) != nil })
	if got := find(b, 0, readyPart).Address; got != address {
		b.t.Errorf("ready at %s, want %s", got, address)
	}
	b.tell("end")
	b.succeed()
}

// feedOrder stages ten tokens as the data train, and asks for a feed of data in
// windows of two.
func feedOrder(b *bench, data string) func(*v1.Order) {
	return func(o *v1.Order) {
		o.Data = []v1.Staged{{Name: "train", Digest: "sha256:" + penstock.Digest(strings.Repeat("0", 64)), Files: []v1.File{b.AddBlob("shard.bin", "0123456789abcdefghij")}}}
		o.Feed = &v1.Feed{Data: data, Window: 2, Batch: 1}
	}
}

func feed(b *bench) {
	b.run(`echo $PENSTOCK_FEED > $SCRATCH/feed; `+waitFor("end"), feedOrder(b, "train"))
	socket := b.saw("feed")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for path, want := range map[string]string{"/info": `"samples":5`, "/batch?step=0": ""} {
		answer, err := client.Get("http://feed" + path)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) || err != nil {
			b.t.Errorf("%s answers %d: %q (%v), want %q", path, answer.StatusCode, body, err, want)
		}
		_ = answer.Body.Close()
	}
	b.tell("end")
	b.succeed()
}

func feedRefused(b *bench) {
	b.run("echo must not run > $SCRATCH/wrong", feedOrder(b, "other"))
	if e := b.exited(0); !e.StartFailed || !strings.Contains(e.Message, "other") {
		b.t.Errorf("exited with %+v, want that there is no such data", e)
	}
}
