package webui

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// Bounds of the ends of logs on a page.
const (
	tailLines = 40
	tailBytes = 16 << 10
	tailRanks = 8
	readBytes = 1 << 20 // of one task's last lines, however long they are
	readTime  = 2 * time.Second
)

// tail is the end of what one task wrote, or why it can't be shown.
type tail struct {
	rank int
	node string
	text string
	err  string
}

// tails are the ends of the logs of the attempt's first ranks.
func (s *site) tails(ctx context.Context, a v1.Attempt) ([]tail, error) {
	executor, err := s.executorOf(ctx, a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	var out []tail
	for _, task := range a.Spec.Tasks[:min(len(a.Spec.Tasks), tailRanks)] {
		t := tail{rank: task.Rank, node: task.Node}
		content, err := readTail(ctx, executor, a.Metadata.UID, task.Rank)
		switch {
		case penstock.CodeOf(err) == penstock.NotFound:
			t.err = "nothing is kept of this task's log"
		case err != nil:
			s.Log.Warn("read log", "attempt", a.Metadata.UID, "rank", task.Rank, "error", err)
			t.err = "the log could not be read"
		}
		t.text = readable(content)
		out = append(out, t)
	}
	return out, nil
}

func (s *site) executorOf(ctx context.Context, a v1.Attempt) (run.Executor, error) {
	var pool v1.Pool
	err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		pool, err = store.Load[v1.PoolSpec, v1.PoolStatus](tx, penstock.Ref{Kind: penstock.KindPool, Name: a.Spec.Pool})
		return err
	})
	if err != nil {
		return nil, err
	}
	executor, ok := s.Executors[pool.Spec.Executor]
	if !ok {
		return nil, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("this server has no executor %q", pool.Spec.Executor)}
	}
	return executor, nil
}

func readTail(ctx context.Context, from run.Executor, attempt penstock.UID, rank int) (string, error) {
	r, err := from.Logs(ctx, attempt, rank, run.LogOptions{Tail: tailLines})
	if err != nil {
		return "", err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, readBytes))
	return string(content), err
}

// escapes are the sequences that colour a terminal and move its cursor (ECMA-48,
// sections 5.3 and 5.4), and those that set its title.
var escapes = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\-_])")

// readable is the end of a log as a terminal would have left it: without
// colours, with each progress line in its last state, and in valid UTF-8.
func readable(s string) string {
	s = escapes.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	lines := strings.Split(strings.TrimRight(s, "\r\n"), "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, "\r")
		line = line[strings.LastIndexByte(line, '\r')+1:]
		lines[i] = strings.Map(func(r rune) rune {
			if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				return -1
			}
			return r
		}, line)
	}
	s = strings.Join(lines, "\n")
	if len(s) <= tailBytes {
		return s
	}
	return "… " + strings.ToValidUTF8(s[len(s)-tailBytes:], "")
}
