package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

// A batch of reports is bounded, so that the server can bound what it reads. One
// report that is longer goes alone.
const (
	batchReports = 100
	batchBytes   = 512 << 10
)

// spool keeps the reports of a task, in order, until the server has them. They
// are on disk before they are sent, so a server that is away, even for hours,
// costs no memory but a few bytes a report.
type spool struct {
	rank int
	now  func() time.Time

	mu      sync.Mutex
	file    *os.File
	end     int64
	entries []entry // entries[i] is the report with Seq i+1
	taken   int64   // what the server has
	changed chan struct{}
}

// entry says where a report is: on disk, or here if the disk wouldn't take it.
type entry struct {
	offset, length int64
	kept           []byte
}

func newSpool(path string, rank int, now func() time.Time) (*spool, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &spool{rank: rank, now: now, file: file, changed: make(chan struct{})}, nil
}

// add takes a report: it gets its number, time and rank here.
func (s *spool) add(r v1.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Seq, r.Rank, r.At = int64(len(s.entries))+1, s.rank, s.now().UTC()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	b = append(b, '\n')
	e := entry{offset: s.end, length: int64(len(b))}
	if _, err := s.file.WriteAt(b, s.end); err != nil || s.file.Sync() != nil {
		// A full disk must not silence the task: this report waits in memory.
		e.kept, e.length = b, 0
	}
	s.end += e.length
	s.entries = append(s.entries, e)
	s.wake()
	return nil
}

func (s *spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// waiting is how many reports the server doesn't have yet.
func (s *spool) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries) - int(s.taken)
}

// batch gives the reports after the last one taken, bounded, and a channel that
// is closed at the next change.
func (s *spool) batch() ([]v1.Report, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var reports []v1.Report
	size := 0
	for _, e := range s.entries[s.taken:] {
		b, err := s.readEntry(e)
		if err != nil {
			return nil, nil, err
		}
		if size += len(b); len(reports) > 0 && (len(reports) == batchReports || size > batchBytes) {
			break
		}
		var r v1.Report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, nil, fmt.Errorf("read spool: %w", err)
		}
		reports = append(reports, r)
	}
	return reports, s.changed, nil
}

func (s *spool) readEntry(e entry) ([]byte, error) {
	if e.kept != nil {
		return e.kept, nil
	}
	b := make([]byte, e.length)
	if _, err := s.file.ReadAt(b, e.offset); err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	return b, nil
}

// acknowledge notes what the server has. It may be less than before, if the
// server's state was restored from a backup: then the rest is sent again.
func (s *spool) acknowledge(taken int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = min(max(taken, 0), int64(len(s.entries)))
	s.wake()
}

// drained waits until the server has every report, and reports false if ctx
// ended before.
func (s *spool) drained(ctx context.Context) bool {
	for {
		s.mu.Lock()
		left, changed := len(s.entries)-int(s.taken), s.changed
		s.mu.Unlock()
		if left == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// deliver sends reports as they come, until ctx ends or the server disowns the
// attempt, which is the error.
func (s *spool) deliver(ctx context.Context, c *client) error {
	pause := firstPause
	for {
		reports, changed, err := s.batch()
		if err != nil {
			return err
		}
		if len(reports) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				continue
			}
		}
		taken, err := c.report(ctx, reports)
		if disowned(err) {
			return err
		}
		if err == nil {
			s.acknowledge(taken)
		}
		if err == nil && taken >= reports[0].Seq {
			pause = firstPause
			continue
		}
		// Any other refusal may be a server that is not itself: ask again.
		if !sleep(ctx, pause) {
			return nil
		}
		pause = min(2*pause, longPause)
	}
}

func (s *spool) close() error {
	return errors.Join(s.file.Sync(), s.file.Close())
}
