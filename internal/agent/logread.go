package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Log opens what the task of this folder wrote to stdout and stderr: from the
// last tail lines on, or from the beginning with tail 0. Where follow is not
// nil, reading waits for more until the log is ended or follow, asked now and
// then, says that no agent is there any more. The caller closes.
func (f Folder) Log(tail int, follow func() bool) (io.ReadCloser, error) {
	r := &logReader{dir: f.path(logFolder), follow: follow, closed: make(chan struct{})}
	numbers, err := logNumbers(r.dir)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		r.next = 1
		return r, nil
	}
	r.next = numbers[0]
	if tail > 0 {
		return r, r.seekTail(numbers, tail)
	}
	r.noteGap(numbers[0] - 1)
	return r, nil
}

// logNumbers lists the files that are there, oldest first.
func logNumbers(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".log")
		if n, err := strconv.Atoi(digits); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

type logReader struct {
	dir    string
	follow func() bool
	file   *os.File // the one being read
	next   int      // the number of the one after it
	notice string   // to be read before anything else

	mu     sync.Mutex // guards the fields above
	closed chan struct{}
	once   sync.Once
}

// Read implements io.Reader.
func (r *logReader) Read(p []byte) (int, error) {
	for {
		// Asked before reading: what was written before the end is then seen.
		over := r.over()
		n, err := r.step(p)
		if n > 0 || err != nil {
			return n, err
		}
		if over {
			return 0, io.EOF
		}
		select {
		case <-r.closed:
			return 0, io.EOF
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// step reads what is there, and 0 bytes where nothing is yet.
func (r *logReader) step(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.notice != "" {
			n := copy(p, r.notice)
			r.notice = r.notice[n:]
			return n, nil
		}
		if n, err := r.read(p); n > 0 || err != nil {
			return n, err
		}
		if advanced, err := r.advance(); err != nil || !advanced {
			return 0, err
		}
	}
}

func (r *logReader) read(p []byte) (int, error) {
	if r.file == nil {
		return 0, nil
	}
	n, err := r.file.Read(p)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (r *logReader) over() bool {
	if r.follow == nil {
		return true
	}
	_, err := os.Stat(filepath.Join(r.dir, logDone))
	return err == nil || !r.follow()
}

// advance goes on to the next file, if the writer has made it. Only then is the
// one before it complete, so what came last in that one is read first.
func (r *logReader) advance() (bool, error) {
	numbers, err := logNumbers(r.dir)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(numbers, func(n int) bool { return n >= r.next })
	if i < 0 {
		return false, nil
	}
	if r.file != nil && r.rest() {
		return true, nil
	}
	next, err := os.Open(filepath.Join(r.dir, logName(numbers[i])))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // it was dropped just now; a newer one is there
	}
	if err != nil {
		return false, fmt.Errorf("open log file: %w", err)
	}
	r.noteGap(numbers[i] - r.next)
	if r.file != nil {
		_ = r.file.Close()
	}
	r.file, r.next = next, numbers[i]+1
	return true, nil
}

// rest reports whether the file has more than was read.
func (r *logReader) rest() bool {
	at, err1 := r.file.Seek(0, io.SeekCurrent)
	info, err2 := r.file.Stat()
	return err1 == nil && err2 == nil && info.Size() > at
}

func (r *logReader) noteGap(files int) {
	if files > 0 {
		r.notice = fmt.Sprintf("penstock-agent: %d log files before this are gone: only the newest %d are kept\n", files, logFiles)
	}
}

// Close implements io.Closer, also while a Read waits.
func (r *logReader) Close() error {
	r.once.Do(func() { close(r.closed) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// seekTail opens the file in which the last lines begin, at their beginning.
func (r *logReader) seekTail(numbers []int, lines int) error {
	for i, number := range slices.Backward(numbers) {
		file, err := os.Open(filepath.Join(r.dir, logName(number)))
		if err != nil {
			return fmt.Errorf("open log file: %w", err)
		}
		end, err := file.Seek(0, io.SeekEnd)
		if i == len(numbers)-1 {
			end-- // a newline at the very end begins no further line
		}
		var at int64
		var left int
		if err == nil {
			at, left, err = lineStart(file, end, lines)
		}
		if err == nil && (left == 0 || i == 0) {
			_, err = file.Seek(at, io.SeekStart)
			r.file, r.next = file, number+1
			return err
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("read log file: %w", err)
		}
		lines = left
	}
	return nil
}

// lineStart gives the offset just after the n-th newline before end, counted
// backwards. Where there are fewer, it is 0, and left is how many are missing.
func lineStart(file io.ReaderAt, end int64, n int) (at int64, left int, err error) {
	chunk := make([]byte, 64<<10)
	for end > 0 {
		from := max(0, end-int64(len(chunk)))
		part := chunk[:end-from]
		if _, err := file.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, n, err
		}
		for i, b := range slices.Backward(part) {
			if b != '\n' {
				continue
			}
			if n--; n == 0 {
				return from + int64(i) + 1, 0, nil
			}
		}
		end = from
	}
	return 0, n, nil
}
