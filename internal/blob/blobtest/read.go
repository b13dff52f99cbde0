package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/penstock/penstock"
)

func testRanges(t *testing.T, p place) {
	b := random(1, 300_000)
	d := put(t, p, b)
	n := int64(len(b))
	for _, r := range []struct{ offset, length int64 }{
		{0, 0}, {0, 1}, {0, n - 1}, {0, n}, {0, n + 1}, {0, -1}, {1, -1}, {1, 1}, {1, n}, {n - 1, 1}, {n - 1, -1}, {n, 0}, {n, -1}, {n, 5},
		{100_000, 100_000}, {299_000, 1 << 62},
	} {
		end := n
		if r.length >= 0 && r.length < n-r.offset {
			end = r.offset + r.length
		}
		got, err := read(t.Context(), p, d, r.offset, r.length)
		if err != nil || !bytes.Equal(got, b[r.offset:end]) {
			t.Errorf("offset %d, length %d: got %d bytes, %v; want %d", r.offset, r.length, len(got), err, end-r.offset)
		}
	}
}

func testPastTheEnd(t *testing.T, p place) {
	d := put(t, p, random(1, 100))
	for _, offset := range []int64{-1, 101, 1 << 62} {
		_, err := read(t.Context(), p, d, offset, -1)
		wantCode(t, err, penstock.Invalid)
	}
}

func testMissing(t *testing.T, p place) { wantNothing(t, p, digest([]byte("never put"))) }

func testCancelledRead(t *testing.T, p place) {
	b := random(1, 1<<20)
	d := put(t, p, b)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := p.Open(ctx, d, 0, -1)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatalf("read: %v", err)
	}
	cancel()
	_, err = io.ReadAll(r)
	wantCode(t, err, penstock.Canceled)
	_, err = p.Open(ctx, d, 0, -1)
	wantCode(t, err, penstock.Canceled)
	_, err = p.Size(ctx, d)
	wantCode(t, err, penstock.Canceled)
	wantCode(t, p.Delete(ctx, d), penstock.Canceled)
	wantCode(t, p.Walk(ctx, func(penstock.Digest, int64) error { return nil }), penstock.Canceled)
	wantBlob(t, p, b)
}

func testCancelledBig(t *testing.T, p place) {
	b := p.adapter.big(1)
	d := put(t, p, b)
	for _, offset := range []int64{0, 1} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := p.Open(ctx, d, offset, -1)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Errorf("read: %v", err)
		}
		cancel()
		got, err := io.ReadAll(r)
		wantCode(t, err, penstock.Canceled)
		if len(got) > 0 {
			t.Errorf("%d bytes came after the context had ended", len(got))
		}
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func testRangesTogether(t *testing.T, p place) {
	b := p.adapter.big(1)
	d := put(t, p, b)
	for _, step := range []int{len(b) / 2, len(b)/3 + 1, len(b) - 1} {
		var whole []byte
		for at := 0; at < len(b); at += step {
			part, err := read(t.Context(), p, d, int64(at), int64(step))
			if err != nil {
				t.Fatalf("read %d bytes from %d on: %v", step, at, err)
			}
			whole = append(whole, part...)
		}
		if !bytes.Equal(whole, b) {
			t.Errorf("ranges of %d bytes are %d bytes together, or others; want %d", step, len(whole), len(b))
		}
	}
}

func testFlippedBit(t *testing.T, p place) {
	b := random(1, 1<<20)
	for _, at := range []int{0, len(b) / 2, len(b) - 1} {
		d := put(t, p, b)
		damaged := bytes.Clone(b)
		damaged[at] ^= 0x10
		p.adapter.Damage(t, p.folder, d, damaged)
		_, err := read(t.Context(), p, d, 0, -1)
		wantCode(t, err, penstock.Corrupt)
		_, err = read(t.Context(), p, d, 0, int64(len(b)))
		wantCode(t, err, penstock.Corrupt)
		// What the store tells to do about it helps.
		if err := p.Delete(t.Context(), d); err != nil {
			t.Fatalf("delete: %v", err)
		}
		put(t, p, b)
		wantBlob(t, p, b)
	}
}

func testCutBlob(t *testing.T, p place) {
	b := random(1, 1<<20)
	d := put(t, p, b)
	for _, stored := range [][]byte{b[:len(b)-1], b[:0], append(bytes.Clone(b), 0)} {
		p.adapter.Damage(t, p.folder, d, stored)
		_, err := read(t.Context(), p, d, 0, -1)
		wantCode(t, err, penstock.Corrupt)
	}
}

func testWalk(t *testing.T, p place) {
	wantList(t, p)
	var blobs [][]byte
	for i := range 300 {
		blobs = append(blobs, random(uint64(i), i))
		put(t, p, blobs[i])
	}
	wantList(t, p, blobs...)
}

func testWalkError(t *testing.T, p place) {
	for i := range 3 {
		put(t, p, random(uint64(i), 10))
	}
	enough, calls := errors.New("enough"), 0
	err := p.Walk(t.Context(), func(penstock.Digest, int64) error {
		calls++
		return enough
	})
	if err != enough || calls != 1 {
		t.Errorf("got %v after %d calls, want the callback's own error after 1", err, calls)
	}
}

func testDelete(t *testing.T, p place) {
	keep, drop := random(1, 1000), random(2, 1000)
	put(t, p, keep)
	d := put(t, p, drop)
	for range 2 {
		if err := p.Delete(t.Context(), d); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	_, err := p.Size(t.Context(), d)
	wantCode(t, err, penstock.NotFound)
	wantList(t, p, keep)
	wantBlob(t, p, keep)
}

func testPutDeleted(t *testing.T, p place) {
	b := random(1, 1000)
	if err := p.Delete(t.Context(), put(t, p, b)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	wantNothing(t, p, digest(b))
	put(t, p, b)
	wantBlob(t, p, b)
}

func testReadWhilePut(t *testing.T, p place) {
	b := random(1, 1<<20)
	d := put(t, p, b)
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			got, err := read(t.Context(), p, d, 0, -1)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
		done.Go(func() {
			if err := p.Put(t.Context(), d, bytes.NewReader(b)); err != nil {
				t.Errorf("put: %v", err)
			}
		})
	}
	done.Wait()
}
