package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// v2 has one tree; the group's folder is all there is.
type v2 string

func openV2(root, name string) (backend, []string, error) {
	dir := filepath.Join(root, name)
	// A group has the controllers that the one above it hands down.
	above := root
	for part := range strings.SplitSeq(name, string(filepath.Separator)) {
		if err := put(above, "cgroup.subtree_control", "+memory +cpu +pids"); err != nil {
			return nil, []string{dir}, fmt.Errorf("hand down controllers: %w", err)
		}
		above = filepath.Join(above, part)
		if err := makeDir(above); err != nil {
			return nil, []string{dir}, err
		}
	}
	return v2(dir), []string{dir}, nil
}

func (g v2) version() string { return "v2" }

func (g v2) limit(l Limits) error {
	var errs []error
	if l.Memory > 0 {
		errs = append(errs, put(string(g), "memory.max", strconv.FormatInt(l.Memory, 10)))
	}
	if l.CPU > 0 {
		errs = append(errs, put(string(g), "cpu.max", fmt.Sprintf("%d %d", max(l.CPU*period/1000, 1000), period)))
	}
	if l.Processes > 0 {
		errs = append(errs, put(string(g), "pids.max", strconv.FormatInt(l.Processes, 10)))
	}
	return errors.Join(errs...)
}

// start lets the kernel put the new process into the group as it makes it
// (clone3 with CLONE_INTO_CGROUP).
func (g v2) start(cmd *exec.Cmd) error {
	dir, err := os.Open(string(g))
	if err != nil {
		return fmt.Errorf("open control group: %w", err)
	}
	defer dir.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(dir.Fd())
	return cmd.Start()
}

func (g v2) usage() (Usage, error) {
	cpu, err1 := field(string(g), "cpu.stat", "usage_usec")
	peak, err2 := number(string(g), "memory.peak")
	kills, err3 := field(string(g), "memory.events", "oom_kill")
	return Usage{CPU: time.Duration(cpu) * time.Microsecond, MaxBytes: peak, OOMKills: kills}, errors.Join(err1, err2, err3)
}
