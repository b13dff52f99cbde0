package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

const bigSize = 2*MinPartSize + 1<<20 // three parts

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func digest(b []byte) penstock.Digest {
	sum := sha256.Sum256(b)
	return penstock.DigestOf(sum[:])
}

// faulty opens a store behind a proxy.
func faulty(t *testing.T, change func(*Options)) (*Store, *proxy) {
	t.Helper()
	server := s3test.Start(t)
	p := newProxy(t, server, httptest.NewServer)
	o := options(server)
	o.Endpoint = p.URL
	if change != nil {
		change(&o)
	}
	s := mustOpen(t, o)
	s.done.Wait() // for the sweep, whose requests would be seen
	return s, p
}

func put(t *testing.T, s *Store, b []byte) {
	t.Helper()
	if err := s.Put(t.Context(), digest(b), bytes.NewReader(b)); err != nil {
		t.Fatalf("put %d bytes: %v", len(b), err)
	}
}

func read(ctx context.Context, s *Store, d penstock.Digest, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, d, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantBlob(t *testing.T, s *Store, b []byte) {
	t.Helper()
	if got, err := read(t.Context(), s, digest(b), 0, -1); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %d bytes, %v; want the %d that were put", len(got), err, len(b))
	}
}

func wantOnly(t *testing.T, s *Store, blobs ...[]byte) {
	t.Helper()
	want, got := map[penstock.Digest]int64{}, map[penstock.Digest]int64{}
	for _, b := range blobs {
		want[digest(b)] = int64(len(b))
	}
	err := s.Walk(t.Context(), func(d penstock.Digest, size int64) error {
		got[d] = size
		return nil
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("walk: %v; blobs (-want +got):\n%s", err, diff)
	}
}

func wantCode(t *testing.T, err error, code penstock.Code) {
	t.Helper()
	if got := penstock.CodeOf(err); got != code {
		t.Errorf("got error %v of code %q, want %q", err, got, code)
	}
}

// TestEveryRequestEndsInTheTruth does to each sort of request, twice, all that a
// network or a server in trouble does.
func TestEveryRequestEndsInTheTruth(t *testing.T) {
	s, p := faulty(t, func(o *Options) { o.Timeout = time.Second })
	s.ages.complete = time.Second
	small, big := random(1, 100_000), random(2, bigSize)
	for name, fault := range map[string]fate{
		"refused for a moment": slow, "done, but the answer is lost": mute, "silent": hang,
		"cut while it is sent": sever, "changed on its way": garbled,
	} {
		t.Run(name, func(t *testing.T) {
			for sort, match := range map[string]func(*http.Request) bool{
				"put": isPut, "part": isPart, "complete": isComplete, "begin": isBegin,
				"delete": func(r *http.Request) bool { return r.Method == http.MethodDelete },
				"look":   func(r *http.Request) bool { return r.Method == http.MethodHead },
			} {
				t.Run(sort, func(t *testing.T) {
					s.budget.tokens = budgetTokens
					for _, b := range [][]byte{small, big} {
						p.set(once(fault, 2, match))
						put(t, s, b)
						wantBlob(t, s, b)
						wantOnly(t, s, b)
						if err := s.Delete(t.Context(), digest(b)); err != nil {
							t.Errorf("delete: %v", err)
						}
						wantOnly(t, s)
					}
				})
			}
		})
	}
}

func TestAReadGoesOnWhereItBrokeOff(t *testing.T) {
	s, p := faulty(t, func(o *Options) { o.Timeout = time.Second })
	b := random(1, 3<<20)
	put(t, s, b)
	for name, fault := range map[string]fate{"cut": cut, "stalled": stall} {
		p.set(once(fault, 3, isGet))
		wantBlob(t, s, b)
		gets := p.requests(isGet)
		if len(gets) != 4 || gets[3].Header.Get("If-Match") == "" || gets[3].Header.Get("Range") == "" {
			t.Errorf("%s: %d requests, want 4, with Range and If-Match after the first", name, len(gets))
		}
		p.set(once(fault, 3, isGet))
		got, err := read(t.Context(), s, digest(b), 100, 2<<20)
		if err != nil || !bytes.Equal(got, b[100:100+2<<20]) {
			t.Errorf("%s: range of %d bytes, %v", name, len(got), err)
		}
	}
}

func TestABlobThatIsGoneWhileItIsReadIsNotFound(t *testing.T) {
	s, p := faulty(t, nil)
	b := random(1, 3<<20)
	put(t, s, b)
	p.set(once(cut, 1, isGet))
	r, err := s.Open(t.Context(), digest(b), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.Delete(t.Context(), digest(b)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, r)
	wantCode(t, err, penstock.NotFound)
}

func TestASickServerIsNotHammered(t *testing.T) {
	s, p := faulty(t, nil)
	p.set(always(slow, anyRequest))
	s.budget.tokens = 3
	for range 10 {
		_, err := s.Size(t.Context(), digest(nil))
		wantCode(t, err, penstock.Unavailable)
	}
	if n := len(p.requests(anyRequest)); n != 10+3 {
		t.Errorf("%d requests for 10 calls with 3 retries left, want 13", n)
	}
	p.set(always(pass, anyRequest))
	for range 10 {
		_, err := s.Size(t.Context(), digest(nil))
		wantCode(t, err, penstock.NotFound)
	}
	if got := s.budget.tokens; got < 0.99 || got > 1.01 {
		t.Errorf("%v retries after 10 good answers, want 1", got)
	}
}

func TestWhatCannotSucceedIsNotTriedAgain(t *testing.T) {
	s, p := faulty(t, nil)
	p.set(always(echo, anyRequest))
	_, err := s.Size(t.Context(), digest(nil))
	wantCode(t, err, penstock.Unavailable)
	if n := len(p.requests(anyRequest)); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	s, p := faulty(t, func(o *Options) { o.Timeout = 100 * time.Millisecond })
	p.set(always(hang, anyRequest))
	s.budget.tokens = 2
	for _, b := range [][]byte{random(1, 1000), random(2, bigSize)} {
		wantCode(t, s.Put(t.Context(), digest(b), bytes.NewReader(b)), penstock.Unavailable)
	}
}

func TestAContextEndsATransferAtOnce(t *testing.T) {
	s, p := faulty(t, func(o *Options) { o.Timeout = time.Hour })
	b := random(1, bigSize)
	for name, match := range map[string]func(*http.Request) bool{"part": isPart, "complete": isComplete, "begin": isBegin} {
		ctx, cancel := context.WithCancel(t.Context())
		p.set(always(hang, func(r *http.Request) bool {
			if match(r) {
				time.AfterFunc(10*time.Millisecond, cancel)
			}
			return match(r)
		}))
		start := time.Now()
		wantCode(t, s.Put(ctx, digest(b), bytes.NewReader(b)), penstock.Canceled)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: the Put ended after %s", name, took)
		}
		if left := unfinished(t, s); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
	wantOnly(t, s)
}

func TestASlowCallerIsNoStall(t *testing.T) {
	s, _ := faulty(t, func(o *Options) { o.Timeout = 200 * time.Millisecond })
	b := random(1, bigSize)
	put(t, s, b)
	r, err := s.Open(t.Context(), digest(b), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	for range 2 {
		if _, err := io.CopyN(&got, r, 1000); err != nil {
			t.Fatal(err)
		}
		<-time.After(300 * time.Millisecond) // the time itself is what is tested
	}
	if _, err := io.Copy(&got, r); err != nil || !bytes.Equal(got.Bytes(), b) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
}

func TestWritesAreConditionalCheckedAndEncrypted(t *testing.T) {
	s, p := faulty(t, nil)
	sse, err := Options{Encryption: EncryptionKMS, KMSKey: "alias/blobs"}.encryption()
	if err != nil {
		t.Fatal(err)
	}
	s.encryption = sse
	p.set(always(pass, anyRequest))
	put(t, s, random(1, 1000))
	put(t, s, random(2, bigSize))
	for name, want := range map[string]struct {
		match   func(*http.Request) bool
		n       int
		headers []string
	}{
		"put":      {isPut, 1, []string{"If-None-Match", "X-Amz-Checksum-Sha256", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"}},
		"begin":    {isBegin, 1, []string{"X-Amz-Checksum-Algorithm", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"}},
		"part":     {isPart, 3, []string{"X-Amz-Checksum-Sha256"}},
		"complete": {isComplete, 1, []string{"If-None-Match"}},
	} {
		found := p.requests(want.match)
		if len(found) != want.n {
			t.Errorf("%s: %d requests, want %d", name, len(found), want.n)
			continue
		}
		for _, h := range want.headers {
			if found[0].Header.Get(h) == "" {
				t.Errorf("%s has no %s", name, h)
			}
		}
	}
}
