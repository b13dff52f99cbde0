package runtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Server is the part of the server that agents speak to, in memory: reports and
// blobs of one attempt. It can go away, come back on another port, lose its
// answers, and disown the attempt. It fails the test when an agent breaks the
// contract: a gap in the reports, or one that names bytes which aren't stored.
type Server struct {
	t       *testing.T
	host    string
	address string // file
	token   string

	mu      sync.Mutex
	http    *http.Server
	reports map[int][]v1.Report // by rank
	blobs   map[penstock.Digest][]byte
	puts    map[penstock.Digest]int
	orders  []v1.Order
	runs    map[int]string // which agent got a rank's order
	fenced  bool
	lose    int           // so many answers to reports
	held    chan struct{} // uploads wait until it is closed
	waiting int           // uploads that do
}

// NewServer starts a Server on a port of the kernel's choice.
func NewServer(t *testing.T) *Server { return NewServerAt(t, "") }

// NewServerAt starts a Server that listens at an address of this machine; empty
// is the loopback. The file with its URL can then be read by any user.
func NewServerAt(t *testing.T, host string) *Server {
	dir := t.TempDir()
	if host != "" {
		open(t, dir)
	}
	s := &Server{
		t: t, host: cmp.Or(host, "127.0.0.1"), address: filepath.Join(dir, "address"), token: "agent-token-" + strings.ToLower(t.Name()),
		reports: map[int][]v1.Report{}, blobs: map[penstock.Digest][]byte{}, puts: map[penstock.Digest]int{}, runs: map[int]string{},
	}
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// Contact is how agents reach the server.
func (s *Server) Contact() v1.Contact {
	return v1.Contact{AddressFile: s.address, Token: s.token}
}

// URL is where the server listens now.
func (s *Server) URL() string {
	text, err := os.ReadFile(s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// Up lets the server listen, on a port that it didn't have before.
func (s *Server) Up() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/agent/reports", s.guard(s.takeReports))
	mux.HandleFunc("GET /v1/agent/orders/{rank}", s.guard(s.giveOrder))
	mux.HandleFunc("GET /v1/agent/blobs/{digest}", s.guard(s.getBlob)) // HEAD, too
	mux.HandleFunc("PUT /v1/agent/blobs/{digest}", s.guard(s.putBlob))
	l, err := net.Listen("tcp", net.JoinHostPort(s.host, "0"))
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	s.mu.Lock()
	s.http = server
	s.mu.Unlock()
	go func() { _ = server.Serve(l) }() // ends with Down
	temp := s.address + ".new"
	if err := os.WriteFile(temp, []byte("http://"+l.Addr().String()+"\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temp, s.address); err != nil {
		s.t.Fatal(err)
	}
}

// Down cuts every connection; nothing listens from then on.
func (s *Server) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.http.Close()
}

// Keep holds the orders of a gang, for agents that ask for theirs.
func (s *Server) Keep(gang []v1.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = slices.Clone(gang)
}

// Fence makes the server say that a newer attempt has taken over.
func (s *Server) Fence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fenced = true
}

// LoseAnswers makes the server take the next n batches of reports and cut the
// connection instead of answering.
func (s *Server) LoseAnswers(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = n
}

// HoldUploads makes uploads wait until release is called: before a byte has
// left the agent, when it asks whether the bytes are there already.
func (s *Server) HoldUploads() (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	return sync.OnceFunc(func() { close(held) })
}

// HeldUploads is how many uploads wait.
func (s *Server) HeldUploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// AddBlob stores bytes and describes them as the file of that path.
func (s *Server) AddBlob(path, content string) v1.File {
	sum := sha256.Sum256([]byte(content))
	d := penstock.DigestOf(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = []byte(content)
	return v1.File{Path: path, Size: int64(len(content)), Digest: d}
}

// Spoil changes the stored bytes of a file, as a bad disk would.
func (s *Server) Spoil(file v1.File, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[file.Digest] = []byte(content)
}

// Blob gives stored bytes, and fails the test if there are none.
func (s *Server) Blob(d penstock.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		s.t.Errorf("blob %s isn't stored", d)
	}
	return string(b)
}

// Puts is how often bytes were uploaded.
func (s *Server) Puts(d penstock.Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts[d]
}

// Reports are the reports of one rank, in order, heartbeats included.
func (s *Server) Reports(rank int) []v1.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports[rank])
}

func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+s.token {
			problem(w, penstock.Unauthenticated, "the token is unknown")
			return
		}
		s.mu.Lock()
		fenced := s.fenced
		s.mu.Unlock()
		if fenced {
			problem(w, penstock.Fenced, "attempt 2 has taken over")
			return
		}
		next(w, r)
	}
}

// problem answers as RFC 9457 has it, with Penstock's code.
func problem(w http.ResponseWriter, code penstock.Code, detail string) {
	status := penstock.InfoOf(&penstock.Error{Code: code}).HTTP
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "title": string(code), "detail": detail, "code": code})
}

func (s *Server) takeReports(w http.ResponseWriter, r *http.Request) {
	var in v1.Reports
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Reports) == 0 {
		s.t.Errorf("reports can't be read: %v (%d of them)", err, len(in.Reports))
		problem(w, penstock.Invalid, "unreadable")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rank := in.Reports[0].Rank
	for _, report := range in.Reports {
		s.take(rank, report)
	}
	if s.lose > 0 {
		s.lose--
		panic(http.ErrAbortHandler) // cuts the connection
	}
	_ = json.NewEncoder(w).Encode(v1.ReportsAnswer{Taken: int64(len(s.reports[rank]))})
}

// take keeps one report, if it is the next one. The caller holds mu.
func (s *Server) take(rank int, r v1.Report) {
	taken := int64(len(s.reports[rank]))
	switch {
	case r.Rank != rank:
		s.t.Errorf("ranks %d and %d in one batch", rank, r.Rank)
	case r.Seq > taken+1:
		s.t.Errorf("rank %d sent report %d after %d: a gap", rank, r.Seq, taken)
	case r.Seq == taken+1:
		s.reports[rank] = append(s.reports[rank], r)
	}
	var files []v1.File
	if r.Checkpoint != nil {
		files = r.Checkpoint.Files
	}
	if r.Output != nil {
		files = append(files, r.Output.Files...)
	}
	for _, file := range files {
		if b, ok := s.blobs[file.Digest]; !ok || int64(len(b)) != file.Size {
			s.t.Errorf("report %d of rank %d names %s, which isn't stored with %d bytes", r.Seq, rank, file.Path, file.Size)
		}
	}
}

// giveOrder hands each order to the first agent that asks for it.
func (s *Server) giveOrder(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, order := range s.orders {
		if fmt.Sprint(order.Rank) != r.PathValue("rank") {
			continue
		}
		asks := r.URL.Query().Get("run")
		if first, given := s.runs[order.Rank]; given && first != asks {
			problem(w, penstock.Fenced, "another agent has run this rank: a task runs once")
			return
		}
		s.runs[order.Rank] = asks
		order.Server = v1.Contact{}
		_ = json.NewEncoder(w).Encode(order)
		return
	}
	problem(w, penstock.Invalid, "there is no such rank")
}

// wait holds a call back while uploads are held.
func (s *Server) wait(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return
	}
	held := s.held
	s.waiting++
	s.mu.Unlock()
	select {
	case <-held:
	case <-r.Context().Done():
	}
	s.mu.Lock()
	s.waiting--
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		s.wait(r)
	}
	s.mu.Lock()
	b, ok := s.blobs[penstock.Digest(r.PathValue("digest"))]
	s.mu.Unlock()
	if !ok {
		problem(w, penstock.NotFound, fmt.Sprintf("there is no blob %s", r.PathValue("digest")))
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	_, _ = io.Copy(w, bytes.NewReader(b))
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return // the agent, or the connection, went
	}
	d := penstock.Digest(r.PathValue("digest"))
	if sum := sha256.Sum256(b); penstock.DigestOf(sum[:]) != d {
		problem(w, penstock.Corrupt, "the bytes are not those of the digest")
		return
	}
	s.blobs[d] = b
	s.puts[d]++
	w.WriteHeader(http.StatusCreated)
}
