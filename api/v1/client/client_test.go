package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// serve answers calls with fn and gives a client of it.
func serve(t *testing.T, fn http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return &client.Client{Base: s.URL + "/", Token: "secret-token"}
}

func job(name string, revision int64) v1.Object {
	return v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindJob, Spec: json.RawMessage(`{}`),
		Metadata: v1.Metadata{Project: "lab", Name: name, Revision: revision, Phase: penstock.PhaseRunning},
	}
}

func TestProblemsBecomeErrors(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		want       *penstock.Error
	}{
		{"a problem", `{"code":"invalid","detail":"no","where":"spec.x","hint":"do","status":422}`, 422, &penstock.Error{Code: "invalid", Msg: "no", Where: "spec.x", Hint: "do"}},
		{"a proxy's page", "<h1>gone</h1>\n", 503, &penstock.Error{Code: "unavailable", Msg: "the server answered 503 Service Unavailable: <h1>gone</h1>"}},
		{"an unknown status", "", 418, &penstock.Error{Code: "internal", Msg: "the server answered 418 I'm a teapot: "}},
	} {
		call := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		})
		_, err := call.Whoami(t.Context())
		var got *penstock.Error
		if !errors.As(err, &got) {
			t.Fatalf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestUnreachableServersAreNamedAndTokensAreNot(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := c.Whoami(t.Context())
	if penstock.CodeOf(err) != penstock.Unavailable || !strings.Contains(err.Error(), c.Base) || strings.Contains(err.Error(), c.Token) {
		t.Error(err)
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Whoami(left); penstock.CodeOf(err) != penstock.Canceled {
		t.Error(err)
	}
	c.Base = "http://a b"
	if _, err := c.Whoami(t.Context()); penstock.CodeOf(err) != penstock.Invalid {
		t.Error(err)
	}
}

func TestNamesCantBreakOutOfTheirPath(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.RequestURI
		fmt.Fprint(w, `{}`)
	})
	for name, want := range map[string]string{
		"a":       "GET /api/v1/jobs/lab/a",
		"../x":    "GET /api/v1/jobs/lab/..%2Fx",
		"a?b=c#d": "GET /api/v1/jobs/lab/a%3Fb=c%23d",
	} {
		if _, err := c.Get(t.Context(), penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: name}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := c.Get(t.Context(), penstock.Ref{Kind: penstock.KindPool, Name: "p"}); err != nil || got != "GET /api/v1/pools/-/p" {
		t.Error(got, err)
	}
}

func TestListsReadEveryPageAndTheOldestRevision(t *testing.T) {
	pages := map[string]string{
		"":   `{"items":[{"kind":"Job","metadata":{"name":"a"},"spec":{}}],"next":"u1","revision":5}`,
		"u1": `{"items":[{"kind":"Job","metadata":{"name":"b"},"spec":{}}],"revision":9}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if diff := cmp.Diff([]string{"Queued", "Running"}, q["phase"]); diff != "" {
			t.Error(diff)
		}
		fmt.Fprint(w, pages[q.Get("after")])
	})
	objects, revision, err := c.List(t.Context(), penstock.KindJob, client.ListOptions{Phases: []penstock.Phase{"Queued", "Running"}})
	if err != nil || len(objects) != 2 || revision != 5 {
		t.Error(objects, revision, err)
	}
}

// event writes one change as the server does.
func event(w io.Writer, op string, o v1.Object) {
	data, _ := json.Marshal(v1.Change{Revision: o.Metadata.Revision, Op: op, Object: o}) // these types can't fail
	fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", o.Metadata.Revision, op, data)
}

func TestWaitGoesOnAfterABrokenWatch(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/watch" {
			_ = json.NewEncoder(w).Encode(job("a", 3))
			return
		}
		asked = append(asked, r.URL.Query().Get("after"))
		fmt.Fprint(w, ": still here\n\n")
		if len(asked) == 1 {
			event(w, "updated", job("other", 4))
			event(w, "updated", job("a", 5))
			return // the stream breaks off
		}
		over := job("a", 8)
		over.Metadata.Phase = penstock.PhaseSucceeded
		event(w, "updated", over)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var seen []int64
	err := c.WaitFor(ctx, penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: "a"}, func(o v1.Object) (bool, error) {
		seen = append(seen, o.Metadata.Revision)
		return o.Metadata.Phase.Final(), nil
	})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]int64{3, 5, 8}, seen); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"3", "5"}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestWaitEndsWhenTheObjectIsDeletedOrTheWatchIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   penstock.Code
	}{
		"deleted": {func(w http.ResponseWriter) { event(w, "deleted", job("a", 4)) }, penstock.NotFound},
		"too old": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusPreconditionFailed)
			fmt.Fprint(w, `{"code":"conflict","detail":"the log reaches back to 9"}`)
		}, penstock.Conflict},
		"revoked": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, penstock.Unauthenticated},
	} {
		call := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/watch" {
				c.answer(w)
				return
			}
			_ = json.NewEncoder(w).Encode(job("a", 3))
		})
		err := call.WaitFor(t.Context(), job("a", 0).Ref(), func(v1.Object) (bool, error) { return false, nil })
		if penstock.CodeOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBytesThatAreThereAreNotSentAgain(t *testing.T) {
	kept, sent := map[string]string{}, 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret-token" {
			t.Error("no token")
		}
		_, there := kept[r.URL.Path]
		switch {
		case r.Method == http.MethodHead && !there:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPut:
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			kept[r.URL.Path] = string(b)
			sent++
			w.WriteHeader(http.StatusNoContent)
		}
	})
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello")), nil }
	d := penstock.Digest("sha256:" + strings.Repeat("0", 64))
	for range 2 {
		if err := c.PutBlob(t.Context(), d, open); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"/api/v1/blobs/" + string(d): "hello"}, kept); diff != "" || sent != 1 {
		t.Errorf("sent %d times\n%s", sent, diff)
	}
}
