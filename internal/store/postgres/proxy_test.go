package postgres

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/penstock/penstock/internal/store/postgres/pgtest"
)

// proxy is a network between the store and the server that breaks on demand.
type proxy struct {
	listener net.Listener
	socket   string
	// commits is what becomes of commits: passed on, cut off before they reach the
	// server, or cut off before the answer comes back. Each cut is one commit.
	commits atomic.Value // of fate
	// oneOf cuts a connection at one of so many chunks, in either direction; 0 is never.
	oneOf atomic.Int64
	cuts  atomic.Int64

	mu    sync.Mutex
	pairs map[net.Conn]net.Conn
}

type fate string

const (
	passed         fate = "passed on"
	cutOnTheWay    fate = "cut off on the way"
	answerCutOff   fate = "done, and the answer cut off"
	leftHalfOpened fate = "cut off on our side alone"
)

// network starts a proxy and gives the URL of a database behind it.
func network(t *testing.T, server *pgtest.Server, database string) (*proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, socket: server.Socket(), pairs: map[net.Conn]net.Conn{}}
	p.commits.Store(passed)
	go p.accept()
	t.Cleanup(func() { l.Close(); p.cutAll() })
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return p, "postgres://" + u.Query().Get("user") + "@" + l.Addr().String() + u.Path + "?sslmode=disable"
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.socket)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.pairs[client] = server
		p.mu.Unlock()
		go p.pass(client, server, client, server)
		go p.pass(client, server, server, client)
	}
}

// pass passes on one direction.
func (p *proxy) pass(client, server, from, to net.Conn) {
	defer p.cut(client, server)
	chunk := make([]byte, 16<<10)
	for {
		n, err := from.Read(chunk)
		if err != nil {
			return
		}
		if one := p.oneOf.Load(); one > 0 && rand.Int64N(one) == 0 {
			p.cuts.Add(1)
			return
		}
		// A simple query is Q, its length, its text and a zero byte.
		if from == client && bytes.HasPrefix(chunk[:n], []byte("Q\x00\x00\x00\x0bcommit\x00")) {
			switch f := p.commits.Load().(fate); f {
			case cutOnTheWay, answerCutOff, leftHalfOpened:
				p.commits.Store(passed)
				p.cuts.Add(1)
				p.lose(f, client, server, chunk[:n])
				return
			}
		}
		if _, err := to.Write(chunk[:n]); err != nil {
			return
		}
	}
}

// lose loses a commit or its answer.
func (p *proxy) lose(f fate, client, server net.Conn, commit []byte) {
	switch f {
	case answerCutOff:
		client.Close()
		server.Write(commit)
		io.Copy(io.Discard, io.LimitReader(server, 1)) // until it is done
	case leftHalfOpened:
		client.Close()
		io.Copy(io.Discard, server) // until the server is tired of waiting
	}
}

func (p *proxy) cut(client, server net.Conn) {
	client.Close()
	server.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, client)
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.pairs {
		client.Close()
		server.Close()
	}
}

func TestTheURLOfAProxyHasTheDatabase(t *testing.T) {
	server := pgtest.Shared(t)
	_, url := network(t, server, server.Database(t))
	if !strings.Contains(url, "/test") {
		t.Errorf("it is %s", url)
	}
	mustClose(t, mustOpen(t, Options{URL: url}))
}
