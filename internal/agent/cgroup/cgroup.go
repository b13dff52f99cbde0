// Package cgroup holds one task within its limits, with control groups of
// version 1 or 2, whichever of them the machine lets us use.
//
// Files and their meaning: the kernel's documentation, admin-guide/cgroup-v1
// and admin-guide/cgroup-v2.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
)

// Root is where Linux mounts its control groups.
const Root = "/sys/fs/cgroup"

// period is the time over which the CPU limit holds, in microseconds: the
// kernel's default.
const period = 100_000

// Limits are what a task may take. 0 is no limit.
type Limits struct {
	Memory    int64 // bytes
	CPU       int64 // thousandths of a CPU
	Processes int64 // threads count, too
}

// Usage is what a task has taken.
type Usage struct {
	CPU      time.Duration
	MaxBytes int64 // the most memory at any time, cached file pages included
	OOMKills int64 // how often the kernel killed for want of memory
}

// Group is the control group of one task.
type Group struct {
	backend backend
	dirs    []string
}

// backend is what differs between the versions.
type backend interface {
	// version is "v1" or "v2".
	version() string
	// limit writes the limits into the group's files.
	limit(l Limits) error
	// start starts cmd so that it is born inside the group. The calling
	// goroutine is locked to its thread.
	start(cmd *exec.Cmd) error
	usage() (Usage, error)
}

// Create makes the group penstock/<name> below root and sets its limits. name
// may have several parts. An error says why the machine doesn't allow it, and
// then nothing is left behind.
func Create(root, name string, l Limits) (*Group, error) {
	if !filepath.IsLocal(name) {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't name a control group", name)}
	}
	b, dirs, err := open(root, filepath.Join("penstock", name))
	if err == nil {
		err = b.limit(l)
	}
	if err != nil {
		// What was made before the error is empty: no process was in it.
		return nil, errors.Join(err, Remove(dirs))
	}
	return &Group{backend: b, dirs: dirs}, nil
}

func open(root, name string) (backend, []string, error) {
	if controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		if missing := lacks(strings.Fields(string(controllers))); missing != "" {
			return nil, nil, fmt.Errorf("cgroup v2 has no controller %s here", missing)
		}
		return openV2(root, name)
	}
	if _, err := os.Stat(filepath.Join(root, "memory")); err != nil {
		return nil, nil, fmt.Errorf("no control groups at %s", root)
	}
	return openV1(root, name)
}

func lacks(have []string) string {
	for _, want := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(have, want) {
			return want
		}
	}
	return ""
}

// String says how the limits are held: "cgroup v1" or "cgroup v2".
func (g *Group) String() string { return "cgroup " + g.backend.version() }

// Dirs are the group's folders. They are enough to Clear it from outside.
func (g *Group) Dirs() []string { return g.dirs }

// Start starts cmd inside the group. The calling goroutine must be locked to
// its thread (runtime.LockOSThread).
func (g *Group) Start(cmd *exec.Cmd) error { return g.backend.start(cmd) }

// Usage is what all processes of the group have taken so far.
func (g *Group) Usage() (Usage, error) { return g.backend.usage() }

// Clear kills what runs in the group of these folders, waits until it is gone,
// and removes them. Folders that aren't there are done with already.
func Clear(dirs []string) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		alive := Processes(dirs)
		if len(alive) == 0 {
			return Remove(dirs)
		}
		for _, pid := range alive {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of a control group can't be killed, pid %d for one", len(alive), alive[0])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Processes lists the processes in the group of these folders, this one apart.
func Processes(dirs []string) []int {
	var pids []int
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for line := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(line); err == nil && pid != os.Getpid() && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Remove removes the folders of a group in which nothing runs any more, and
// the ones above it that it was the last in.
func Remove(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		// The kernel needs a moment to let go of the last process: EBUSY.
		err := os.Remove(dir)
		for range 100 {
			if !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
			err = os.Remove(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
		}
		_ = os.Remove(filepath.Dir(dir)) // refused while a sibling is there
	}
	return errors.Join(errs...)
}

// makeDir makes a group's folder. The last rank of another gang may remove the
// one above it at the same moment, so it is tried more than once.
func makeDir(dir string) error {
	var err error
	for range 5 {
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	return nil
}

// put writes one value into one of the kernel's files.
func put(dir, file, value string) error {
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", file, value, err)
	}
	return nil
}

// number reads the value of a file that holds one number.
func number(dir, file string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}

// field reads one line "name number" of a file that holds several.
func field(dir, file, name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("read %s: it has no line %s", file, name)
}
