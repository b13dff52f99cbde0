package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run/runtest"
)

func TestInstallMakesARunnableCopyAndLeavesNothingElse(t *testing.T) {
	if runtest.Race {
		t.Skip("NOT TESTED: with the race detector the agent is started by a script")
	}
	agent, dir := runtest.BuildAgent(t), t.TempDir()
	for range 2 { // a restarted init container does it again
		// No PATH and no HOME: there is nothing but this program in its image.
		cmd := exec.CommandContext(t.Context(), agent, "install", dir)
		cmd.Env = []string{}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("install says %q (%v)", out, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d files are there (%v)", len(entries), err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Name() != "penstock-agent" || info.Mode() != 0o555 {
		t.Errorf("what is there is %s with mode %s (%v)", info.Name(), info.Mode(), err)
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "penstock-agent"), "version").Output(); err != nil || !strings.Contains(string(out), "go1.") {
		t.Errorf("the copy's version says %q (%v)", out, err)
	}
}

// The copy takes the old one's name: who has the old one open, or runs it,
// keeps it whole.
func TestInstallReplacesAndNeverWritesIntoWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, program)
	if err := os.WriteFile(path, []byte("the old one"), 0o400); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := install(dir); err != nil {
		t.Fatal(err)
	}
	var kept bytes.Buffer
	if _, err := kept.ReadFrom(old); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("the old one", kept.String()); diff != "" {
		t.Error(diff)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has %d bytes, the program %d (%v)", len(got), len(want), err)
	}
}

func TestInstallThatCantIsToldAndLeavesNothing(t *testing.T) {
	err := install(filepath.Join(t.TempDir(), "absent"))
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code != penstock.NotFound || e.Hint == "" {
		t.Errorf("into no folder: %v", err)
	}
	// A folder has the name already, so that only the last step is refused.
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, program, "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(dir); !errors.As(err, &e) || e.Code != penstock.Unavailable {
		t.Errorf("over a folder: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files are left (%v)", len(entries), err)
	}
}
