package crash

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

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	var err error
	if repository, err = filepath.Abs("../../.."); err == nil {
		programs, err = os.MkdirTemp("", "penstock-crash-")
	}
	if err == nil {
		defer os.RemoveAll(programs)
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash tests can't run:", err)
		return 1
	}
	return m.Run()
}

// build builds what is shipped, as it is shipped.
func build() error {
	args := []string{"build", "-trimpath", "-o", programs + "/"}
	for _, name := range []string{"penstock", "penstock-agent", "penstock-llama"} {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs: %w\n%s", err, out)
	}
	return nil
}

// llamaFolder is where hack/llama/install.sh leaves the native libraries.
func llamaFolder() string { return filepath.Join(repository, ".build", "llama", "lib") }

// need skips a test for want of something, loudly, except where everything has
// to be there.
func need(t *testing.T, problem error, hint string) {
	t.Helper()
	if problem == nil {
		return
	}
	if os.Getenv("PENSTOCK_CI") != "" {
		t.Fatalf("this test needs what isn't here: %s; %s", problem, hint)
	}
	t.Skipf("NOT TESTED: %s; %s", problem, hint)
}

func needTour(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED: -short leaves out the long crash test")
	}
	out, err := exec.Command("/usr/bin/python3", "-c", "import torch").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("/usr/bin/python3 has no PyTorch: %w: %.200s", err, out)
	}
	need(t, err, "install python3-torch")
	_, err = os.Stat(filepath.Join(llamaFolder(), "libllama.so"))
	need(t, err, "run hack/llama/install.sh")
}
