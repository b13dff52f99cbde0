package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/httpapi"
	"github.com/penstock/penstock/internal/store"
)

// listen serves the plant on a port of loopback.
func (p *plant) listen() *httptest.Server {
	s := httptest.NewServer(p.server.Handler())
	p.t.Cleanup(s.Close)
	return s
}

// stream is an open watch, read line by line.
type stream struct {
	resp  *http.Response
	lines *bufio.Scanner
}

func (p *plant) watch(s *httptest.Server, token, query string, header ...string) *stream {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	p.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/watch?"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{resp, bufio.NewScanner(resp.Body)}
}

// next is the id of the next event, and its data; "" when the stream ended.
func (s *stream) next() (id, data string) {
	for s.lines.Scan() {
		if text, ok := strings.CutPrefix(s.lines.Text(), "id: "); ok {
			id = text
		}
		if text, ok := strings.CutPrefix(s.lines.Text(), "data: "); ok {
			return id, text
		}
	}
	return "", ""
}

func TestWatchLosesNothingAcrossReconnects(t *testing.T) {
	p := lab(t)
	server := p.listen()
	last := fmt.Sprint(p.revision())
	var want, got []string
	for round := range 4 {
		s := p.watch(server, p.root, "", "Last-Event-ID", last)
		for i := range 3 { // made while the stream is open, and in between
			name := fmt.Sprintf("j%d-%d", round, i)
			p.apply(p.root, job("lab", name))
			want = append(want, name)
			if i == 1 && round > 0 {
				continue // the next stream has to bring it
			}
		}
		for len(got) < len(want)-1 {
			id, data := s.next()
			if id == "" {
				t.Fatalf("the stream ended after %v", got)
			}
			last = id
			got = append(got, nameIn(t, data))
		}
		_ = s.resp.Body.Close()
	}
	s := p.watch(server, p.root, "after="+last)
	_, data := s.next()
	if diff := cmp.Diff(want, append(got, nameIn(t, data))); diff != "" {
		t.Error(diff)
	}
}

func nameIn(t *testing.T, data string) string {
	t.Helper()
	return decode[v1.Change](t, answer{body: data}).Object.Metadata.Name
}

func TestClientsWatchSurvivesTheServer(t *testing.T) {
	p := lab(t)
	front := p.listen()
	c := &client.Client{Base: front.URL, Token: p.root}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p.apply(p.root, job("lab", "zero"))
	var got []string
	err := c.Watch(ctx, client.WatchOptions{Project: "lab", Kind: penstock.KindJob, After: 1}, func(change v1.Change) error {
		got = append(got, change.Object.Metadata.Name)
		switch change.Object.Metadata.Name {
		case "zero":
			front.CloseClientConnections()
			p.apply(p.root, job("lab", "one"), job("lab", "two"))
		case "two":
			cancel()
		}
		return nil
	})
	if err == nil {
		t.Error("the watch ended by itself")
	}
	if diff := cmp.Diff([]string{"zero", "one", "two"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWatchShowsOnlyWhatTheCallerMaySee(t *testing.T) {
	p := lab(t)
	bob := p.tenant("speech", "bob", penstock.RoleViewer)
	server := p.listen()
	s := p.watch(server, bob, "after=1")
	p.apply(p.root, job("lab", "theirs"), manifest("Secret", "speech", "s", `{"values":{"k":"canary"}}`), job("speech", "mine"))
	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != "mine" {
		_, data := s.next()
		if data == "" {
			t.Fatalf("the stream ended after %v", seen)
		}
		seen = append(seen, nameIn(t, data))
		if strings.Contains(data, "canary") || strings.Contains(data, "sealed") {
			t.Error(data)
		}
	}
	if diff := cmp.Diff([]string{"speech", "s", "mine"}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestWatchEndsWithTheToken(t *testing.T) {
	p := lab(t)
	made := decode[v1.TokenInfo](t, p.must(p.root, "POST", "/v1/tokens", `{"subject":"x","role":"viewer"}`))
	s := p.watch(p.listen(), made.Token, "")
	p.must(p.root, "DELETE", "/v1/tokens/"+made.ID, "")
	p.apply(p.root, job("lab", "after"))
	if id, data := s.next(); id != "" {
		t.Errorf("a revoked token still saw %s", data)
	}
}

func TestWatchFromBeforeTheLogIsRefused(t *testing.T) {
	p := newPlant(t, func(o *httpapi.Options) { o.Store = short{o.Store} })
	got := p.refused(penstock.Conflict, p.root, "GET", "/v1/watch?after=3", "")
	if !strings.Contains(got.Detail, "reaches back") {
		t.Errorf("%+v", got)
	}
}

// short is a store whose log of changes was cut.
type short struct{ store.Store }

func (s short) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.Store.View(ctx, func(tx store.Tx) error { return fn(cut{tx}) })
}

type cut struct{ store.Tx }

func (cut) Changes(int64, int) ([]store.Change, error) {
	return nil, &penstock.Error{Code: penstock.Conflict, Msg: "the log reaches back to revision 9 only"}
}
