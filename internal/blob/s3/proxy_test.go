package s3

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

// fate is what the proxy does with a request.
type fate int

const (
	pass    fate = iota
	slow         // answers 503 SlowDown in the server's place
	later        // does so once the server has done a part
	mute         // has the server do it, and cuts the connection before the answer
	cut          // cuts the connection in the middle of the answer's body
	hang         // says nothing until the client gives up
	stall        // says nothing after half of the answer's body
	sever        // cuts the connection in the middle of the request's body
	echo         // refuses, quoting the request's headers
	garbled      // has a byte of the request's body changed on its way
)

// proxy stands between a store and the server, and does to each request what
// decide says. It remembers what it saw.
type proxy struct {
	*httptest.Server
	upstream *url.URL

	mu     sync.Mutex
	decide func(*http.Request) fate
	seen   []*http.Request
	part   chan struct{} // closed once the server has done a part
}

func newProxy(t *testing.T, server *s3test.Server, start func(http.Handler) *httptest.Server) *proxy {
	t.Helper()
	upstream, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{upstream: upstream, decide: func(*http.Request) fate { return pass }, part: make(chan struct{})}
	p.Server = start(p)
	t.Cleanup(p.CloseClientConnections)
	t.Cleanup(p.Close)
	return p
}

// set changes what happens from now on, and forgets what was seen.
func (p *proxy) set(decide func(*http.Request) fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide, p.seen, p.part = decide, nil, make(chan struct{})
}

// requests are those that match.
func (p *proxy) requests(match func(*http.Request) bool) (found []*http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}

func (p *proxy) fate(r *http.Request) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r.Clone(r.Context()))
	return p.decide(r)
}

// firstPart is closed once the server has done a part.
func (p *proxy) firstPart() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.part
}

func (p *proxy) did(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.part:
	default:
		if isPart(r) {
			close(p.part)
		}
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.fate(r)
	if f == later {
		select {
		case <-p.firstPart():
		case <-r.Context().Done():
		}
		f = slow
	}
	switch f {
	case slow:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
		return
	case echo:
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<Error><Code>`+r.Header.Get("Authorization")+`</Code><Message>`+r.Header.Get("X-Amz-Security-Token")+r.Header.Get("Authorization")+`</Message></Error>`)
		return
	case hang:
		// Only once the body is read does the server see that the client is gone.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	case sever:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		panic(http.ErrAbortHandler)
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = p.upstream.Scheme, p.upstream.Host, ""
	if f == garbled {
		out.Body = &garbling{r.Body}
	}
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil || f == mute {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	p.did(r)
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	if f == cut || f == stall {
		_, _ = io.CopyN(w, resp.Body, resp.ContentLength/2)
		_ = http.NewResponseController(w).Flush()
		if f == stall {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	_, _ = io.Copy(w, resp.Body)
}

type garbling struct{ io.ReadCloser }

func (g *garbling) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

// once gives f to the first n requests that match, and passes all others.
func once(f fate, n int, match func(*http.Request) bool) func(*http.Request) fate {
	return func(r *http.Request) fate {
		if n == 0 || !match(r) {
			return pass
		}
		n--
		return f
	}
}

func always(f fate, match func(*http.Request) bool) func(*http.Request) fate {
	return once(f, -1, match)
}

// The sorts of requests.
func anyRequest(*http.Request) bool { return true }
func isGet(r *http.Request) bool    { return r.Method == http.MethodGet && r.URL.RawQuery == "" }
func isPut(r *http.Request) bool    { return r.Method == http.MethodPut && r.URL.RawQuery == "" }
func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}
func isBegin(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploads")
}
func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}
