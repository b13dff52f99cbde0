// Package slurmtest gives tests a real Slurm of their own, which hack/slurm
// brings up: nothing is mocked, nothing is shared with another program, and
// nothing is left behind.
//
// A cluster ends with the process that started it, whatever ends that: a watcher
// in a session of its own holds the other end of a pipe. Where Slurm isn't
// installed the test is skipped, or fails under PENSTOCK_CI.
package slurmtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Nodes and GPUs are what a cluster has: nodes n1 to n3, each with so many GPUs
// of type h100, 8 CPUs and 16000 MB.
const (
	Nodes = 3
	GPUs  = 4
)

// Cluster is a running Slurm.
type Cluster struct {
	// Dir is where hack/slurm keeps it; Conf is its SLURM_CONF.
	Dir, Conf string

	script string
	watch  io.Closer // closing it ends the cluster
	ended  <-chan error
}

var shared = sync.OnceValues(open)

// Shared gives the test binary's cluster. Nobody may stop what others need of it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	need(t)
	c, err := shared()
	if err != nil {
		t.Fatalf("start Slurm: %v", err)
	}
	return c
}

// Private gives a cluster that is the test's alone and ends with it.
func Private(t testing.TB) *Cluster {
	t.Helper()
	need(t)
	c, err := open()
	if err != nil {
		t.Fatalf("start Slurm: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.watch.Close(), <-c.ended); err != nil {
			t.Errorf("end Slurm: %v", err)
		}
	})
	return c
}

func need(t testing.TB) {
	t.Helper()
	for _, program := range []string{"slurmctld", "slurmd", "sbatch", "munged", "slurmrestd"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatalf("%s is not installed: run hack/setup/deps.sh slurm", program)
		}
		t.Skipf("NOT TESTED: %s is not installed: run hack/setup/deps.sh slurm", program)
	}
}

// open brings a cluster up in a temporary folder, with a watcher that takes it
// down when this process is gone.
func open() (*Cluster, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "penstock-slurm-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, Conf: filepath.Join(dir, "slurm.conf"), script: filepath.Join(root, "hack", "slurm")}
	watcher := exec.Command("sh", "-c", `cat >/dev/null; "$0" down --dir "$1"; rm -rf "$1"`, c.script, dir)
	watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.watch, err = watcher.StdinPipe(); err != nil {
		return nil, err
	}
	if err := watcher.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- watcher.Wait() }()
	c.ended = ended
	if err := c.up(); err != nil {
		return nil, errors.Join(err, c.watch.Close(), <-ended)
	}
	return c, nil
}

// repository is the folder that has go.mod, at or above where tests run.
func repository() (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(errors.New("there is no go.mod above this folder"), err)
}

func (c *Cluster) up() error {
	cmd := exec.Command(c.script, "up", "--dir", c.Dir, "--nodes", strconv.Itoa(Nodes), "--gpus", strconv.Itoa(GPUs))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hack/slurm up: %w\n%s", err, out)
	}
	return nil
}

// Up starts what is missing of the cluster, such as what Kill has ended.
func (c *Cluster) Up(t testing.TB) {
	t.Helper()
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends a daemon with SIGKILL, and waits until it is gone: slurmctld, or
// slurmd-n1. A controller forgets what it hasn't saved yet: for some seconds
// after a job has started it would start it again.
func (c *Cluster) Kill(t testing.TB, daemon string) {
	t.Helper()
	if err := c.signal(daemon, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", daemon, err)
	}
}

// Stop ends a daemon in order, and waits until it is gone.
func (c *Cluster) Stop(t testing.TB, daemon string) {
	t.Helper()
	if err := c.signal(daemon, syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", daemon, err)
	}
}

func (c *Cluster) signal(daemon string, signal syscall.Signal) error {
	line, err := os.ReadFile(filepath.Join(c.Dir, "pids", daemon))
	if err != nil {
		return err
	}
	number, _, _ := strings.Cut(string(line), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	fd, err := openPID(pid)
	if err != nil {
		return err
	}
	return errors.Join(syscall.Kill(pid, signal), awaitPID(fd), syscall.Close(fd))
}

// Run runs one of Slurm's commands and gives what it wrote, trimmed.
func (c *Cluster) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+c.Conf)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
