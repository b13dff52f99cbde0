package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// programs are the parts of the cluster whose processor time is counted.
var programs = []string{"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kwok"}

// cluster is where the cluster is.
type cluster struct {
	kubeconfig string
	address    string // of its API server and the others' metrics
	host       string // this machine's address, seen from there
}

// bringUp starts the cluster, or changes how many fake nodes it has.
func bringUp(ctx context.Context, nodes int) (cluster, error) {
	up := exec.CommandContext(ctx, "hack/cluster", "up", "--nodes", strconv.Itoa(nodes))
	up.Stdout, up.Stderr = os.Stdout, os.Stderr
	if err := up.Run(); err != nil {
		return cluster{}, fmt.Errorf("hack/cluster up: %w", err)
	}
	out, err := exec.CommandContext(ctx, "hack/cluster", "env").Output()
	if err != nil {
		return cluster{}, fmt.Errorf("hack/cluster env: %w", err)
	}
	var c cluster
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case "KUBECONFIG":
			c.kubeconfig = value
		case "PENSTOCK_CLUSTER_ADDRESS":
			c.address = value
		case "PENSTOCK_CLUSTER_HOST":
			c.host = value
		}
	}
	return c, nil
}

// cpu is the processor time, in seconds, that each program has used so far, and
// this one under the name "bench".
func (c cluster) cpu() (map[string]float64, error) {
	used := map[string]float64{}
	own, err := processTime("self")
	if err != nil {
		return nil, err
	}
	used["bench"] = own
	for _, name := range programs {
		pid, err := os.ReadFile(filepath.Join(filepath.Dir(c.kubeconfig), "pids", name))
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		if used[name], err = processTime(string(bytes.TrimSpace(pid))); err != nil {
			return nil, fmt.Errorf("processor time of %s: %w", name, err)
		}
	}
	return used, nil
}

// ticks is the unit of times in /proc: USER_HZ, a hundredth of a second wherever
// Linux runs Go.
const ticks = 100

// processTime is the user and system time of a process, in seconds: the fields
// utime and stime of proc_pid_stat(5).
func processTime(pid string) (float64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%s/stat has %d fields after the name", pid, len(fields))
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks, err
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
