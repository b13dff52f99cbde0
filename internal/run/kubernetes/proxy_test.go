package kubernetes

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// proxy stands between an executor and the real API server, and does what
// networks do: it is away, it loses an answer, it delays a call. What the server
// says passes unchanged.
type proxy struct {
	t       *testing.T
	forward *httputil.ReverseProxy
	address string

	mu     sync.Mutex
	server *http.Server
	lose   func(*http.Request) bool // such answers, until it is nil again
	before func(*http.Request)      // is called before a call is passed on
	old    bool                     // watches begin at a revision that the server has long forgotten
	calls  []string
}

// proxied makes the options of an executor that goes through a new proxy.
func (w *world) proxied(t *testing.T, o Options) (Options, *proxy) {
	t.Helper()
	config, err := (&Options{Kubeconfig: w.kubeconfig}).connect()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, address: "127.0.0.1:0"}
	p.forward = &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			p.mu.Lock()
			defer p.mu.Unlock()
			if q := r.Out.URL.Query(); p.old && q.Get("watch") != "" && q.Get("sendInitialEvents") == "" {
				q.Set("resourceVersion", "1")
				r.Out.URL.RawQuery = q.Encode()
			}
		},
		ModifyResponse: func(answer *http.Response) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.lose != nil && p.lose(answer.Request) {
				return errors.New("the answer is lost")
			}
			return nil
		},
	}
	p.up()
	t.Cleanup(p.down)
	o.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],`+
		`"clusters":[{"name":"x","cluster":{"server":"http://%s"}}],"users":[{"name":"x","user":{}}]}`, p.address)
	if err := os.WriteFile(o.Kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return o, p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls = append(p.calls, r.Method+" "+r.URL.Path)
	before := p.before
	p.mu.Unlock()
	if before != nil {
		before(r)
	}
	p.forward.ServeHTTP(w, r)
}

// up lets the proxy listen, always at the same address.
func (p *proxy) up() {
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = l.Addr().String()
	server := &http.Server{Handler: p}
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	go func() { _ = server.Serve(l) }() // ends with down
}

// down cuts every connection, and listens no more.
func (p *proxy) down() {
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	_ = server.Close()
}

func (p *proxy) set(change func(p *proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// count is how many calls there were so far whose method and path contain what.
func (p *proxy) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, call := range p.calls {
		if strings.Contains(call, what) {
			n++
		}
	}
	return n
}
