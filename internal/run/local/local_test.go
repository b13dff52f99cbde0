package local_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/local"
	"github.com/penstock/penstock/internal/run/runtest"
)

// asServer makes the test program behave as a server that starts a gang, to be
// killed at it.
const asServer = "PENSTOCK_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "" {
		os.Exit(m.Run())
	}
	var job startJob
	err := json.NewDecoder(os.Stdin).Decode(&job)
	if err == nil {
		var e *local.Executor
		if e, err = local.New(job.Options); err == nil {
			fmt.Println("starting")
			err = e.Start(context.Background(), job.Gang)
		}
	}
	fmt.Println("done", err)
	select {} // until it is killed
}

type startJob struct {
	Options local.Options
	Gang    []v1.Order
}

func TestExecutor(t *testing.T) {
	program := runtest.BuildAgent(t)
	runtest.Run(t, func(t *testing.T) runtest.Harness {
		dir := t.TempDir()
		reopen := func(t *testing.T) run.Executor {
			return open(t, local.Options{Dir: dir, AgentPath: program, Node: "here"})
		}
		return runtest.Harness{Executor: reopen(t), Reopen: reopen, AgentPID: func(t *testing.T, attempt penstock.UID, rank int) int {
			id, err := agent.Folder(filepath.Join(dir, string(attempt), strconv.Itoa(rank))).Agent()
			if err != nil {
				t.Fatal(err)
			}
			return id.PID
		}}
	})
}

func open(t *testing.T, o local.Options) *local.Executor {
	t.Helper()
	e, err := local.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// gang is a gang of two that notes each run, and ends when scratch/end is there.
func gang(s *runtest.Server, attempt, scratch string) []v1.Order {
	var orders []v1.Order
	for rank := range 2 {
		orders = append(orders, v1.Order{
			Server: s.Contact(), Job: "train", Attempt: penstock.UID(attempt), Number: 1, Set: "worker", Index: rank, Rank: rank, WorldSize: 2,
			Command: []string{"/bin/sh", "-c", `echo run >> $SCRATCH/runs-$RANK; while [ ! -e $SCRATCH/end ]; do sleep 0.02; done`},
			Env:     map[string]string{"SCRATCH": scratch},
		})
	}
	return orders
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen in 30 s", what)
		}
	}
}

func exits(s *runtest.Server, rank int) int {
	n := 0
	for _, r := range s.Reports(rank) {
		if r.Exited != nil && r.Exited.Code == 0 {
			n++
		}
	}
	return n
}

// startAndDie starts a gang from another process and kills that process some
// time after it began.
func startAndDie(t *testing.T, job startJob, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"=1")
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "starting\n" {
		t.Errorf("the server said %q (%v)", line, err)
	}
	if after < 0 { // after Start has returned
		if line, err := lines.ReadString('\n'); line != "done <nil>\n" {
			t.Errorf("the server said %q (%v)", line, err)
		}
	} else {
		<-time.After(after)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

func TestAServerKilledWhileItStartsAGangRunsEachTaskOnce(t *testing.T) {
	program := runtest.BuildAgent(t)
	for _, after := range []time.Duration{0, 1e6, 3e6, 6e6, 12e6, 25e6, 50e6, -1} {
		t.Run(after.String(), func(t *testing.T) {
			s, scratch := runtest.NewServer(t), t.TempDir()
			o := local.Options{Dir: t.TempDir(), AgentPath: program, Node: "here"}
			orders := gang(s, "crash-"+strconv.Itoa(os.Getpid())+"-"+after.String(), scratch)
			startAndDie(t, startJob{o, orders}, after)

			e := open(t, o)
			if err := e.Start(t.Context(), orders); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(scratch, "end"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for rank := range 2 {
				await(t, "the exit", func() bool { return exits(s, rank) > 0 })
				runs, err := os.ReadFile(filepath.Join(scratch, fmt.Sprintf("runs-%d", rank)))
				if string(runs) != "run\n" || err != nil {
					t.Errorf("rank %d ran as often as this: %q (%v)", rank, runs, err)
				}
			}
			await(t, "that it can be forgotten", func() bool { return e.Forget(t.Context(), orders[0].Attempt) == nil })
		})
	}
}

func TestAGangThatCannotStandLeavesNothingAndCanBeStartedLater(t *testing.T) {
	program := runtest.BuildAgent(t)
	s, scratch, dir := runtest.NewServer(t), t.TempDir(), t.TempDir()
	broken := filepath.Join(t.TempDir(), "agent")
	script := "#!/bin/sh\necho $$ >> " + scratch + "/agents\ncase \"$3\" in */1) sleep 0.5; echo the second one is broken >&2; exit 1;; esac\nexec " + program + " \"$@\"\n"
	if err := os.WriteFile(broken, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	orders := gang(s, "broken-"+strconv.Itoa(os.Getpid()), scratch)
	e := open(t, local.Options{Dir: dir, AgentPath: broken, Node: "here"})
	err := e.Start(t.Context(), orders)
	if err == nil || !strings.Contains(err.Error(), "the second one is broken") || !strings.Contains(err.Error(), "rank 1") {
		t.Fatalf("got %v, want what the second agent said", err)
	}
	if _, err := os.Stat(filepath.Join(scratch, "runs-0")); !os.IsNotExist(err) {
		t.Errorf("the first one ran although the second could not (%v)", err)
	}
	if seen, err := e.Observe(t.Context()); len(seen) != 0 || err != nil {
		t.Errorf("it is observed: %v (%v)", seen, err)
	}
	agents, err := os.ReadFile(filepath.Join(scratch, "agents"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(agents)) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := agent.Identify(n); err == nil && id.Alive() {
			t.Errorf("agent %d lives", n)
		}
	}
	e = open(t, local.Options{Dir: dir, AgentPath: program, Node: "here"})
	if err := e.Start(t.Context(), orders); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(scratch, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "both exits", func() bool { return exits(s, 0) == 1 && exits(s, 1) == 1 })
	await(t, "that it can be forgotten", func() bool { return e.Forget(t.Context(), orders[0].Attempt) == nil })
}

func TestAnExecutorWithoutItsAgentSaysSo(t *testing.T) {
	_, err := local.New(local.Options{Dir: t.TempDir(), AgentPath: "/nowhere/penstock-agent"})
	if penstock.CodeOf(err) != penstock.Invalid || !strings.Contains(err.Error(), "/nowhere/penstock-agent") {
		t.Errorf("got %v", err)
	}
}

func TestAUIDThatIsAPathIsRefused(t *testing.T) {
	e := open(t, local.Options{Dir: t.TempDir(), AgentPath: "/bin/sh"})
	for _, uid := range []penstock.UID{"", ".", "..", "../x", "a/b", "cache"} {
		if err := e.Forget(t.Context(), uid); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("forgetting %q gives %v, want invalid", uid, err)
		}
	}
}

func TestAFollowedLogWaitsForAnAgentThatHasNotBegun(t *testing.T) {
	dir := t.TempDir()
	e, err := local.New(local.Options{Dir: dir, AgentPath: "/bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "attempt", "0")
	if err := agent.Folder(folder).Write(v1.Order{Attempt: "attempt"}); err != nil {
		t.Fatal(err)
	}
	log, err := e.Logs(t.Context(), "attempt", 0, run.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, log)
		ended <- err
	}()
	select {
	case <-ended:
		t.Fatal("the log ended before the task began")
	case <-time.After(200 * time.Millisecond): // the reader looks every 50 ms
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestATaskWithAnImageIsRefused(t *testing.T) {
	e := open(t, local.Options{Dir: t.TempDir(), AgentPath: "/bin/sh"})
	err := e.Start(t.Context(), []v1.Order{{Attempt: "a", Set: "worker", Image: "python:3"}})
	if penstock.CodeOf(err) != penstock.Unsupported {
		t.Errorf("starting it gives %v, want unsupported", err)
	}
	if seen, err := e.Observe(t.Context()); len(seen) > 0 || err != nil {
		t.Errorf("then there are %v (%v)", seen, err)
	}
}
