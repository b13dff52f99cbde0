package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func readLog(t interface{ Fatal(...any) }, f Folder, tail int, follow func() bool) string {
	r, err := f.Log(tail, follow)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheTailIsTheLastLinesHoweverTheyLieInFiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "log")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		f := Folder(dir)
		writes := rapid.SliceOfN(rapid.StringMatching(`[ab\n]{1,12}`), 1, 8).Draw(t, "writes")
		w, err := newLogWriter(f.path(logFolder), rapid.Int64Range(12, 40).Draw(t, "fileBytes"))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range writes {
			_, _ = w.Write([]byte(text))
		}
		whole := strings.Join(writes, "")
		if got := readLog(t, f, 0, nil); got != whole {
			t.Fatalf("the log is %q, want %q", got, whole)
		}
		lines := strings.SplitAfter(whole, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		n := rapid.IntRange(1, 8).Draw(t, "tail")
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if got := readLog(t, f, n, nil); got != want {
			t.Fatalf("the last %d lines of %q are %q, want %q", n, whole, got, want)
		}
	})
}

func TestOldLogFilesGoAndTheReaderIsTold(t *testing.T) {
	f := Folder(t.TempDir())
	w, err := newLogWriter(f.path(logFolder), 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		_, _ = fmt.Fprintf(w, "line %04d\n", i) // one file each
	}
	got := readLog(t, f, 0, nil)
	if want := "penstock-agent: 12 log files before this are gone"; !strings.HasPrefix(got, want) {
		t.Errorf("the log begins %.80q, want %q", got, want)
	}
	if !strings.Contains(got, "\nline 0012\n") || strings.Contains(got, "line 0011") || !strings.HasSuffix(got, "line 0019\n") {
		t.Errorf("the log is %q, want its newest %d files", got, logFiles)
	}
}

func TestAFollowerReadsAcrossFilesToTheEnd(t *testing.T) {
	f := Folder(t.TempDir())
	w, err := newLogWriter(f.path(logFolder), 64)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	done := make(chan string)
	go func() { done <- readLog(t, f, 0, func() bool { return true }) }()
	for i := range 30 { // less than what is kept
		fmt.Fprintf(&want, "line %d\n", i)
		_, _ = fmt.Fprintf(w, "line %d\n", i)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != want.String() {
		t.Errorf("followed %q, want %q", got, want.String())
	}
}

func TestAFollowerEndsWithItsAgentAndWithClose(t *testing.T) {
	f := Folder(t.TempDir())
	w, err := newLogWriter(f.path(logFolder), 64)
	if err != nil {
		t.Fatal(err)
	}
	w.note("hello")
	var live atomic.Bool
	if got := readLog(t, f, 0, live.Load); got != "penstock-agent: hello\n" {
		t.Errorf("read %q from a dead agent's log", got)
	}
	live.Store(true)
	r, err := f.Log(0, live.Load)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() { _, err := io.ReadAll(r); read <- err }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-read // it ends; with an error or not depends on where it was
}

func TestALogThatCannotBeWrittenTellsWhatItLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), logFolder)
	w, err := newLogWriter(dir, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("lost")); n != 4 || err != nil {
		t.Errorf("a write gave %d, %v: it must never fail", n, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("kept\n"))
	if got := readLog(t, Folder(filepath.Dir(dir)), 0, nil); got != "penstock-agent: 4 bytes of the log could not be written here\nkept\n" {
		t.Errorf("the log is %q", got)
	}
}
