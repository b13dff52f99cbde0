package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/run/runtest"
)

func TestTheProgramIsStaticAndSmall(t *testing.T) {
	if runtest.Race {
		t.Skip("NOT TESTED: with the race detector no program is static")
	}
	path := runtest.BuildAgent(t)
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it asks for a dynamic loader, so it can't be copied into any image")
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(15_000_000); info.Size() > limit {
		t.Errorf("it has %d bytes, more than %d", info.Size(), limit)
	}
	out, err := exec.Command(path, "version").Output()
	if err != nil || !strings.Contains(string(out), "go1.") {
		t.Errorf("version says %q (%v)", out, err)
	}
}

func TestWrongArgumentsAreToldAndExitWith2(t *testing.T) {
	for _, args := range [][]string{nil, {"runn"}, {"run"}, {"run", "--dir", "d", "more"}, {"run", "--nope"}, {"install"}, {"install", "a", "b"}, {"stop", "--dir", "d"}, {"stop", "--grace", "1s"}} {
		var stdout, stderr strings.Builder
		if code := dispatch(args, &stdout, &stderr, nil); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v exits with %d and says %q", args, code, stderr.String())
		}
	}
}

func TestAFolderWithoutAnOrderIsAnError(t *testing.T) {
	var stderr strings.Builder
	if code := dispatch([]string{"run", "--dir", t.TempDir()}, nil, &stderr, nil); code != 1 || !strings.Contains(stderr.String(), "order.json") {
		t.Errorf("exits with %d and says %q", code, stderr.String())
	}
}

func TestPrepareOutsideOfAJobSaysWhatItIs(t *testing.T) {
	t.Setenv("PENSTOCK_PARAM_SPEC", "")
	var stdout, stderr strings.Builder
	if code := dispatch([]string{"prepare"}, &stdout, &stderr, nil); code != 1 || !strings.Contains(stderr.String(), "apply a Dataset") {
		t.Errorf("exits with %d and says %q", code, stderr.String())
	}
}
