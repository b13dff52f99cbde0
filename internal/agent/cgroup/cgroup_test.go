package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeV2 is a folder that looks like the top of a version 2 tree.
func fakeV2(t *testing.T, controllers string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte(controllers), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestV2WritesTheLimitsWhereTheKernelReadsThem(t *testing.T) {
	root := fakeV2(t, "cpuset cpu io memory pids\n")
	g, err := Create(root, "attempt/3", Limits{Memory: 64 << 20, CPU: 1500, Processes: 100})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "penstock", "attempt", "3")
	got := map[string]string{
		"dirs":       strings.Join(g.Dirs(), ","),
		"name":       g.String(),
		"memory.max": read(t, dir, "memory.max"),
		"cpu.max":    read(t, dir, "cpu.max"),
		"pids.max":   read(t, dir, "pids.max"),
		"top":        read(t, root, "cgroup.subtree_control"),
		"penstock":   read(t, root, "penstock", "cgroup.subtree_control"),
		"attempt":    read(t, root, "penstock", "attempt", "cgroup.subtree_control"),
	}
	down := "+memory +cpu +pids"
	want := map[string]string{
		"dirs": dir, "name": "cgroup v2", "memory.max": "67108864", "cpu.max": "150000 100000", "pids.max": "100",
		"top": down, "penstock": down, "attempt": down,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestV2TellsWhatWasUsed(t *testing.T) {
	root := fakeV2(t, "cpu memory pids")
	g, err := Create(root, "a/0", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"cpu.stat":      "usage_usec 2500000\nuser_usec 2000000\n",
		"memory.peak":   "1048576\n",
		"memory.events": "low 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n",
	} {
		if err := os.WriteFile(filepath.Join(g.Dirs()[0], file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{CPU: 2500 * time.Millisecond, MaxBytes: 1 << 20, OOMKills: 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAMachineWithoutTheControllersSaysWhichIsMissing(t *testing.T) {
	_, err := Create(fakeV2(t, "hugetlb cpu memory"), "a/0", Limits{})
	if err == nil || !strings.Contains(err.Error(), "no controller pids") {
		t.Errorf("got %v, want the missing controller", err)
	}
	_, err = Create(t.TempDir(), "a/0", Limits{})
	if err == nil || !strings.Contains(err.Error(), "no control groups") {
		t.Errorf("got %v, want that there are none", err)
	}
}

func TestANameCannotLeaveTheGroup(t *testing.T) {
	if _, err := Create(fakeV2(t, "cpu memory pids"), "../other", Limits{}); err == nil {
		t.Error("a name with .. was accepted")
	}
}

// realGroup makes a group on this machine, or skips and says why.
func realGroup(t *testing.T, l Limits) *Group {
	t.Helper()
	g, err := Create(Root, "test-"+strings.ToLower(t.Name())+"/0", l)
	if err != nil {
		t.Skipf("NOT TESTED: this machine gives no control groups: %v", err)
	}
	t.Cleanup(func() {
		if err := Clear(g.Dirs()); err != nil {
			t.Error(err)
		}
		for _, dir := range g.Dirs() {
			if _, err := os.Stat(filepath.Dir(dir)); err == nil {
				t.Errorf("%s is left", filepath.Dir(dir))
			}
		}
	})
	return g
}

func start(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	runtime.LockOSThread()
	err := g.Start(cmd)
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestARealTaskIsBornInItsGroupAndTheStarterIsNot(t *testing.T) {
	g := realGroup(t, Limits{Memory: 256 << 20, CPU: 1000, Processes: 64})
	cmd := start(t, g, "exec sleep 60")
	pids := Processes(g.Dirs())
	if diff := cmp.Diff([]int{cmd.Process.Pid}, pids); diff != "" {
		t.Errorf("processes in the group: %s", diff)
	}
	if own := read(t, "/proc/self/cgroup"); strings.Contains(own, "penstock") {
		t.Errorf("the starter is in the group:\n%s", own)
	}
	if err := Clear(g.Dirs()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want that Clear killed it", err)
	}
}

func TestARealTaskThatTakesTooMuchMemoryIsKilledAndCounted(t *testing.T) {
	g := realGroup(t, Limits{Memory: 32 << 20})
	// dd keeps one block of 200 MiB in memory.
	cmd := start(t, g, "exec dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null")
	if err := cmd.Wait(); err == nil {
		t.Fatal("it had 200 MiB within a limit of 32 MiB")
	}
	used, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if used.OOMKills == 0 || used.MaxBytes == 0 || used.CPU == 0 {
		t.Errorf("got %+v, want a kill, a peak and CPU time", used)
	}
}
