// Package runtest is the conformance suite of the run.Executor port. It really
// starts agents and their commands, kills them, and takes the server away from
// them.
//
// What is shared with other tests: Server, the agents' side of a server in
// memory, and BuildAgent.
package runtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// Source says where agents have their orders from.
type Source string

// Written orders stand in the task's folder, which the executor made on this
// machine. For Asked ones the agents ask the server: the engine chose where and
// when they start, it holds their limits and binds their devices.
const (
	Written Source = ""
	Asked   Source = "asked"
)

// Harness is one adapter under test, on this machine. What follows AgentPID is
// for engines whose tasks have a world of their own: other users, other
// addresses, other process numbers.
type Harness struct {
	Executor run.Executor
	// Orders is where the agents have them from.
	Orders Source
	// Node is the node that orders name; empty is one by the name of here.
	Node string
	// Reopen gives another Executor of the same place, as a restarted server
	// would make it. The first one isn't used any more.
	Reopen func(t *testing.T) run.Executor
	// AgentPID is the process of a task's agent.
	AgentPID func(t *testing.T, attempt penstock.UID, rank int) int

	// Absent are promises that can't be put to this engine, each with the reason:
	// they are skipped, and say so.
	Absent map[string]string
	// Host is the address of this machine at which tasks reach it; empty is the
	// loopback. With it, the folders of a test are open to any user.
	Host string
	// LocalRank is what a task of a rank is told; nil is the rank itself.
	LocalRank func(rank int) int
	// PID is this machine's number of a process that calls itself pid; nil is the
	// same number.
	PID func(t *testing.T, attempt penstock.UID, rank, pid int) int
	// Patience is how long anything may take; 0 is 30 s.
	Patience time.Duration
}

// Run runs the suite. make gives a Harness of an empty place.
func Run(t *testing.T, make func(t *testing.T) Harness) {
	for _, c := range promises() {
		t.Run(c.name, func(t *testing.T) {
			h := make(t)
			if why := h.Absent[c.name]; why != "" {
				t.Skip("NOT APPLICABLE: " + why)
			}
			b := &bench{t: t, Harness: h, Server: NewServerAt(t, h.Host), scratch: t.TempDir()}
			if h.Host != "" {
				open(t, b.scratch)
			}
			b.attempt = penstock.UID(fmt.Sprintf("attempt-%d-%s", os.Getpid(), strings.ToLower(c.name)))
			t.Cleanup(b.clear)
			c.test(b)
		})
	}
}

// open lets any user into one of a test's folders.
func open(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// promise is one test of the suite.
type promise struct {
	name string
	test func(b *bench)
}

func promises() []promise {
	return []promise{
		{"GangStartsWholeWithRanksAndOneMaster", gangStarts},
		{"StartingAgainChangesNothing", startTwice},
		{"AnotherServerFindsWhatRuns", reopen},
		{"StopSendsTermThenKills", stopKills},
		{"StoppingAgainWithLessGraceShortensIt", stopShorter},
		{"StoppedTaskMayEndByItself", stopGently},
		{"StopWhileStagingStartsNothing", stopStaging},
		{"KilledAgentIsGoneAndSoIsAllItStarted", agentKilled},
		{"KilledWorkerIsReportedWithItsSignal", workerKilled},
		{"WhatACommandLeavesBehindIsKilled", leftovers},
		{"ReportsSurviveAServerThatIsAway", serverAway},
		{"LostAnswersCountNothingTwice", answersLost},
		{"FencedAgentKillsItsTaskAndLeaves", fenced},
		{"OutputsAreStoredBeforeExited", outputs},
		{"SymbolicLinkInAnOutputFailsTheTask", outputLink},
		{"FailedTaskStoresNoOutputs", noOutputs},
		{"CheckpointIsStoredThoughTheTrainerDeletesIt", checkpointDeleted},
		{"CheckpointIsStoredAsItWasRenamed", checkpointOverwritten},
		{"UnfinishedCheckpointIsNeverStored", checkpointUnfinished},
		{"LastCheckpointIsStoredBeforeExited", checkpointLast},
		{"RestoredCheckpointStandsThereAndIsNotStoredAgain", restore},
		{"DataIsStagedReadOnlyAndVerified", staging},
		{"SpoiledDataStartsNothing", stagingSpoiled},
		{"PathsCannotLeaveTheTask", stagingEscape},
		{"SecretsAreFilesAndNowhereElse", secrets},
		{"EnvironmentIsBuiltFromNothing", environment},
		{"LogsFollowToTheEndAndTail", logs},
		{"RunningAttemptCannotBeForgotten", forget},
		{"MissingCommandSaysSo", missingCommand},
		{"ServingTaskGetsAPortAndBecomesReady", serving},
		{"FeedAnswersOnItsSocket", feed},
		{"FeedThatCannotBeStartsNothing", feedRefused},
		{"MetricsAreReportedAndBadLinesToldOnce", metrics},
		{"AgentIsACommandItself", builtin},
		{"UsageIsReported", usage},
		{"TaskOverItsMemoryIsKilledAndToldSo", memory},
		{"NodesHaveCapacity", nodes},
	}
}

// bench is one test's world: an executor, a server, one attempt.
type bench struct {
	Harness
	*Server
	t       *testing.T
	attempt penstock.UID
	scratch string // a folder that commands write to; $SCRATCH
}

// order is the order of one rank whose command is a shell script.
func (b *bench) order(rank, world int, script string) v1.Order {
	local := rank
	if b.LocalRank != nil {
		local = b.LocalRank(rank)
	}
	return v1.Order{
		Server: b.Contact(), Project: "vision", Job: "train", JobUID: "job-1", Attempt: b.attempt, Number: 1,
		Set: "worker", Index: rank, Rank: rank, LocalRank: local, WorldSize: world, Node: cmp.Or(b.Node, "here"),
		Command: []string{"/bin/sh", "-c", script},
		Env:     map[string]string{"SCRATCH": b.scratch},
		Grace:   v1.Duration(20 * time.Second),
	}
}

// run starts a gang of one.
func (b *bench) run(script string, edits ...func(*v1.Order)) {
	b.t.Helper()
	o := b.order(0, 1, script)
	for _, edit := range edits {
		edit(&o)
	}
	b.start(o)
}

func (b *bench) start(gang ...v1.Order) {
	b.t.Helper()
	b.Keep(gang)
	if err := b.Executor.Start(b.t.Context(), gang); err != nil {
		b.t.Fatalf("start: %v", err)
	}
	// An engine may take its time; what tests look at comes after.
	b.await("that nothing waits for the engine", func() bool {
		states := b.states()
		for _, o := range states {
			if o.State == run.Pending {
				return false
			}
		}
		return len(states) == len(gang)
	})
}

func (b *bench) stop(grace time.Duration) {
	b.t.Helper()
	if err := b.Executor.Stop(b.t.Context(), b.attempt, grace); err != nil {
		b.t.Fatalf("stop: %v", err)
	}
}

// await waits for something to become so.
func (b *bench) await(what string, so func() bool) {
	b.t.Helper()
	patience := cmp.Or(b.Patience, 30*time.Second)
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s did not happen in %s; seen: %+v; reports: %s; log:\n%s", what, patience, b.states(), b.kinds(0), b.log(0))
		}
	}
}

// find is the first report of a rank that has what part asks for.
func find[T any](b *bench, rank int, part func(v1.Report) *T) *T {
	for _, r := range b.Reports(rank) {
		if p := part(r); p != nil {
			return p
		}
	}
	return nil
}

func startedPart(r v1.Report) *v1.Started { return r.Started }
func readyPart(r v1.Report) *v1.Ready     { return r.Ready }
func exitedPart(r v1.Report) *v1.Exited   { return r.Exited }
func savedPart(r v1.Report) *v1.Saved     { return r.Checkpoint }

// exited waits for the last report of a rank.
func (b *bench) exited(rank int) v1.Exited {
	b.t.Helper()
	b.await(fmt.Sprintf("the exit of rank %d", rank), func() bool { return find(b, rank, exitedPart) != nil })
	return *find(b, rank, exitedPart)
}

// succeed waits for the end and wants it to be a good one.
func (b *bench) succeed() {
	b.t.Helper()
	if e := b.exited(0); e.Code != 0 || e.StartFailed {
		b.t.Fatalf("exited with %+v; log:\n%s", e, b.log(0))
	}
}

// kinds names a rank's reports in order, without heartbeats and metrics.
func (b *bench) kinds(rank int) string {
	var kinds []string
	for _, r := range b.Reports(rank) {
		switch {
		case r.Started != nil:
			kinds = append(kinds, "started")
		case r.Ready != nil:
			kinds = append(kinds, "ready")
		case r.Checkpoint != nil:
			kinds = append(kinds, fmt.Sprintf("step-%d", r.Checkpoint.Step))
		case r.Output != nil:
			kinds = append(kinds, "output:"+r.Output.Name)
		case r.Exited != nil:
			kinds = append(kinds, "exited")
		}
	}
	return strings.Join(kinds, " ")
}

func (b *bench) states() map[int]run.Observation {
	b.t.Helper()
	all, err := b.Executor.Observe(context.WithoutCancel(b.t.Context()))
	if err != nil {
		b.t.Fatalf("observe: %v", err)
	}
	states := map[int]run.Observation{}
	for _, o := range all {
		if o.Attempt == b.attempt {
			states[o.Rank] = o
		}
	}
	return states
}

// gone waits until every task of the attempt is gone.
func (b *bench) gone() {
	b.t.Helper()
	b.await("the end of every agent", func() bool {
		for _, o := range b.states() {
			if o.State != run.Gone {
				return false
			}
		}
		return true
	})
}

func (b *bench) log(rank int) string {
	r, err := b.Executor.Logs(context.WithoutCancel(b.t.Context()), b.attempt, rank, run.LogOptions{})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// saw waits until a command has written a file into $SCRATCH, and gives it.
func (b *bench) saw(name string) string {
	b.t.Helper()
	path := filepath.Join(b.scratch, name)
	b.await("the file "+name, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// tell makes a file in $SCRATCH that a command waits for.
func (b *bench) tell(name string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.scratch, name), nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// waitFor is shell that waits for what tell makes.
func waitFor(name string) string {
	return fmt.Sprintf("while [ ! -e $SCRATCH/%s ]; do sleep 0.02; done; ", name)
}

// alive reports whether a process is there and has not ended.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	after := string(text[strings.LastIndexByte(string(text), ')')+1:])
	return !slices.Contains([]string{"Z", "X"}, strings.Fields(after)[0])
}

// pid reads the number that a process of rank 0 has written, as this machine
// numbers it.
func (b *bench) pid(text string) int {
	b.t.Helper()
	pid, err := strconv.Atoi(text)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.PID != nil {
		return b.PID(b.t, b.attempt, 0, pid)
	}
	return pid
}

func (b *bench) kill(pid int) {
	b.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
}

// clear ends what a test left running.
func (b *bench) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), max(b.Patience, 30*time.Second))
	defer cancel()
	_ = b.Executor.Stop(ctx, b.attempt, 0)
	b.Fence()
	for {
		err := b.Executor.Forget(ctx, b.attempt)
		if err == nil {
			return
		}
		if penstock.CodeOf(err) != penstock.Busy || ctx.Err() != nil {
			b.t.Errorf("forget: %v", errors.Join(err, ctx.Err()))
			return
		}
		for rank := range b.states() {
			if pid := b.AgentPID(b.t, b.attempt, rank); b.t.Failed() && alive(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}
