package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newTestKeeper has nobody who stores: what it keeps stays in its queue.
func newTestKeeper(t *testing.T) (*keeper, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	steps := filepath.Join(dir, checkpointFolder)
	if err := os.Mkdir(steps, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := newLogWriter(filepath.Join(dir, logFolder), logFileBytes)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKeeper(root, nil, newTestSpool(t), log)
	if err != nil {
		t.Fatal(err)
	}
	return k, steps
}

func writeFiles(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("bytes of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *keeper) scanFor(t *testing.T, when moment) []int64 {
	t.Helper()
	if err := k.scan(t.Context(), when); err != nil {
		t.Fatal(err)
	}
	var steps []int64
	for {
		select {
		case kept := <-k.queue:
			steps = append(steps, kept.step)
			if len(kept.files) != len(kept.copies) {
				t.Errorf("step %d has %d files and %d copies", kept.step, len(kept.files), len(kept.copies))
			}
		default:
			return steps
		}
	}
}

func TestAStepThatIsStillBeingDeletedOrCopiedIsNotKept(t *testing.T) {
	k, steps := newTestKeeper(t)
	step := filepath.Join(steps, "step-4")
	writeFiles(t, step, "a", "b", "c") // its entries are newer than its name
	if got := k.scanFor(t, whileTraining); got != nil {
		t.Fatalf("kept %v at first sight", got)
	}
	if err := os.Remove(filepath.Join(step, "a")); err != nil {
		t.Fatal(err)
	}
	if got := k.scanFor(t, whileTraining); got != nil {
		t.Fatalf("kept %v while it was being deleted", got)
	}
	if got := k.scanFor(t, whileTraining); len(got) != 1 {
		t.Errorf("kept %v, want the step, which has stayed the same for a while", got)
	}
	if got := k.scanFor(t, afterTraining); got != nil {
		t.Errorf("kept %v a second time", got)
	}
}

func TestDeletingAStepThatWasKeptStoresNothingTorn(t *testing.T) {
	k, steps := newTestKeeper(t)
	step := filepath.Join(steps, "step-4")
	writeFiles(t, step, "a", "b")
	if got := k.scanFor(t, afterTraining); len(got) != 1 {
		t.Fatalf("kept %v", got)
	}
	if err := os.Remove(filepath.Join(step, "a")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := k.scanFor(t, whileTraining); got != nil {
			t.Fatalf("kept %v, half of what was kept before", got)
		}
	}
}

func TestAStepWrittenAnewUnderItsNameIsKeptAgain(t *testing.T) {
	k, steps := newTestKeeper(t)
	step := filepath.Join(steps, "step-4")
	for range 3 {
		if err := os.RemoveAll(step); err != nil {
			t.Fatal(err)
		}
		writeFiles(t, step+".tmp", "a")
		if err := os.Rename(step+".tmp", step); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{4}, k.scanFor(t, afterTraining)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAFileWrittenToWhileItIsCopiedSpoilsTheStep(t *testing.T) {
	k, steps := newTestKeeper(t)
	step := filepath.Join(steps, "step-4")
	writeFiles(t, step, "a", "b")
	seen, err := k.survey(4)
	if err != nil {
		t.Fatal(err)
	}
	links, err := k.link(4, seen)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(step, "b"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if kept, err := k.copy(4, seen, links); err == nil {
		t.Errorf("kept %+v, with bytes that are not those of the step", kept)
	}
}

func TestOnlyWholeNumbersAreSteps(t *testing.T) {
	k, steps := newTestKeeper(t)
	for _, name := range []string{"step-3", "step-10", "step-03", "step--1", "step-4.tmp", "step-", "stepp-1", "step-1e3"} {
		writeFiles(t, filepath.Join(steps, name), "a")
	}
	writeFiles(t, steps, "step-7") // a file
	if err := os.Symlink("step-3", filepath.Join(steps, "step-8")); err != nil {
		t.Fatal(err)
	}
	got, err := k.steps()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{3, 10}, got); diff != "" {
		t.Error(diff)
	}
}
