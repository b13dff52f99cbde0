package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
)

// TestMain runs the program itself when a test starts this binary as one.
func TestMain(m *testing.M) {
	if os.Getenv("PENSTOCK_LLAMA_TEST_AS_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// libraries is where the native libraries are. Without them the test can't run,
// which is a failure where everything must run.
func libraries(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PENSTOCK_LLAMA_LIB")
	if dir == "" {
		dir = "../../.build/llama/lib"
	}
	if _, err := os.Stat(dir + "/libllama.so"); err != nil {
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatalf("the llama.cpp libraries are missing (%v): run hack/llama/install.sh", err)
		}
		t.Skipf("NOT TESTED: the llama.cpp libraries are missing (%v): run hack/llama/install.sh", err)
	}
	return dir
}

func collect(t *testing.T, a answer) (text string, tokens int, finish string) {
	t.Helper()
	for {
		select {
		case st := <-a.Steps:
			if st.Err != nil {
				t.Fatal(st.Err)
			}
			text += st.Text
			if st.Finish != "" {
				return text, tokens, st.Finish
			}
			tokens++
		case <-time.After(time.Minute):
			t.Fatal("no token for a minute")
		}
	}
}

// TestEngine shares one engine: llama.cpp is loaded once in a process.
func TestEngine(t *testing.T) {
	e, err := open(config{Libraries: libraries(t), Model: tinyModel(t), Slots: 2, Queue: 4, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	t.Run("GreedyAnswersRepeat", func(t *testing.T) { greedyRepeats(t, e) })
	t.Run("UsageIsExact", func(t *testing.T) { usageIsExact(t, e) })
	t.Run("StopStringEndsGeneration", func(t *testing.T) { stopEnds(t, e) })
	t.Run("LongPromptIsRefused", func(t *testing.T) { longPromptRefused(t, e) })
	t.Run("LongPromptSpansBatches", func(t *testing.T) { longPromptWorks(t, e) })
	t.Run("FullQueueIsRefusedAndCancelFreesIt", func(t *testing.T) { queueBounded(t, e) })
	t.Run("UnknownTemplateJoinsContents", func(t *testing.T) {
		if diff := cmp.Diff("a\nb\n", e.Chat([]message{{"system", "a"}, {"user", "b"}})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func begin(t *testing.T, ctx context.Context, e *engine, prompt string, o options) answer {
	t.Helper()
	a, err := e.Generate(ctx, prompt, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func greedyRepeats(t *testing.T, e *engine) {
	one, _, _ := collect(t, begin(t, t.Context(), e, "penstock", options{Max: 40}))
	two, _, _ := collect(t, begin(t, t.Context(), e, "penstock", options{Max: 40}))
	if one != two || one == "" {
		t.Fatalf("%q, then %q", one, two)
	}
	drawn := options{Max: 40, Temperature: 1, TopP: 0.9, Seed: 7}
	three, _, _ := collect(t, begin(t, t.Context(), e, "penstock", drawn))
	four, _, _ := collect(t, begin(t, t.Context(), e, "penstock", drawn))
	if three != four || three == one {
		t.Fatalf("seed 7 drew %q, then %q; greedy was %q", three, four, one)
	}
}

func usageIsExact(t *testing.T, e *engine) {
	a := begin(t, t.Context(), e, "hé!", options{Max: 12})
	if want := 1 + len("hé!"); a.PromptTokens != want { // the first token, then one for each byte
		t.Fatalf("%d prompt tokens, want %d", a.PromptTokens, want)
	}
	if _, n, finish := collect(t, a); n != 12 || finish != "length" {
		t.Fatalf("%d tokens, finish %s", n, finish)
	}
}

func stopEnds(t *testing.T, e *engine) {
	whole, _, _ := collect(t, begin(t, t.Context(), e, "penstock", options{Max: 40}))
	runes := []rune(whole)
	stop := string(runes[len(runes)/2])
	before, _, _ := strings.Cut(whole, stop)
	text, tokens, finish := collect(t, begin(t, t.Context(), e, "penstock", options{Max: 40, Stop: []string{stop}}))
	if stop == "\uFFFD" {
		t.Skip("the middle of this model's text is no character")
	}
	if text != before || finish != "stop" || tokens >= 40 {
		t.Fatalf("got %q after %d tokens (%s), want %q", text, tokens, finish, before)
	}
}

func longPromptRefused(t *testing.T, e *engine) {
	_, err := e.Generate(t.Context(), strings.Repeat("a", tinyContext), options{Max: 1})
	if penstock.CodeOf(err) != penstock.OverLimit {
		t.Fatalf("got %v", err)
	}
	if status, form := describe(err); status != 400 || form.Error.Code != "context_length_exceeded" {
		t.Fatalf("%d %+v", status, form)
	}
}

func longPromptWorks(t *testing.T, e *engine) {
	a := begin(t, t.Context(), e, strings.Repeat("a", tinyContext-11), options{})
	if _, n, finish := collect(t, a); n != 10 || finish != "length" {
		t.Fatalf("%d tokens to the end of the context (%s), want 10", n, finish)
	}
}

func queueBounded(t *testing.T, e *engine) {
	ctx, cancel := context.WithCancel(t.Context())
	var running []answer
	for range 2 + 4 { // slots and queue
		a := begin(t, ctx, e, "a", options{Max: 2000})
		running = append(running, a)
		if len(running) <= 2 {
			<-a.Steps // it has a slot
		}
	}
	if _, err := e.Generate(ctx, "a", options{Max: 2000}); penstock.CodeOf(err) != penstock.Unavailable {
		t.Fatalf("a seventh request got %v", err)
	}
	cancel()
	next, err := e.Generate(t.Context(), "b", options{Max: 3})
	for deadline := time.Now().Add(10 * time.Second); err != nil; next, err = e.Generate(t.Context(), "b", options{Max: 3}) {
		if time.Now().After(deadline) {
			t.Fatalf("the queue stayed full: %v", err)
		}
		runtime.Gosched()
	}
	if _, n, _ := collect(t, next); n != 3 {
		t.Fatalf("%d tokens after the others were given up", n)
	}
	for i, a := range running {
		if len(a.Steps) > 1990 {
			t.Fatalf("request %d went on after its client left: %d tokens", i, len(a.Steps))
		}
	}
}

func TestSIGTERMLetsARunningStreamFinish(t *testing.T) {
	dir, model := libraries(t), tinyModel(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "--lib", dir, "--model", model, "--addr", "127.0.0.1:0", "--threads", "1")
	cmd.Env = append(os.Environ(), "PENSTOCK_LLAMA_TEST_AS_PROGRAM=1")
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(logs)
	addr := ""
	for addr == "" && lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "addr="); ok {
			addr, _, _ = strings.Cut(rest, " ")
		}
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		t.Fatalf("the log names no address: %v", err)
	}
	resp, err := http.Post("http://"+addr+"/v1/completions", "application/json",
		strings.NewReader(`{"prompt":"a","max_tokens":1500,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	chunks, last := 0, ""
	for events.Scan() {
		if line := events.Text(); line != "" {
			if chunks++; chunks == 1 {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			if line == "data: [DONE]" {
				break
			}
			last = line
		}
	}
	if !strings.Contains(last, `"usage":{"prompt_tokens":2,"completion_tokens":1500,"total_tokens":1502}`) {
		t.Fatalf("the stream ended after %d chunks with %s", chunks, last)
	}
	for lines.Scan() { // the program's log, to its end
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the program ended with %v", err)
	}
}

func TestMissingPartsAreNamedWithAHint(t *testing.T) {
	for name, run := range map[string]func() error{
		"libraries": func() error { _, err := open(config{Libraries: t.TempDir()}); return err },
		"model":     func() error { _, err := findModel(flags{}, t.TempDir()); return err },
		"outside":   func() error { _, err := findModel(flags{file: "../x.gguf"}, t.TempDir()); return err },
		"flag":      func() error { _, err := parseFlags([]string{"--slots", "0"}, os.Getenv); return err },
	} {
		t.Run(name, func(t *testing.T) {
			var e *penstock.Error
			if err := run(); !errors.As(err, &e) || e.Hint == "" {
				t.Fatalf("got %v", err)
			}
		})
	}
}
