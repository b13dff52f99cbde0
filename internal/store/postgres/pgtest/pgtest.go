// Package pgtest gives tests a real PostgreSQL server of their own: nothing is
// mocked, nothing is shared with another program, and nothing is left behind.
//
// Most tests want an empty database and no more:
//
//	url := pgtest.Shared(t).Database(t)
//	s, err := postgres.Open(ctx, postgres.Options{URL: url})
//
// Shared is one server for the whole test binary, started when it is first asked
// for (some 3 s), on a Unix socket in a temporary folder. Each test has a
// database of its own there, which goes with the test. Since the server belongs
// to everybody, nobody may stop it; a test that wants to takes one for itself:
//
//	server := pgtest.Private(t)
//	url := server.Database(t)
//	server.Kill(t)    // as a power cut does: kill -9, nothing is tidied up
//	server.Restart(t) // comes back on the same socket, with the same databases
//
// Servers end with the process that started them, whatever ends that, since a
// watcher of its own session holds the other end of a pipe: when the process
// goes, be it by kill -9, the watcher ends the server and removes the folder.
//
// The server runs without fsync, for speed: it survives kill -9 of itself, which
// tests do, but not the machine's power cut, which they don't. Its databases are
// made for English, so that text whose order must be that of its bytes shows
// where it isn't. Where PostgreSQL isn't installed the test is skipped, or fails
// under PENSTOCK_CI. Run as root, the server is the user postgres.
//
// What is no test (a benchmark) uses Open and Close.
package pgtest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"
)

// patience bounds each step of a test with the server.
const patience = 60 * time.Second

var shared = sync.OnceValues(func() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Open(ctx)
})

// Shared gives the test binary's server. Nobody may stop it.
func Shared(t testing.TB) *Server {
	t.Helper()
	need(t)
	s, err := shared()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	return s
}

// Private gives a server that is the test's alone and ends with it. Settings
// are those of postgresql.conf, such as "max_connections=20".
func Private(t testing.TB, settings ...string) *Server {
	t.Helper()
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := Open(ctx, settings...)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("end PostgreSQL: %v", err)
		}
	})
	return s
}

// need skips a test where there is no PostgreSQL, loudly, except where
// everything has to be there.
func need(t testing.TB) {
	t.Helper()
	_, err := find()
	if err == nil {
		return
	}
	if os.Getenv("PENSTOCK_CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("NOT TESTED: %v", err)
}

// Database makes an empty database and gives its URL. It goes with the test,
// whoever is still connected to it.
func (s *Server) Database(t testing.TB) (url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name, err := s.Create(ctx)
	if err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// A private server that the test has ended takes its databases along.
		if s.running() {
			if err := s.Drop(ctx, name); err != nil {
				t.Errorf("drop a database: %v", err)
			}
		}
	})
	return s.URL(name)
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.kill(); err != nil {
		t.Fatalf("kill PostgreSQL: %v", err)
	}
}

// Stop ends the server in order; connections are cut, their transactions rolled
// back ("fast shutdown").
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

// Restart starts a server that was killed or stopped, and waits until it
// answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.start(ctx); err != nil {
		t.Fatalf("restart PostgreSQL: %v", err)
	}
}
