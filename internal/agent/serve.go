package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// readyPause is the time between two looks whether a serving task answers.
const readyPause = 100 * time.Millisecond

// awaitReady asks a serving task until it answers 200, and reports whether it
// did before ctx ended.
func awaitReady(ctx context.Context, address, path string) bool {
	client := &http.Client{
		Timeout:       2 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url := "http://" + address + "/" + strings.TrimPrefix(path, "/")
	for {
		if answers(ctx, client, url) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(readyPause):
		}
	}
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(req)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16))
	return answer.StatusCode == http.StatusOK
}

// maxSocketPath is what unix(7) allows for the path of a socket, with its
// closing zero byte.
const maxSocketPath = 107

// serveFeed listens on a socket in the task's folder, or in a private folder
// with a shorter name where that would be too long, and gives its path.
func serveFeed(f Folder, handler http.Handler) (socket string, stop func(), err error) {
	socket = f.path("feed.sock")
	dir := ""
	if len(socket) > maxSocketPath {
		if dir, err = os.MkdirTemp("", "penstock-feed-"); err != nil {
			return "", nil, fmt.Errorf("make folder for the feed: %w", err)
		}
		socket = filepath.Join(dir, "feed.sock")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, fmt.Errorf("listen for the feed: %w", errors.Join(err, os.RemoveAll(dir)))
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	return socket, func() {
		_ = server.Close()
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}, nil
}
