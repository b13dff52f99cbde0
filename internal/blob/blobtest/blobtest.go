// Package blobtest is the conformance suite of the blob port: one subtest for
// each promise of its contract. An adapter's test calls Run.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob"
)

// Adapter is what the suite needs of the adapter under test. Folder stands for
// one place where blobs are kept: an adapter that keeps them elsewhere derives
// a name from it.
type Adapter struct {
	// Open opens the store of a folder: the same folder again is the same
	// store, from another process as well. Cleaning up is up to t.
	Open func(t *testing.T, folder string) blob.Store
	// Damage replaces the stored bytes of a blob behind the store's back.
	Damage func(t *testing.T, folder string, d penstock.Digest, b []byte)
	// Remains lists what lies in a folder and is no blob: files or uploads that
	// were begun. A Put that fails and can tidy up leaves none.
	Remains func(t *testing.T, folder string) []string
	// Big is the size in bytes of a blob that the adapter moves in several
	// pieces, if it ever does; 4 MiB if 0.
	Big int
}

// big is a blob of Big bytes.
func (a Adapter) big(seed uint64) []byte {
	if a.Big == 0 {
		return random(seed, 4<<20)
	}
	return random(seed, a.Big)
}

// Run runs the suite. It starts the test binary again, with the name of the
// running test, to have something to kill: so it is called at the top of a test
// of its own, before anything else.
func Run(t *testing.T, a Adapter) {
	if putForParent(t, a) {
		return
	}
	tests := map[string]func(*testing.T, place){
		"what was put comes back":                       testRoundTrip,
		"a blob of several pieces comes back":           testBig,
		"a blob of no bytes is a blob":                  testEmpty,
		"the same store is there when opened again":     testReopen,
		"putting again changes nothing":                 testPutAgain,
		"16 at once putting the same blob all succeed":  testPutSame,
		"many at once putting different blobs succeed":  testPutDifferent,
		"16 at once putting the same pieces succeed":    testPutSameBig,
		"bytes that aren't the digest's are refused":    testLyingDigest,
		"pieces that aren't the digest's are refused":   testLyingBig,
		"what a reader says of its length is no matter": testLyingLength,
		"a reader that breaks off leaves nothing":       testCutReader,
		"a reader that breaks off late leaves nothing":  testCutBig,
		"a cancelled put leaves nothing":                testCancelledPut,
		"a blob is not seen before its last byte":       testUnseen,
		"a digest of another form makes nothing":        testHostileDigest,
		"a range gives its bytes and no more":           testRanges,
		"a range from past the end is refused":          testPastTheEnd,
		"a missing blob is NotFound":                    testMissing,
		"a cancelled context reads nothing":             testCancelledRead,
		"a cancelled context ends a read at once":       testCancelledBig,
		"ranges together are the blob":                  testRangesTogether,
		"a flipped bit is told at the end of the blob":  testFlippedBit,
		"a blob cut short is told at the end":           testCutBlob,
		"every blob is walked once, with its size":      testWalk,
		"a walk ends with the first error, which it is": testWalkError,
		"a deleted blob is gone, and may be deleted":    testDelete,
		"a deleted blob can be put again":               testPutDeleted,
		"readers read on while the blob is put again":   testReadWhilePut,
		"kill -9 in a put leaves all or nothing":        testKill,
	}
	for promise, test := range tests {
		t.Run(promise, func(t *testing.T) {
			folder := t.TempDir()
			test(t, place{a, folder, a.Open(t, folder)})
		})
	}
}

// place is a store and where it lies.
type place struct {
	adapter Adapter
	folder  string
	blob.Store
}

// random is n bytes that depend on the seed only.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

func digest(b []byte) penstock.Digest {
	sum := sha256.Sum256(b)
	return penstock.DigestOf(sum[:])
}

func put(t *testing.T, s blob.Store, b []byte) penstock.Digest {
	t.Helper()
	d := digest(b)
	if err := s.Put(t.Context(), d, bytes.NewReader(b)); err != nil {
		t.Fatalf("put %d bytes: %v", len(b), err)
	}
	return d
}

// read reads a range; the error is that of Open or of the reading.
func read(ctx context.Context, s blob.Store, d penstock.Digest, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, d, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantBlob(t *testing.T, s blob.Store, b []byte) {
	t.Helper()
	got, err := read(t.Context(), s, digest(b), 0, -1)
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %d bytes, %v; want the %d that were put", len(got), err, len(b))
	}
	if size, err := s.Size(t.Context(), digest(b)); err != nil || size != int64(len(b)) {
		t.Errorf("size is %d, %v; want %d", size, err, len(b))
	}
}

// wantCode wants a penstock.Error of the code, since that is what people see.
func wantCode(t *testing.T, err error, code penstock.Code) {
	t.Helper()
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code != code || e.Msg == "" {
		t.Errorf("got error %v, want code %s", err, code)
	}
}

// wantNothing wants no trace of d, nor of any other blob.
func wantNothing(t *testing.T, p place, d penstock.Digest) {
	t.Helper()
	wantUnseen(t, p, d)
	if left := p.adapter.Remains(t, p.folder); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// wantUnseen wants that nobody sees d, nor any other blob.
func wantUnseen(t *testing.T, s blob.Store, d penstock.Digest) {
	t.Helper()
	_, err := s.Size(t.Context(), d)
	wantCode(t, err, penstock.NotFound)
	_, err = read(t.Context(), s, d, 0, -1)
	wantCode(t, err, penstock.NotFound)
	wantList(t, s)
}

// wantList wants exactly these blobs in the store.
func wantList(t *testing.T, s blob.Store, blobs ...[]byte) {
	t.Helper()
	type entry struct {
		Digest penstock.Digest
		Size   int64
	}
	want, got := []entry{}, []entry{}
	for _, b := range blobs {
		want = append(want, entry{digest(b), int64(len(b))})
	}
	err := s.Walk(t.Context(), func(d penstock.Digest, size int64) error {
		got = append(got, entry{d, size})
		return nil
	})
	if err != nil {
		t.Errorf("walk: %v", err)
	}
	byDigest := func(a, b entry) int { return bytes.Compare([]byte(a.Digest), []byte(b.Digest)) }
	slices.SortFunc(want, byDigest)
	slices.SortFunc(got, byDigest)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("blobs in the store (-want +got):\n%s", diff)
	}
}
