package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
)

// TestExecutor runs the suite of all executors in real pods.
func TestExecutor(t *testing.T) {
	w := need(t)
	o := w.options(t)
	runtest.Run(t, func(t *testing.T) runtest.Harness {
		reopen := func(t *testing.T) run.Executor { return executor(t, o) }
		return runtest.Harness{
			Executor: reopen(t), Reopen: reopen, Orders: runtest.Asked, Node: realNode, Host: w.host, Patience: 2 * time.Minute,
			LocalRank: func(int) int { return 0 }, // a pod has one task
			AgentPID: func(t *testing.T, attempt penstock.UID, rank int) int {
				return w.process(t, attempt, rank, 1)
			},
			PID: w.process,
			Absent: map[string]string{
				"ServingTaskGetsAPortAndBecomesReady": "the test plays the server of a task on this machine's loopback, and a pod has one of its own",
				"FeedAnswersOnItsSocket":              "the test calls a socket on this machine's disk, and a pod has its own",
				"TaskOverItsMemoryIsKilledAndToldSo":  "the kubelet holds the limit, see TestTaskOverItsMemoryIsToldOf",
			},
		}
	})
}

// podOf is the pod of a task, asked for.
func (w *world) podOf(t *testing.T, attempt penstock.UID, rank int) *corev1.Pod {
	t.Helper()
	list, err := w.client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{LabelSelector: ownerLabel + "=" + w.prefix + "," + attemptLabel + "=" + string(attempt)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if _, r, ok := rankOf(&list.Items[i]); ok && r == rank {
			return &list.Items[i]
		}
	}
	t.Fatalf("rank %d of %s has no pod", rank, attempt)
	return nil
}

// process is this machine's number of a process in a task's container: the
// kernel tells all of a process's numbers, the innermost last (proc(5), NSpid).
func (w *world) process(t *testing.T, attempt penstock.UID, rank, pid int) int {
	t.Helper()
	if t.Context().Err() != nil {
		return 0 // the test has ended
	}
	uid := string(w.podOf(t, attempt, rank).UID)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil || innermost(number) != pid {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup"))
		if !strings.Contains(strings.ReplaceAll(string(groups), "_", "-"), uid) {
			continue
		}
		// The pod's own process 1 is the pause container's.
		command, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if pid != 1 || strings.HasPrefix(string(command), agentFolder) {
			return number
		}
	}
	t.Fatalf("there is no process %d in rank %d of %s", pid, rank, attempt)
	return 0
}

func innermost(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			numbers := strings.Fields(rest)
			n, _ := strconv.Atoi(numbers[len(numbers)-1])
			return n
		}
	}
	return 0
}
