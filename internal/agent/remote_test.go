package agent

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run/runtest"
)

// safe is a buffer that an agent writes to while the test reads.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func folder(t *testing.T) Folder {
	t.Helper()
	f := Folder(filepath.Join(t.TempDir(), "task"))
	if err := os.Mkdir(string(f), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestARemoteAgentGetsItsOrderAndTheEngineSeesItsLog(t *testing.T) {
	t.Setenv("FROM_THE_IMAGE", "kept")
	server := runtest.NewServer(t)
	server.Keep([]v1.Order{{
		Attempt: "a1", Rank: 3, WorldSize: 4, Node: "planned", MasterAddr: "nobody", Devices: []string{"7"},
		Command: []string{"sh", "-c", `echo "$FROM_THE_IMAGE $RANK $LOCAL_RANK $MASTER_ADDR $MASTER_PORT $PENSTOCK_NODE ${CUDA_VISIBLE_DEVICES-unset}"`},
	}})
	f, echo := folder(t), &safe{}
	err := Run(t.Context(), Options{Dir: f, Remote: &Remote{
		Contact: server.Contact(), Rank: 3, LocalRank: 1, Node: "real", MasterAddr: "127.0.0.1", MasterPort: 29500, Echo: echo,
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := "kept 3 1 127.0.0.1 29500 real unset\n"
	if echo.String() != want {
		t.Errorf("the engine's log has %q, want %q", echo, want)
	}
	r, err := f.Log(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if kept, err := io.ReadAll(r); string(kept) != want || err != nil {
		t.Errorf("the log has %q (%v), want %q", kept, err, want)
	}
	for _, report := range server.Reports(3) {
		if s := report.Started; s != nil && s.Node != "real" {
			t.Errorf("started on %q", s.Node)
		}
	}
	if f.has(orderFile) {
		t.Error("an order is left on the disk")
	}
}

func TestATaskWaitsForTheNameOfRankZeroAndCanBeStoppedMeanwhile(t *testing.T) {
	server := runtest.NewServer(t)
	server.Keep([]v1.Order{{Attempt: "a1", WorldSize: 2, Command: []string{"sh", "-c", "echo ran"}}})
	signals := make(chan os.Signal, 1)
	asked := &Remote{Contact: server.Contact(), MasterAddr: "rank-0.invalid", MasterPort: 29500, Echo: io.Discard}
	f := folder(t)
	go func() {
		for !f.has(begunFile) {
			time.Sleep(time.Millisecond)
		}
		signals <- syscall.SIGTERM
	}()
	if err := Run(t.Context(), Options{Dir: f, Signals: signals, Remote: asked}); err != nil {
		t.Fatal(err)
	}
	reports := server.Reports(0)
	if e := reports[len(reports)-1].Exited; e == nil || !e.StartFailed || !strings.Contains(e.Message, "stopped") {
		t.Errorf("it ended with %+v, want a start that was stopped", e)
	}
}

func TestASecondAgentOfATaskRunsNothing(t *testing.T) {
	server := runtest.NewServer(t)
	server.Keep([]v1.Order{{Attempt: "a1", WorldSize: 1, Command: []string{"sh", "-c", "echo ran"}}})
	remote := func(echo io.Writer) *Remote {
		return &Remote{Contact: server.Contact(), MasterAddr: "127.0.0.1", MasterPort: 1, Echo: echo}
	}
	if err := Run(t.Context(), Options{Dir: folder(t), Remote: remote(io.Discard)}); err != nil {
		t.Fatal(err)
	}
	said := len(server.Reports(0))
	echo := &safe{}
	err := Run(t.Context(), Options{Dir: folder(t), Remote: remote(echo)})
	if penstock.CodeOf(err) != penstock.Fenced || echo.String() != "" || len(server.Reports(0)) != said {
		t.Errorf("it left with %v, after %q and %d reports", err, echo, len(server.Reports(0))-said)
	}
}

func TestASignalEndsAnAgentThatWaitsForItsServer(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := Run(ctx, Options{Dir: folder(t), Signals: signals, Remote: &Remote{Contact: v1.Contact{URL: "http://127.0.0.1:1"}}})
	if ctx.Err() != nil || penstock.CodeOf(err) != penstock.Canceled {
		t.Errorf("it left with %v", err)
	}
}

func TestTheServersCertificateIsHeldToTheContactsCA(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"taken":1}`)
	}))
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	report := []v1.Report{{Seq: 1}}
	if _, err := dial(t, v1.Contact{URL: server.URL, CA: ca}).report(t.Context(), report); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	if _, err := dial(t, v1.Contact{URL: server.URL}).report(t.Context(), report); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its CA: %v", err)
	}
	if _, err := newClient(v1.Contact{URL: server.URL, CA: "rubbish"}); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("with a CA that is none: %v", err)
	}
}
