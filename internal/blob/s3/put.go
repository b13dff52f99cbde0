package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/minio/minio-go/v7"

	"github.com/penstock/penstock"
)

// The header of the checksum that the server verifies and keeps, and the one
// that announces it for the parts of an upload (Amazon S3 User Guide, "Checking
// object integrity").
const (
	checksumHeader    = "x-amz-checksum-sha256"
	checksumAlgorithm = "x-amz-checksum-algorithm"
)

// Put implements blob.Store. The bytes of a blob that is there already are read
// and checked as well, so that the answer doesn't depend on who came first.
func (s *Store) Put(ctx context.Context, want penstock.Digest, r io.Reader) error {
	key, err := s.place(want)
	if err != nil {
		return err
	}
	in := &source{ctx: ctx, r: r, want: want, hash: sha256.New()}
	switch _, err := s.stat(ctx, want, key); {
	case err == nil:
		return in.drain()
	case penstock.CodeOf(err) != penstock.NotFound:
		return err
	}
	first, end, err := in.fill(nil, s.options.PartSize)
	if err != nil {
		return err
	}
	if !end {
		return s.putParts(ctx, in, key, first)
	}
	if err := in.verdict(); err != nil {
		return err
	}
	return s.putWhole(ctx, want, key, first)
}

func (s *Store) putWhole(ctx context.Context, want penstock.Digest, key string, b []byte) error {
	opts := s.writing()
	sum, _ := hex.DecodeString(want.Hex()) // place has checked its form
	opts.UserMetadata = map[string]string{checksumHeader: base64.StdEncoding.EncodeToString(sum)}
	opts.SetMatchETagExcept("*")
	err := s.try(ctx, "put blob "+want.Short(), func(ctx context.Context) error {
		_, err := s.core.PutObject(ctx, s.bucket, key, bytes.NewReader(b), int64(len(b)), "", want.Hex(), opts)
		return err
	})
	if said(err) == preconditionFailed {
		return nil // somebody was quicker, or it was us and the answer got lost
	}
	return err
}

// writing is what all that begins an object has in common. Content is hashed
// beforehand, in place of a signature in each of its pieces.
func (s *Store) writing() minio.PutObjectOptions {
	return minio.PutObjectOptions{ServerSideEncryption: s.encryption, DisableContentSha256: true}
}

// source is the reader of a Put. It ends with its context, and takes the digest
// of all that it gives.
type source struct {
	ctx  context.Context
	r    io.Reader
	want penstock.Digest
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	n      int64
	failed bool // it was not the server that ended the Put
}

func (in *source) refuse(err error) error {
	in.failed = true
	return err
}

// fill reads up to size bytes into the room of b, which grows with what comes:
// many small blobs take little memory. It says whether that was the end.
func (in *source) fill(b []byte, size int64) (part []byte, end bool, err error) {
	const begin = 64 << 10
	for b = b[:0]; int64(len(b)) < size; {
		if err := alive(in.ctx); err != nil {
			return nil, false, in.refuse(err)
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, int(min(max(int64(len(b)), begin), size-int64(len(b)))))
		}
		n, err := in.r.Read(b[len(b):min(int64(cap(b)), size)])
		in.hash.Write(b[len(b) : len(b)+n])
		b, in.n = b[:len(b)+n], in.n+int64(n)
		if err == io.EOF {
			return b, true, nil
		}
		if err != nil {
			return nil, false, in.refuse(in.fault(err))
		}
	}
	return b, false, nil
}

// drain reads to the end, for the digest only.
func (in *source) drain() error {
	b := make([]byte, 256<<10)
	for {
		_, end, err := in.fill(b, int64(len(b)))
		if err != nil {
			return err
		}
		if end {
			return in.verdict()
		}
	}
}

// verdict says whether the bytes were those of the digest.
func (in *source) verdict() error {
	got := penstock.DigestOf(in.hash.Sum(nil))
	if got == in.want {
		return nil
	}
	return in.refuse(&penstock.Error{
		Code: penstock.Corrupt, Msg: fmt.Sprintf("%d bytes that should be blob %s have the digest %s", in.n, in.want, got),
		Hint: "send the bytes again; if it happens again, the digest was taken of something else",
	})
}

func (in *source) fault(err error) error {
	var e *penstock.Error
	switch {
	case errors.As(err, &e):
		return fmt.Errorf("read blob %s: %w", in.want.Short(), err)
	case in.ctx.Err() != nil:
		return &penstock.Error{Code: penstock.Canceled, Msg: fmt.Sprintf("given up after %d bytes of blob %s", in.n, in.want.Short()), Err: err}
	}
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: fmt.Sprintf("the bytes of blob %s broke off after %d", in.want.Short(), in.n), Err: err,
		Hint: "send them again; nothing was kept of this",
	}
}
