package fleet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
)

const (
	// pause is how often the state is asked for.
	pause = 200 * time.Millisecond
	// starts is how many ports are tried: one that was free may be taken since.
	starts = 5
	// ready is what a server has to come up.
	ready = time.Minute
	// patience bounds the wait for any one thing.
	patience = 90 * time.Second
)

// server is a 'penstock serve' on PostgreSQL and S3, behind TLS, which ends with
// the test.
type server struct {
	t        *testing.T
	home     string
	project  string
	url      string
	token    string
	database string
	bucket   *s3test.Server
	api      *client.Client
	ended    chan struct{}
}

// startServer starts a server that pods and nodes reach at host. executors is
// that part of its settings.
func startServer(t *testing.T, project, host, executors string) *server {
	t.Helper()
	s := &server{t: t, home: t.TempDir(), project: project, bucket: s3test.Start(t), database: pgtest.Shared(t).Database(t)}
	if err := os.Mkdir(s.at("key"), 0o700); err != nil {
		t.Fatal(err)
	}
	roots := s.certify(host)
	for range starts {
		s.configure(host, executors)
		s.run()
		s.api = &client.Client{Base: s.url, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
		if s.answers() {
			return s
		}
		if said := s.tail(); !strings.Contains(said, "is taken by another program") {
			t.Fatalf("the server didn't come up; it said:\n%s", said)
		}
	}
	t.Fatalf("%d ports were taken by other programs before the server came", starts)
	return nil
}

func (s *server) at(name string) string { return filepath.Join(s.home, name) }

func (s *server) write(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.at(name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// certify makes a certificate authority that nobody else knows, and the server's
// certificate of it.
func (s *server) certify(host string) *x509.CertPool {
	s.t.Helper()
	fail := func(err error) {
		if err != nil {
			s.t.Fatalf("make certificates: %v", err)
		}
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the fleet's test"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	ca, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	fail(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.ParseIP(host)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, key.Public(), caKey)
	fail(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	fail(err)
	roots := x509.NewCertPool()
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: ca}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		content := pem.EncodeToMemory(block)
		s.write(name, content)
		if name == "ca.pem" {
			roots.AppendCertsFromPEM(content)
		}
	}
	return roots
}

// configure writes the settings, for a port that was free a moment ago: agents
// are told of it before the server listens.
func (s *server) configure(host, executors string) {
	s.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		s.t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.url = "https://" + address
	s.write("penstock.yaml", fmt.Appendf(nil, `data_dir: %[1]s/data
secret_dir: %[1]s/key
listen: %[2]s
advertise: https://%[2]s
tls: {cert: %[1]s/cert.pem, key: %[1]s/key.pem, ca: %[1]s/ca.pem}
store: {url: '%[3]s'}
blobs:
  s3: {endpoint: '%[4]s', bucket: %[5]s, region: %[6]s, style: path, credentials_file: %[7]s}
pool: {discover: false}
executors:
%[8]s`, s.home, address, s.database, s.bucket.Endpoint, s.bucket.Bucket, s.bucket.Region, s.bucket.CredentialsFile, executors))
}

// run starts the program. It gets no environment of ours, and the kernel ends it
// with the thread that started it, which is held for as long as it lives: it
// doesn't outlive a test that was killed.
func (s *server) run() {
	s.t.Helper()
	log, err := os.Create(s.at("server.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(programs, "penstock"), "serve", "--config", s.at("penstock.yaml"))
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH")}, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what it said is in its log
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		s.t.Fatalf("start the server: %v", err)
	}
	s.ended = ended
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			s.t.Error("the server didn't end within 30 s of SIGTERM")
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = log.Close()
		if s.t.Failed() {
			s.t.Logf("the end of the server's log:\n%s", s.tail())
		}
	})
}

// tail is the end of the server's log.
func (s *server) tail() string {
	b, _ := os.ReadFile(s.at("server.log")) // for a failing test only
	return string(b[max(0, len(b)-6000):])
}

// answers waits until the server does, with the token that it left; it is false
// once the program has ended.
func (s *server) answers() bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), ready)
	defer cancel()
	for {
		token, err := os.ReadFile(s.at("data/admin-token"))
		if err == nil {
			s.token = strings.TrimSpace(string(token))
			s.api.Token = s.token
			if _, err := s.api.Whoami(ctx); err == nil {
				return true
			}
		}
		select {
		case <-s.ended:
			return false
		case <-ctx.Done():
			s.t.Logf("the server doesn't answer within %s", ready)
			return false
		case <-time.After(pause):
		}
	}
}

// try runs the command line as the administrator, who trusts the test's
// authority, and gives what it wrote.
func (s *server) try(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "penstock"), args...)
	cmd.Env = []string{
		"HOME=" + s.home, "PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=" + s.at("ca.pem"),
		"PENSTOCK_SERVER=" + s.url, "PENSTOCK_TOKEN=" + s.token, "PENSTOCK_PROJECT=" + s.project,
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("penstock %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// do is try where a failure ends the test.
func (s *server) do(ctx context.Context, args ...string) string {
	s.t.Helper()
	out, err := s.try(ctx, args...)
	if err != nil {
		s.t.Fatalf("%v%s", err, s.state())
	}
	return out
}

// until asks again until the answer is yes. What isn't available for now is
// asked for again, any other error ends the test.
func (s *server) until(ctx context.Context, what string, ask func() (bool, error)) {
	s.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		yes, err := ask()
		switch {
		case err != nil && ctx.Err() == nil && penstock.CodeOf(err) != penstock.Unavailable:
			s.t.Fatalf("wait until %s: %v%s", what, err, s.state())
		case err == nil && yes:
			s.t.Logf("%s after %.1f s", what, time.Since(began).Seconds())
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("wait until %s: not within %.0f s: %v%s", what, time.Since(began).Seconds(), errors.Join(err, ctx.Err()), s.state())
		case <-time.After(pause):
		}
	}
}

// state is what the objects say, for a failing test.
func (s *server) state() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	var b strings.Builder
	for _, kind := range []penstock.Kind{penstock.KindPool, penstock.KindDataset, penstock.KindJob, penstock.KindAttempt} {
		objects, _, err := s.api.List(ctx, kind, client.ListOptions{})
		if err != nil {
			fmt.Fprintf(&b, "\n%s: %v", kind, err)
		}
		for _, o := range objects {
			fmt.Fprintf(&b, "\n%s is %s: %.1500s", o.Ref(), o.Metadata.Phase, o.Status)
		}
	}
	return b.String()
}

func (s *server) ref(kind penstock.Kind, name string) penstock.Ref {
	return penstock.Ref{Kind: kind, Project: s.project, Name: name}
}

// get reads an object of the project, which must be there.
func get[S, T any](ctx context.Context, s *server, kind penstock.Kind, name string) v1.Resource[S, T] {
	s.t.Helper()
	o, err := client.GetAs[S, T](ctx, s.api, s.ref(kind, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}
