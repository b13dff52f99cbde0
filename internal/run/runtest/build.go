package runtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BuildAgent builds penstock-agent as it is shipped, static and small, and gives
// its path. Build it once for a test program: the path goes with t.
func BuildAgent(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "penstock-agent")
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", path}
	cmd := exec.Command("go")
	if Race {
		args = append(args, "-race")
	} else {
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	}
	cmd.Args = append(append(cmd.Args, args...), "github.com/penstock/penstock/cmd/penstock-agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build penstock-agent: %v\n%s", err, out)
	}
	if !Race {
		return path
	}
	// A race must end the agent, or nobody would see it.
	wrapper := filepath.Join(dir, "halting")
	script := fmt.Sprintf("#!/bin/sh\nGORACE=halt_on_error=1 exec %s \"$@\"\n", path)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return wrapper
}
