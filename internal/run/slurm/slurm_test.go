package slurm_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

func open(t *testing.T, o slurm.Options) *slurm.Executor {
	t.Helper()
	if o.Conf == "" {
		o.Conf = slurmtest.Shared(t).Conf
	}
	o.Poll = 50 * time.Millisecond
	e, err := slurm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExecutor(t *testing.T) {
	slurmtest.Shared(t)
	program := runtest.BuildAgent(t)
	runtest.Run(t, func(t *testing.T) runtest.Harness {
		dir := t.TempDir()
		reopen := func(t *testing.T) run.Executor { return open(t, slurm.Options{Dir: dir, AgentPath: program}) }
		return runtest.Harness{
			Executor: reopen(t), Reopen: reopen, Orders: runtest.Asked, Node: "n1",
			AgentPID: func(t *testing.T, attempt penstock.UID, rank int) int {
				id, _ := agent.Folder(filepath.Join(dir, string(attempt), strconv.Itoa(rank))).Agent()
				return id.PID // 0 if it has not begun
			},
		}
	})
}
