// Package s3test gives a test a running S3 server with a bucket: versitygw,
// which hack/versitygw/install.sh builds, keeping objects as files in a folder
// of the test.
//
//	server := s3test.Start(t)
//	store, err := s3.Open(ctx, s3.Options{
//		Endpoint: server.Endpoint, Bucket: server.Bucket, Region: server.Region,
//		Credentials: s3.Credentials{From: s3.FromFile, File: server.CredentialsFile},
//	})
//
// The server takes a port that is free, and another one if somebody is quicker.
// It ends with the test, and with the test binary whatever ends that: the
// kernel kills it. Where it isn't installed the test is skipped, or fails under
// PENSTOCK_CI.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// Domain is the one whose names are buckets, for requests in virtual-host
	// style. No DNS knows it.
	Domain = "s3.penstock.test"

	variable = "PENSTOCK_S3TEST"
	starts   = 5 // ports tried
	patience = 20 * time.Second
)

// Server is a running server and a bucket in it.
type Server struct {
	Endpoint string // URL
	Region   string
	Bucket   string
	// AccessKey and SecretKey are those of somebody who may do anything.
	AccessKey, SecretKey string
	// CredentialsFile holds them in AWS shared credentials format, as "default".
	CredentialsFile string
	// Folder holds the objects of the bucket as files, named by their keys.
	Folder string
}

// Start starts a server that ends with the test. In a process that a test
// started, it gives the server that was passed on.
func Start(tb testing.TB) *Server {
	tb.Helper()
	if passed := os.Getenv(variable); passed != "" {
		s := new(Server)
		if err := json.Unmarshal([]byte(passed), s); err != nil {
			tb.Fatalf("%s: %v", variable, err)
		}
		return s
	}
	program := find(tb)
	folder := tb.TempDir()
	for _, sub := range []string{"root", "metadata", "users"} {
		if err := os.Mkdir(filepath.Join(folder, sub), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	s := &Server{Region: "us-east-1", Bucket: "penstock", AccessKey: "root" + rand.Text(), SecretKey: rand.Text()}
	s.Folder = filepath.Join(folder, "root", s.Bucket)
	s.CredentialsFile = s.writeCredentials(tb, s.AccessKey, s.SecretKey)
	var said string
	for range starts {
		p, err := s.run(program, folder)
		if err != nil {
			tb.Fatalf("start %s: %v", program, err)
		}
		if s.answers(tb, p) {
			tb.Cleanup(p.end)
			return s
		}
		p.end()
		said = p.out.String()
	}
	tb.Fatalf("versitygw didn't come up on %d ports; it said last:\n%s", starts, said)
	return nil
}

// Pass gives the server to processes that the test starts: Start finds it there.
func (s *Server) Pass(t *testing.T) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(variable, string(b))
}

// Stranger makes a user who may do nothing in the bucket, and gives a file with
// the user's credentials.
func (s *Server) Stranger(tb testing.TB) (file string) {
	tb.Helper()
	key, secret := "stranger"+rand.Text(), rand.Text()
	cmd := exec.Command(find(tb), "admin", "--access", s.AccessKey, "--secret", s.SecretKey, "--endpoint-url", s.Endpoint,
		"create-user", "--access", key, "--secret", secret, "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("make a user: %v\n%s", err, out)
	}
	return s.writeCredentials(tb, key, secret)
}

func (s *Server) writeCredentials(tb testing.TB, key, secret string) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// find gives the program's path below the root of the module.
func find(tb testing.TB) string {
	tb.Helper()
	_, file, _, _ := runtime.Caller(0)
	folder := filepath.Dir(file)
	if !filepath.IsAbs(folder) { // built with -trimpath
		folder, _ = os.Getwd()
	}
	for ; filepath.Dir(folder) != folder; folder = filepath.Dir(folder) {
		program := filepath.Join(folder, ".build", "versitygw", "versitygw")
		if _, err := os.Stat(program); err == nil {
			return program
		}
	}
	const missing = "CANNOT RUN: the S3 server isn't there; run hack/versitygw/install.sh"
	if os.Getenv("PENSTOCK_CI") != "" {
		tb.Fatal(missing)
	}
	tb.Skip(missing)
	return ""
}

// process is a running server program.
type process struct {
	cmd   *exec.Cmd
	out   lockedBuffer
	ended chan struct{}
}

// run starts the program on a port that was free a moment ago.
func (s *Server) run(program, folder string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.Endpoint = "http://" + address
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command(program, "--port", address, "--region", s.Region, "--quiet", "--virtual-domain", Domain,
		"--iam-dir", filepath.Join(folder, "users"), "--iam-cache-disable",
		"posix", "--sidecar", filepath.Join(folder, "metadata"), filepath.Join(folder, "root"))
	p.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends: so
		// the thread is kept for as long as the child lives.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // it is always killed
		}
		close(p.ended)
	}()
	return p, <-started
}

func (p *process) end() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// answers waits until the server has made its bucket; it is false once the
// program has ended. Its keys are its own, so nobody else answers in its place.
func (s *Server) answers(tb testing.TB, p *process) bool {
	tb.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	for {
		err := client.MakeBucket(ctx, s.Bucket, minio.MakeBucketOptions{})
		if err == nil {
			return true
		}
		select {
		case <-p.ended:
			return false
		case <-ctx.Done():
			tb.Logf("versitygw doesn't answer: %v", err)
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
