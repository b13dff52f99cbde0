package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Logs are files of a fixed size, numbered from 1: only the newest are kept.
const (
	logFileBytes = 4 << 20
	logFiles     = 8
	logDone      = "done" // no more will be written
)

// logWriter keeps what the command writes, and notes of the agent, in the order
// in which they come. It never fails: a command must not die because a disk is
// full. What could not be kept is counted and told.
type logWriter struct {
	dir       string
	fileBytes int64
	echo      io.Writer // gets the same; nil is nobody

	mu     sync.Mutex
	file   *os.File
	number int
	size   int64
	lost   int64
}

func newLogWriter(dir string, fileBytes int64) (*logWriter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log folder: %w", err)
	}
	return &logWriter{dir: dir, fileBytes: fileBytes}, nil
}

func logName(number int) string { return fmt.Sprintf("%08d.log", number) }

// Write implements io.Writer.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(p)
	if w.echo != nil {
		_, _ = w.echo.Write(p) // the engine's own log is a convenience
	}
	return len(p), nil
}

// note writes a line of the agent's own.
func (w *logWriter) note(format string, args ...any) {
	_, _ = w.Write([]byte("penstock-agent: " + fmt.Sprintf(format, args...) + "\n"))
}

func (w *logWriter) keep(p []byte) {
	if w.lost > 0 {
		p = append(fmt.Appendf(nil, "penstock-agent: %d bytes of the log could not be written here\n", w.lost), p...)
	}
	if err := w.rotate(); err != nil {
		w.lost += int64(len(p))
		return
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	w.lost = 0
	if err != nil {
		w.lost = int64(len(p) - n)
	}
}

// rotate makes sure that there is a file with room in it.
func (w *logWriter) rotate() error {
	if w.file != nil && w.size < w.fileBytes {
		return nil
	}
	next, err := os.OpenFile(filepath.Join(w.dir, logName(w.number+1)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if w.file != nil {
		_ = w.file.Close()
	}
	w.file, w.size = next, 0
	w.number++
	_ = os.Remove(filepath.Join(w.dir, logName(w.number-logFiles)))
	return nil
}

// close ends the log: who follows it knows that no more comes.
func (w *logWriter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	done, err2 := os.Create(filepath.Join(w.dir, logDone))
	if err2 == nil {
		err2 = done.Close()
	}
	return errors.Join(err, err2)
}
