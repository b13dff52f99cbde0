package local_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/local"
	"github.com/penstock/penstock/internal/run/runtest"
)

func TestExecutor(t *testing.T) {
	program := runtest.BuildAgent(t)
	runtest.Run(t, func(t *testing.T) runtest.Harness {
		dir := t.TempDir()
		open := func(t *testing.T) run.Executor {
			e, err := local.New(local.Options{Dir: dir, AgentPath: program, Node: "here"})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		return runtest.Harness{Executor: open(t), Reopen: open, AgentPID: func(t *testing.T, attempt penstock.UID, rank int) int {
			id, err := agent.Folder(filepath.Join(dir, string(attempt), strconv.Itoa(rank))).Agent()
			if err != nil {
				t.Fatal(err)
			}
			return id.PID
		}}
	})
}
