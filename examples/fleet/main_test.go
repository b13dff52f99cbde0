// Package fleet has no code: its tests hold that what stands here to be copied
// runs on a real Kubernetes and a real Slurm, with state in PostgreSQL, bytes in
// S3 and PyTorch in the tasks. Each brings a server of its own, takes tasks away
// from the training as clusters do, and sees that it goes on.
package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs is the folder of the programs under test, built once; repository is
// the root of the source.
var programs, repository string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if repository, err = filepath.Abs(filepath.Join("..", "..")); err == nil {
		programs, err = os.MkdirTemp("", "penstock-fleet-")
	}
	if err == nil {
		defer os.RemoveAll(programs)
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the fleet's tests can't run:", err)
		return 1
	}
	return m.Run()
}

// build builds what is shipped, as it is shipped: pods have no library to link.
func build() error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", programs+"/", "./cmd/penstock", "./cmd/penstock-agent")
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs: %w\n%s", err, out)
	}
	return nil
}

// need skips a test for want of something, loudly, except where everything has
// to be there.
func need(t *testing.T, problem error, hint string) {
	t.Helper()
	switch {
	case problem == nil:
	case os.Getenv("PENSTOCK_CI") != "":
		t.Fatalf("this test needs what isn't here: %v; %s", problem, hint)
	default:
		t.Skipf("NOT TESTED: %v; %s", problem, hint)
	}
}

func needTorch(t *testing.T) {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", "-c", "import torch, numpy").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("/usr/bin/python3 has no PyTorch: %w: %.200s", err, out)
	}
	need(t, err, "run hack/setup/deps.sh torch")
}
