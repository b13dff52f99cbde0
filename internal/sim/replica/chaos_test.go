package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
)

// longestTakeover is the promise: from a fault to the next leader's first
// commit, or from the fault's end where it hits the database itself.
const longestTakeover = 10 * time.Second

// site is three processes on one database, and what may befall them.
type site struct {
	t        *testing.T
	random   *rand.Rand
	server   *pgtest.Server
	url      string
	store    store.Store // the test's own way in, which nothing cuts
	folder   string      // is kept if the test fails
	history  *history
	replicas map[string]*child
	children int                      // so far
	jobs     []penstock.UID           // that are there
	fed      int                      // in all
	takeover map[string]time.Duration // the longest, by fault
	cuts     int64
}

// child is a running process with its own way to the database.
type child struct {
	cmd   *exec.Cmd
	proxy *proxy
	heard chan struct{} // closed when all it wrote is in the history
}

func newSite(t *testing.T, seed uint64) *site {
	folder, err := os.MkdirTemp("", "penstock-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), server: pgtest.Private(t), folder: folder,
		history: newHistory(), replicas: map[string]*child{}, takeover: map[string]time.Duration{},
	}
	s.url = s.server.Database(t)
	if s.store, err = postgres.Open(t.Context(), postgres.Options{URL: s.url}); err != nil {
		t.Fatal(err)
	}
	s.exec(refusing)
	t.Cleanup(func() {
		for name := range s.replicas {
			s.kill(name)
		}
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what the processes logged is in %s", folder)
		} else if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		s.start()
	}
	return s
}

// start starts one more process, under a name of its own.
func (s *site) start() {
	s.t.Helper()
	s.children++
	name := fmt.Sprint("replica-", s.children)
	log, err := os.Create(filepath.Join(s.folder, name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	c := &child{cmd: exec.Command(os.Args[0]), proxy: newProxy(s.t, s.server.Socket()), heard: make(chan struct{})}
	url := strings.ReplaceAll(s.url, escaped(s.server.Folder()), escaped(c.proxy.folder))
	c.cmd.Env = append(os.Environ(), childURL+"="+url, childName+"="+name)
	c.cmd.Stderr = log
	// A frozen process must not outlive the test, whatever ends that.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	client := s.children
	go func() {
		s.history.listen(name, client, out)
		close(c.heard)
	}()
	s.replicas[name] = c
}

// kill ends a process with SIGKILL.
func (s *site) kill(name string) {
	s.t.Helper()
	c := s.replicas[name]
	s.signal(name, syscall.SIGKILL)
	<-c.heard
	_ = c.cmd.Wait() // it was killed
	s.cuts += c.proxy.cuts.Load()
	delete(s.replicas, name)
}

func (s *site) signal(name string, sig syscall.Signal) {
	s.t.Helper()
	if err := s.replicas[name].cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal %s: %v", name, err)
	}
}

func (s *site) exec(statements string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.url)
	if err == nil {
		_, err = conn.Exec(s.t.Context(), statements)
		_ = conn.Close(context.Background()) // what counts has been answered
	}
	if err != nil {
		s.t.Fatalf("%.40s: %v", statements, err)
	}
}

// feed puts jobs into the queue.
func (s *site) feed(n int) {
	s.t.Helper()
	for range n {
		s.fed++
		i := s.fed
		var random [10]byte
		binary.BigEndian.PutUint64(random[2:], uint64(i))
		uid, err := penstock.NewUID(time.Unix(1e9+int64(i), 0), bytes.NewReader(random[:]))
		if err != nil {
			s.t.Fatal(err)
		}
		o := v1.Object{APIVersion: v1.Version, Kind: penstock.KindJob, Metadata: v1.Metadata{UID: uid, Name: fmt.Sprint("job", i), Phase: penstock.PhasePending}}
		if err := s.store.Update(s.t.Context(), func(tx store.Tx) error { _, err := tx.Create(o); return err }); err != nil {
			s.t.Fatalf("submit: %v", err)
		}
		s.jobs = append(s.jobs, uid)
	}
}

// drained waits until every job is claimed, and writes down by whom.
func (s *site) drained() {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) { // polls: other processes claim
		if left := len(s.list(store.Query{Kind: penstock.KindJob, Phases: []penstock.Phase{penstock.PhasePending}})); left == 0 {
			break
		} else if time.Now().After(deadline) {
			s.t.Fatalf("%d jobs are still not claimed", left)
		}
	}
	began := clock()
	owner := map[penstock.UID]string{}
	for _, o := range s.list(store.Query{Kind: penstock.KindJob}) {
		owner[o.Metadata.UID] = o.Metadata.Labels["claim"]
	}
	ended := clock()
	for _, uid := range s.jobs {
		if owner[uid] == "" {
			s.t.Errorf("job %s was submitted and is gone", uid)
		}
		s.history.read(uid, owner[uid], began, ended)
	}
	// A claimed job goes its way: a queue that only grows would slow the rounds.
	s.settle()
}

func (s *site) list(q store.Query) (all []v1.Object) {
	s.t.Helper()
	if err := s.store.View(s.t.Context(), func(tx store.Tx) (err error) {
		all, err = tx.List(q)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// settle removes what has been claimed and read, once nobody can still have a
// claim of it under way: those of a round ago.
func (s *site) settle() {
	s.t.Helper()
	const keep = 200
	if len(s.jobs) <= keep {
		return
	}
	old := s.jobs[:len(s.jobs)-keep]
	if err := s.store.Update(s.t.Context(), func(tx store.Tx) error {
		for _, uid := range old {
			o, err := tx.ByUID(uid)
			if err != nil {
				return err
			}
			if err := tx.Delete(uid, o.Metadata.Revision); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	s.jobs = slices.Clone(s.jobs[len(old):])
}
