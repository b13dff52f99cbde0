package runtest

import (
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
	args = append(args, raceFlags...)
	cmd := exec.Command("go", append(args, "github.com/penstock/penstock/cmd/penstock-agent")...)
	if len(raceFlags) == 0 {
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build penstock-agent: %v\n%s", err, out)
	}
	return path
}
