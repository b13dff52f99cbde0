package fs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/penstock/penstock"
)

// chunk is how much is read before the digest and the context are looked at.
const chunk = 256 << 10

// Put implements blob.Store. The bytes of a blob that is there already are read
// and checked as well, so that the answer doesn't depend on who came first.
func (s *Store) Put(ctx context.Context, want penstock.Digest, r io.Reader) error {
	name, err := place(want)
	if err != nil {
		return err
	}
	if err := alive(ctx); err != nil {
		return err
	}
	in := &source{ctx: ctx, r: r}
	if _, err := s.root.Lstat(name); err == nil {
		if err := check(in, io.Discard, want); err != nil {
			return err
		}
	} else if err := s.write(in, want, name); err != nil {
		return err
	}
	// Also where another Put made the blob: it may not have come to this yet.
	return s.sync(path.Dir(name))
}

func (s *Store) write(in *source, want penstock.Digest, name string) (err error) {
	temp := path.Join(path.Dir(name), partial+rand.Text())
	// The mode is for whoever opens the file later.
	f, err := s.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return fault("make file for blob "+want.Short(), err)
	}
	defer func() { err = errors.Join(err, s.root.Remove(temp)) }()
	err = check(in, f, want)
	if err == nil {
		if err = f.Sync(); err != nil {
			err = fault("sync blob "+want.Short(), err)
		}
	}
	if closing := f.Close(); err == nil && closing != nil {
		err = fault("close blob "+want.Short(), closing)
	}
	if err != nil {
		return err
	}
	// Unlike a rename, a link never takes the place of what is there.
	if err := s.root.Link(temp, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault("name blob "+want.Short(), err)
	}
	return nil
}

// check copies in to out, and says whether the bytes are those of want.
func check(in *source, out io.Writer, want penstock.Digest) error {
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(hash, out), in, make([]byte, chunk))
	switch {
	case in.err != nil:
		return in.fault(want, n)
	case err != nil:
		return fault("write blob "+want.Short(), err)
	}
	if got := penstock.DigestOf(hash.Sum(nil)); got != want {
		return &penstock.Error{
			Code: penstock.Corrupt, Msg: fmt.Sprintf("%d bytes that should be blob %s have the digest %s", n, want, got),
			Hint: "send the bytes again; if it happens again, the digest was taken of something else",
		}
	}
	return nil
}

// source is a reader that ends with its context, and remembers its own error so
// that it isn't taken for one of the disk.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err = alive(s.ctx); s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) fault(want penstock.Digest, n int64) error {
	var e *penstock.Error
	switch {
	case errors.As(s.err, &e):
		return fmt.Errorf("read blob %s: %w", want.Short(), s.err)
	case s.ctx.Err() != nil:
		return &penstock.Error{Code: penstock.Canceled, Msg: fmt.Sprintf("given up after %d bytes of blob %s", n, want.Short()), Err: s.err}
	}
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: fmt.Sprintf("the bytes of blob %s broke off after %d", want.Short(), n), Err: s.err,
		Hint: "send them again; nothing was kept of this",
	}
}
