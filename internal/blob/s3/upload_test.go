package s3

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

// anyAge is what also an upload of this moment has: the server's clock is known
// to the second only.
const anyAge = -time.Minute

// breakOff has a Put of b fail after its first part has come.
func breakOff(t *testing.T, s *Store, p *proxy, b []byte) {
	t.Helper()
	p.set(always(later, func(r *http.Request) bool { return isPart(r) && r.URL.Query().Get("partNumber") != "1" }))
	s.budget.tokens = 0
	wantCode(t, s.Put(t.Context(), digest(b), bytes.NewReader(b)), penstock.Unavailable)
	s.budget.tokens = budgetTokens
	if left := unfinished(t, s); len(left) != 1 {
		t.Fatalf("uploads %q, want one that broke off", left)
	}
	wantOnly(t, s)
	p.set(always(pass, anyRequest))
}

func wantNoneUnfinished(t *testing.T, s *Store) {
	t.Helper()
	if left := unfinished(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAnUploadThatBrokeOffGoesOn(t *testing.T) {
	s, p := faulty(t, nil)
	b := random(1, bigSize)
	another := func(t *testing.T, adopt time.Duration) *Store {
		again, err := open(t.Context(), s.options, ages{adopt: adopt, abort: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = again.Close() })
		return again
	}
	for name, c := range map[string]struct {
		again func(*testing.T) *Store
		sent  int
	}{
		"in the same store":                     {func(*testing.T) *Store { return s }, 2},
		"in another, once nobody works at it":   {func(t *testing.T) *Store { return another(t, anyAge) }, 2},
		"but not while somebody may work at it": {func(t *testing.T) *Store { return another(t, time.Hour) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			breakOff(t, s, p, b)
			again := c.again(t)
			p.set(always(pass, anyRequest))
			put(t, again, b)
			if n := len(p.requests(isPart)); n != c.sent {
				t.Errorf("%d parts were sent, want %d", n, c.sent)
			}
			wantBlob(t, again, b)
			wantOnly(t, again, b)
			if err := again.Delete(t.Context(), digest(b)); err != nil {
				t.Fatal(err)
			}
			if id := s.take(s.root + digest(b).Hex()[:2] + "/" + digest(b).Hex()[2:]); id != "" {
				if err := s.abort(t.Context(), s.root+digest(b).Hex()[:2]+"/"+digest(b).Hex()[2:], id); err != nil {
					t.Fatal(err)
				}
			}
			wantNoneUnfinished(t, s)
		})
	}
}

// TestOtherBytesAreNotMixedIn begins an upload of the digest with bytes that
// aren't its: what goes on with it must not believe them.
func TestOtherBytesAreNotMixedIn(t *testing.T) {
	s, p := faulty(t, nil)
	b := random(1, bigSize)
	lie := bytes.Clone(b)
	lie[0] ^= 1
	p.set(always(later, func(r *http.Request) bool { return isPart(r) && r.URL.Query().Get("partNumber") != "1" }))
	s.budget.tokens = 0
	if err := s.Put(t.Context(), digest(b), bytes.NewReader(lie)); err == nil {
		t.Fatal("the upload didn't break off")
	}
	s.budget.tokens = budgetTokens
	p.set(always(pass, anyRequest))
	put(t, s, b)
	if n := len(p.requests(isPart)); n == 0 {
		t.Error("no part was sent")
	}
	wantBlob(t, s, b)
	wantNoneUnfinished(t, s)
}

func TestOpenAbortsOnlyWhatIsOld(t *testing.T) {
	server := s3test.Start(t)
	s := mustOpen(t, options(server))
	ours := s.root + "00/" + digest(nil).Hex()[2:]
	foreign := "somebody/else"
	for _, key := range []string{ours, foreign} {
		if _, err := s.begin(t.Context(), "begin", key); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		age  time.Duration
		left int
	}{{24 * time.Hour, 2}, {anyAge, 1}} {
		again, err := open(t.Context(), options(server), ages{adopt: time.Hour, abort: c.age})
		if err != nil {
			t.Fatal(err)
		}
		again.done.Wait() // for the sweep
		page, err := s.uploads(t.Context(), "", "", "")
		if err != nil || len(page.Uploads) != c.left {
			t.Errorf("%d uploads are left of what is %s old, %v; want %d", len(page.Uploads), c.age, err, c.left)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABlobOfTooManyPartsIsTooLarge(t *testing.T) {
	s := &Store{options: Options{PartSize: MinPartSize}}
	err := (&upload{s: s, d: digest(nil)}).tooLarge()
	wantCode(t, err, penstock.TooLarge)
}
