package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/api/v1/client"
)

// server is a 'penstock dev' of the tour's own, on a free port, with its data
// and its context file in the tour's folder: it meets no other server.
type server struct {
	cmd          *exec.Cmd
	context, log string
	program, url string
	admin        string // the token that dev made
	ended        chan struct{}
	endedWith    error
}

// startServer runs the server and waits until it answers.
func startServer(ctx context.Context, o options) (*server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, err
	}
	s := &server{
		program: filepath.Join(root, "bin", "penstock"),
		context: filepath.Join(dir, "context.json"), log: filepath.Join(dir, "server.log"), ended: make(chan struct{}),
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(s.program, "dev", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0")
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env(""), log, log
	// Ctrl-C is for the tour, which then ends the work and the server in order.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	go func() {
		s.endedWith = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// env is the environment of a command run with a token. Settings of the user's
// own installation stay out.
func (s *server) env(token string) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PENSTOCK_") || strings.HasPrefix(pair, "PENSTOCK_LLAMA_LIB=") {
			env = append(env, pair)
		}
	}
	env = append(env, "PENSTOCK_CONTEXT="+s.context, "PENSTOCK_PROJECT="+project)
	if token != "" {
		env = append(env, "PENSTOCK_TOKEN="+token)
	}
	return env
}

// ready waits for the context file, which the server writes once it listens,
// and for its first answer.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.readContext(); err == nil {
			if _, err := s.client().Whoami(ctx); err == nil {
				return nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-tick.C:
		case <-s.ended:
			said, _ := os.ReadFile(s.log)
			return fmt.Errorf("the server ended at once: %w\n%s", s.endedWith, said)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w; its log is %s", ctx.Err(), s.log)
		}
	}
}

func (s *server) readContext() error {
	text, err := os.ReadFile(s.context)
	if err != nil {
		return err
	}
	var found struct{ Server, Token string }
	if err := json.Unmarshal(text, &found); err != nil {
		return fmt.Errorf("read %s: %w", s.context, err)
	}
	s.url, s.admin = found.Server, found.Token
	return nil
}

// client is a client with the admin's token.
func (s *server) client() *client.Client { return &client.Client{Base: s.url, Token: s.admin} }

// stop ends the server in order, or by force after a while.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the server didn't end within 20 s of SIGTERM"), s.cmd.Process.Kill())
	}
}

// release empties the tour's folder, unless a server that an earlier tour left
// up still works in it.
func release(dir string) error {
	path := filepath.Join(dir, "data", "lock")
	lock, err := os.Open(path)
	if err == nil {
		held := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		pid, _ := os.ReadFile(path) // only to tell
		if err := lock.Close(); held != nil || err != nil {
			return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("the server of an earlier tour is still up: end its work with 'PENSTOCK_CONTEXT=%s bin/penstock delete project/%s', then 'kill %s'",
				filepath.Join(dir, "context.json"), project, strings.TrimSpace(string(pid)))}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	return os.MkdirAll(dir, 0o700)
}

// torch says whether the training can run.
func torch() error {
	if err := exec.Command("/usr/bin/python3", "-c", "import torch, numpy").Run(); err != nil {
		return &penstock.Error{Code: penstock.NotFound, Msg: "/usr/bin/python3 has no PyTorch: hack/setup/deps.sh torch", Err: err}
	}
	return nil
}
