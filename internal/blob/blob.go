// Package blob is the port to the place where bytes are kept, by what they
// are. Adapters: fs (a folder) and s3 (a bucket); the suite in blobtest holds for
// each of them.
package blob

import (
	"context"
	"io"

	"github.com/penstock/penstock"
)

// Store keeps blobs: immutable bytes named by their SHA-256. All methods may be
// called from many goroutines at once. Errors are *penstock.Error: NotFound for
// a missing blob, Corrupt for bytes that don't have the digest they should.
type Store interface {
	// Put reads r to its end and keeps the bytes under want. It is atomic: after
	// an error, a crash included, either the whole blob is there or nothing.
	// Bytes whose digest isn't want are refused with Corrupt. Putting what is
	// there already succeeds and changes nothing.
	Put(ctx context.Context, want penstock.Digest, r io.Reader) error

	// Open gives the bytes from offset on; length < 0 means to the end. Reading
	// a whole blob ends with Corrupt instead of io.EOF if the bytes are not
	// those of the digest. The caller closes.
	Open(ctx context.Context, d penstock.Digest, offset, length int64) (io.ReadCloser, error)

	// Size is the number of bytes of d, or NotFound.
	Size(ctx context.Context, d penstock.Digest) (int64, error)

	// Walk calls fn for each blob, in no particular order, until fn fails.
	Walk(ctx context.Context, fn func(d penstock.Digest, size int64) error) error

	// Delete removes d. Deleting what isn't there succeeds.
	Delete(ctx context.Context, d penstock.Digest) error
}
