package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/penstock/penstock"
)

func testRoundTrip(t *testing.T, p place) {
	var blobs [][]byte
	for i, n := range []int{1, 2, 511, 4096, 1<<20 - 1, 1 << 20, 3<<20 + 7} {
		blobs = append(blobs, random(uint64(i), n))
		put(t, p, blobs[i])
	}
	for _, b := range blobs {
		wantBlob(t, p, b)
	}
	// Readers of one byte at a time, and such as end with their last bytes.
	for i, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
		b := random(uint64(100+i), 3000)
		if err := p.Put(t.Context(), digest(b), wrap(bytes.NewReader(b))); err != nil {
			t.Fatalf("put: %v", err)
		}
		wantBlob(t, p, b)
	}
}

func testEmpty(t *testing.T, p place) {
	// The SHA-256 of nothing (FIPS 180-4 test vector).
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if d := put(t, p, nil); d != empty {
		t.Fatalf("digest %s", d)
	}
	wantBlob(t, p, nil)
	wantList(t, p, nil)
	b := random(1, 10)
	wantCode(t, p.Put(t.Context(), digest(b), bytes.NewReader(nil)), penstock.Corrupt)
	wantCode(t, p.Put(t.Context(), empty, bytes.NewReader(b)), penstock.Corrupt)
}

func testReopen(t *testing.T, p place) {
	b := random(1, 100_000)
	put(t, p, b)
	again := p.adapter.Open(t, p.folder)
	wantBlob(t, again, b)
	wantList(t, again, b)
}

func testPutAgain(t *testing.T, p place) {
	b := random(1, 100_000)
	put(t, p, b)
	put(t, p, b)
	wantBlob(t, p, b)
	wantList(t, p, b)
	wantCode(t, p.Put(t.Context(), digest(b), strings.NewReader("something else")), penstock.Corrupt)
	wantBlob(t, p, b)
}

func testBig(t *testing.T, p place) {
	whole := p.adapter.big(1)
	for _, n := range []int{len(whole), len(whole) / 2, len(whole)/2 - 1, len(whole)/2 + 1} {
		put(t, p, whole[:n])
		wantBlob(t, p, whole[:n])
	}
	p.Store = p.adapter.Open(t, p.folder)
	wantBlob(t, p, whole)
	if left := p.adapter.Remains(t, p.folder); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func testPutSame(t *testing.T, p place) { putSame(t, p, random(1, 1<<20)) }

func testPutSameBig(t *testing.T, p place) { putSame(t, p, p.adapter.big(1)) }

// putSame makes all of them write at the same time: each has given its first
// half before any gives its second.
func putSame(t *testing.T, p place, b []byte) {
	t.Helper()
	const putters = 16
	var half, done sync.WaitGroup
	half.Add(putters)
	errs := make([]error, putters)
	for i := range putters {
		done.Go(func() {
			waiting := readerFunc(func([]byte) (int, error) {
				half.Done()
				half.Wait()
				return 0, io.EOF
			})
			r := io.MultiReader(bytes.NewReader(b[:len(b)/2]), waiting, bytes.NewReader(b[len(b)/2:]))
			errs[i] = p.Put(t.Context(), digest(b), r)
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("put: %v", err)
	}
	wantBlob(t, p, b)
	wantList(t, p, b)
	if left := p.adapter.Remains(t, p.folder); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func testPutDifferent(t *testing.T, p place) {
	blobs, errs := make([][]byte, 64), make([]error, 64)
	var done sync.WaitGroup
	for i := range blobs {
		blobs[i] = random(uint64(i), 1000*i)
		done.Go(func() { errs[i] = p.Put(t.Context(), digest(blobs[i]), bytes.NewReader(blobs[i])) })
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("put: %v", err)
	}
	for _, b := range blobs {
		wantBlob(t, p, b)
	}
	wantList(t, p, blobs...)
}

func testLyingDigest(t *testing.T, p place) {
	b := random(1, 100_000)
	for name, sent := range map[string][]byte{
		"shorter": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "other": random(2, len(b)), "none": nil,
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, p.Put(t.Context(), digest(b), bytes.NewReader(sent)), penstock.Corrupt)
			wantNothing(t, p, digest(b))
			if len(sent) > 0 {
				wantNothing(t, p, digest(sent))
			}
		})
	}
}

func testLyingBig(t *testing.T, p place) {
	b := p.adapter.big(1)
	flipped := bytes.Clone(b)
	flipped[0] ^= 1
	for name, sent := range map[string][]byte{
		"shorter": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "flipped": flipped, "half": b[:len(b)/2],
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, p.Put(t.Context(), digest(b), bytes.NewReader(sent)), penstock.Corrupt)
			wantNothing(t, p, digest(b))
		})
	}
	put(t, p, b)
	wantBlob(t, p, b)
}

// saysLength is a reader with the methods that HTTP clients ask for a length.
type saysLength struct {
	io.Reader
	n int
}

func (s saysLength) Len() int    { return s.n }
func (s saysLength) Size() int64 { return int64(s.n) }

func testLyingLength(t *testing.T, p place) {
	for i, b := range [][]byte{random(1, 100_000), p.adapter.big(2)} {
		for _, n := range []int{0, len(b) - 1, len(b) + 1, 2 * len(b), -1} {
			r := saysLength{bytes.NewReader(b), n}
			if err := p.Put(t.Context(), digest(b), r); err != nil {
				t.Errorf("blob %d of %d bytes that says %d: %v", i, len(b), n, err)
			}
			wantBlob(t, p, b)
			if err := p.Delete(t.Context(), digest(b)); err != nil {
				t.Errorf("delete: %v", err)
			}
			short := saysLength{bytes.NewReader(b[:len(b)-1]), len(b)}
			wantCode(t, p.Put(t.Context(), digest(b), short), penstock.Corrupt)
			wantNothing(t, p, digest(b))
		}
	}
}

func testCutBig(t *testing.T, p place) {
	b := p.adapter.big(1)
	for _, n := range []int{len(b) / 2, len(b) - 1, len(b)} {
		cut := errors.New("the cable was pulled")
		err := p.Put(t.Context(), digest(b), io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(cut)))
		if !errors.Is(err, cut) {
			t.Errorf("cut after %d bytes: got %v, want the reader's error as its cause", n, err)
		}
		wantCode(t, err, penstock.Unavailable)
		wantNothing(t, p, digest(b))
	}
	put(t, p, b)
	wantBlob(t, p, b)
}

// testUnseen looks from within the Put, before it can end.
func testUnseen(t *testing.T, p place) {
	for _, b := range [][]byte{random(1, 100_000), p.adapter.big(2)} {
		look := readerFunc(func([]byte) (int, error) {
			wantUnseen(t, p, digest(b))
			return 0, io.EOF
		})
		if err := p.Put(t.Context(), digest(b), io.MultiReader(bytes.NewReader(b), look)); err != nil {
			t.Errorf("put: %v", err)
		}
		wantBlob(t, p, b)
		if err := p.Delete(t.Context(), digest(b)); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
}

func testCutReader(t *testing.T, p place) {
	b := random(1, 2<<20)
	for _, n := range []int{0, 1, 1 << 20, len(b)} {
		cut := errors.New("the cable was pulled")
		r := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(cut))
		err := p.Put(t.Context(), digest(b), r)
		if !errors.Is(err, cut) {
			t.Errorf("cut after %d bytes: got %v, want the reader's error as its cause", n, err)
		}
		wantCode(t, err, penstock.Unavailable)
		wantNothing(t, p, digest(b))
	}
	own := &penstock.Error{Code: penstock.TooLarge, Msg: "more than the limit"}
	wantCode(t, p.Put(t.Context(), digest(b), iotest.ErrReader(own)), penstock.TooLarge)
}

func testCancelledPut(t *testing.T, p place) {
	b := p.adapter.big(1)
	ctx, cancel := context.WithCancel(t.Context())
	halfway := readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})
	err := p.Put(ctx, digest(b), io.MultiReader(bytes.NewReader(b[:len(b)/2]), halfway, bytes.NewReader(b[len(b)/2:])))
	wantCode(t, err, penstock.Canceled)
	wantNothing(t, p, digest(b))
	wantCode(t, p.Put(ctx, digest(b), bytes.NewReader(b)), penstock.Canceled)
	wantNothing(t, p, digest(b))
}

// testHostileDigest has the digests that made other stores write elsewhere
// (CVE-2024-37032 of Ollama, and again in its issue 17178).
func testHostileDigest(t *testing.T, p place) {
	hex := digest([]byte("x")).Hex()
	hostile := []string{
		"", ".", "..", "/", "sha256:", "sha256:..", "sha256:../../../../etc/passwd", "sha256:" + strings.Repeat("../", 21) + "x",
		"../" + hex[3:], "/" + hex, hex, "sha256-" + hex, "sha512:" + hex, "SHA256:" + hex, "sha256:" + strings.ToUpper(hex),
		"sha256:" + hex[:63], "sha256:" + hex + "0", "sha256:" + hex + "\n", " sha256:" + hex, "sha256:" + hex[:62] + "/x",
		"sha256:" + hex[:63] + "\x00", "sha256:" + hex[:61] + "../", `sha256:..\..\` + hex[6:],
	}
	for _, d := range hostile {
		t.Run(fmt.Sprintf("%q", d), func(t *testing.T) {
			d := penstock.Digest(d)
			wantCode(t, p.Put(t.Context(), d, strings.NewReader("x")), penstock.Invalid)
			_, err := read(t.Context(), p, d, 0, -1)
			wantCode(t, err, penstock.Invalid)
			_, err = p.Size(t.Context(), d)
			wantCode(t, err, penstock.Invalid)
			wantCode(t, p.Delete(t.Context(), d), penstock.Invalid)
		})
	}
	wantList(t, p)
}
