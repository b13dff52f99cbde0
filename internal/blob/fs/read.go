package fs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/penstock/penstock"
)

// Open implements blob.Store. An offset past the end is Invalid; a range that
// reaches past the end stops there.
func (s *Store) Open(ctx context.Context, d penstock.Digest, offset, length int64) (io.ReadCloser, error) {
	name, err := place(d)
	if err != nil {
		return nil, err
	}
	if err := alive(ctx); err != nil {
		return nil, err
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, missing(d, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fault("look at blob "+d.Short(), err), f.Close())
	}
	size := info.Size()
	if offset < 0 || offset > size {
		return nil, errors.Join(&penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("blob %s has %d bytes; it can't be read from byte %d on", d.Short(), size, offset),
		}, f.Close())
	}
	rest := size - offset
	whole := offset == 0 && (length < 0 || length >= size)
	if length >= 0 && length < rest {
		rest = length
	}
	r := &reader{ctx: ctx, d: d, file: f, rest: rest}
	if whole {
		r.hash, r.part = sha256.New(), f
	} else {
		r.part = io.NewSectionReader(f, offset, rest)
	}
	return r, nil
}

// reader reads a blob or a part of it. hash is nil for a part, which nothing
// can be held against.
type reader struct {
	ctx  context.Context
	d    penstock.Digest
	file *os.File
	part io.Reader
	rest int64 // bytes that must still come
	hash hash.Hash
}

func (r *reader) Read(p []byte) (int, error) {
	if err := alive(r.ctx); err != nil {
		return 0, err
	}
	n, err := r.part.Read(p)
	r.rest -= int64(n)
	if r.hash != nil {
		r.hash.Write(p[:n])
	}
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		return n, fault("read blob "+r.d.Short(), err)
	case r.hash == nil && r.rest > 0:
		return n, corrupt(r.d, fmt.Sprintf("%d bytes of it are missing", r.rest))
	case r.hash != nil:
		if got := penstock.DigestOf(r.hash.Sum(nil)); got != r.d {
			return n, corrupt(r.d, "its bytes have the digest "+string(got))
		}
	}
	return n, io.EOF
}

func corrupt(d penstock.Digest, why string) error {
	return &penstock.Error{
		Code: penstock.Corrupt, Msg: fmt.Sprintf("blob %s is damaged: %s", d, why),
		Hint: "delete the blob and store its bytes again; check the disk that holds the data folder",
	}
}

// Close gives the file back.
func (r *reader) Close() error { return r.file.Close() }
