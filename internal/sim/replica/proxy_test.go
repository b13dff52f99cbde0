package replica

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// proxy stands between one process and the database's Unix socket. While it
// rages it cuts connections, most often where it hurts: when a commit was sent
// and before it arrives, or before its answer comes back.
type proxy struct {
	folder string
	server string // path of the database's socket
	rages  atomic.Bool
	cuts   atomic.Int64
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	folder, err := os.MkdirTemp("", "penstock-proxy-") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) }) // what is left is empty
	p := &proxy{folder: folder, server: server}
	l, err := net.Listen("unix", filepath.Join(folder, filepath.Base(server)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test is over
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.join(client)
		}
	}()
	return p
}

func (p *proxy) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return // the database is away: so is the connection
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	go func() { p.ask(server, client); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(client, server); ended <- struct{}{} }() // how it ends is all the same
	<-ended
}

// ask hands on what the client says, until somebody ends that.
func (p *proxy) ask(server, client net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		chance := 0.01
		if bytes.Contains(bytes.ToLower(buffer[:n]), []byte("commit")) {
			chance = 0.3
		}
		cut := p.rages.Load() && rand.Float64() < chance
		if cut {
			p.cuts.Add(1)
			if rand.IntN(2) == 0 {
				return
			}
		}
		if _, err := server.Write(buffer[:n]); err != nil || cut {
			return
		}
	}
}
