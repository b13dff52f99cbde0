package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// v1 has a tree for each controller; the task's group stands in each of them.
type v1 struct {
	root string
	dirs map[string]string // by controller
}

func openV1(root, name string) (backend, []string, error) {
	g := v1{root: root, dirs: map[string]string{}}
	var dirs []string
	for _, controller := range []string{"memory", "cpu", "pids", "cpuacct"} {
		tree := filepath.Join(root, controller)
		if _, err := os.Stat(tree); err != nil {
			return nil, dirs, fmt.Errorf("cgroup v1 has no controller %s here", controller)
		}
		dir := filepath.Join(tree, name)
		if err := makeDir(dir); err != nil {
			return nil, dirs, err
		}
		g.dirs[controller] = dir
		dirs = append(dirs, dir)
	}
	return g, dirs, nil
}

func (g v1) version() string { return "v1" }

func (g v1) limit(l Limits) error {
	var errs []error
	set := func(controller, file string, value int64) {
		errs = append(errs, put(g.dirs[controller], file, strconv.FormatInt(value, 10)))
	}
	if l.Memory > 0 {
		set("memory", "memory.limit_in_bytes", l.Memory)
	}
	if l.CPU > 0 {
		set("cpu", "cpu.cfs_period_us", period)
		// The kernel refuses less than a millisecond.
		set("cpu", "cpu.cfs_quota_us", max(l.CPU*period/1000, 1000))
	}
	if l.Processes > 0 {
		set("pids", "pids.max", l.Processes)
	}
	return errors.Join(errs...)
}

// start moves the calling thread alone into the group, so that the process
// which it starts is born there, and then moves it back. Moving the process
// after its start would miss what it has started by then.
func (g v1) start(cmd *exec.Cmd) error {
	home, err := homes()
	if err != nil {
		return err
	}
	defer g.leave(home)
	thread := strconv.Itoa(unix.Gettid())
	for _, dir := range g.dirs {
		if err := put(dir, "tasks", thread); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	return cmd.Start()
}

// leave brings the calling thread back to where it came from, or to the top of
// the tree where that place can't be seen from here.
func (g v1) leave(home map[string]string) {
	thread := strconv.Itoa(unix.Gettid())
	for controller := range g.dirs {
		tree := filepath.Join(g.root, controller)
		if put(filepath.Join(tree, home[controller]), "tasks", thread) != nil {
			_ = put(tree, "tasks", thread)
		}
	}
}

// homes tells in which group of each controller this process is, from lines
// "4:memory:/some/group".
func homes() (map[string]string, error) {
	b, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own control groups: %w", err)
	}
	home := map[string]string{}
	for line := range strings.Lines(string(b)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		for controller := range strings.SplitSeq(controllers, ",") {
			home[controller] = path
		}
	}
	return home, nil
}

func (g v1) usage() (Usage, error) {
	cpu, err1 := number(g.dirs["cpuacct"], "cpuacct.usage") // nanoseconds
	peak, err2 := number(g.dirs["memory"], "memory.max_usage_in_bytes")
	kills, err3 := field(g.dirs["memory"], "memory.oom_control", "oom_kill")
	return Usage{CPU: time.Duration(cpu), MaxBytes: peak, OOMKills: kills}, errors.Join(err1, err2, err3)
}
