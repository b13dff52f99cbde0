package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/penstock/penstock/api/v1"
)

func newTestSpool(t *testing.T) *spool {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := newSpool(filepath.Join(t.TempDir(), spoolFile), 3, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func addAll(t *testing.T, s *spool, reports ...v1.Report) {
	t.Helper()
	for _, r := range reports {
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
}

// seqs gives the numbers of the reports that would be sent next.
func seqs(t *testing.T, s *spool) []int64 {
	t.Helper()
	reports, _, err := s.batch()
	if err != nil {
		t.Fatal(err)
	}
	var out []int64
	for _, r := range reports {
		out = append(out, r.Seq)
	}
	return out
}

func TestReportsAreNumberedFromOneAndOnDiskBeforeTheyAreSent(t *testing.T) {
	s := newTestSpool(t)
	addAll(t, s, v1.Report{}, v1.Report{Started: &v1.Started{PID: 7}})
	reports, _, err := s.batch()
	if err != nil {
		t.Fatal(err)
	}
	at := s.now()
	want := []v1.Report{{Seq: 1, Rank: 3, At: at}, {Seq: 2, Rank: 3, At: at, Started: &v1.Started{PID: 7}}}
	if diff := cmp.Diff(want, reports); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(s.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\n"); got != 2 {
		t.Errorf("%d lines on disk, want 2", got)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	s := newTestSpool(t)
	for range batchReports + 5 {
		addAll(t, s, v1.Report{})
	}
	if got := len(seqs(t, s)); got != batchReports {
		t.Errorf("a batch has %d reports, want %d", got, batchReports)
	}
	s.acknowledge(batchReports)
	if diff := cmp.Diff([]int64{101, 102, 103, 104, 105}, seqs(t, s)); diff != "" {
		t.Error(diff)
	}
	big := v1.Report{Exited: &v1.Exited{Message: strings.Repeat("x", batchBytes)}}
	addAll(t, s, big, big)
	s.acknowledge(105)
	if diff := cmp.Diff([]int64{106}, seqs(t, s)); diff != "" {
		t.Errorf("one that is too long goes alone: %s", diff)
	}
}

func TestAFullDiskSilencesNothing(t *testing.T) {
	s := newTestSpool(t)
	addAll(t, s, v1.Report{})
	writable := s.file
	readOnly, err := os.Open(writable.Name()) // writing to it fails, as on a full disk
	if err != nil {
		t.Fatal(err)
	}
	s.file = readOnly
	addAll(t, s, v1.Report{})
	s.file = writable
	addAll(t, s, v1.Report{})
	if diff := cmp.Diff([]int64{1, 2, 3}, seqs(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestAServerRestoredFromABackupIsSentTheRestAgain(t *testing.T) {
	s := newTestSpool(t)
	addAll(t, s, v1.Report{}, v1.Report{}, v1.Report{})
	s.acknowledge(3)
	if got := s.waiting(); got != 0 {
		t.Errorf("%d wait, want none", got)
	}
	s.acknowledge(1)
	if diff := cmp.Diff([]int64{2, 3}, seqs(t, s)); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.drained(ctx) {
		t.Error("drained although two reports wait")
	}
}
