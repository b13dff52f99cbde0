// Package fs keeps blobs in a folder: the adapter of the blob port for one
// machine. The blob sha256:abcdef… is the file blobs/sha256/ab/cdef…, read-only.
//
// A Put writes a temporary file next to the blob's place, syncs it, links it to
// its name and syncs the folder, so a crash leaves the whole blob or at most a
// temporary file. Open removes the temporary files that are too old to belong
// to a Put that still runs.
package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
)

const (
	base = "blobs/sha256"
	// partial begins the name of a file that is being written. No blob's name
	// begins so.
	partial = ".partial-"
	// abandoned is the age from which a partial file belongs to nobody. A Put
	// writes to its file all the time, so the file of a living one is younger.
	abandoned = time.Hour
)

// Store is a blob.Store in a folder. It may be used by several processes at
// once.
type Store struct{ root *os.Root }

// Open opens the store in folder, which it makes where it is missing, and
// removes what crashed Puts left there more than an hour ago. Close it when
// nothing uses it any more.
func Open(folder string) (*Store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fault("make folder "+folder, err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fault("open folder "+folder, err)
	}
	s := &Store{root}
	if err := errors.Join(s.layOut(), s.sweep(time.Now().Add(-abandoned))); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// Close gives the folder back. Readers that are still open stay usable.
func (s *Store) Close() error { return s.root.Close() }

// layOut makes all the folders there will ever be, once: a Put that had to make
// its folder would have to wait until everybody who made one had synced it.
func (s *Store) layOut() error {
	if err := s.root.MkdirAll(base, 0o700); err != nil {
		return fault("make folder for blobs", err)
	}
	for i := range 256 {
		if err := s.root.Mkdir(prefix(i), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fault("make folder for blobs", err)
		}
	}
	return errors.Join(s.sync(base), s.sync(path.Dir(base)), s.sync("."))
}

func prefix(i int) string { return fmt.Sprintf("%s/%02x", base, i) }

func (s *Store) sweep(before time.Time) error {
	for i := range 256 {
		entries, err := fs.ReadDir(s.root.FS(), prefix(i))
		if err != nil {
			return fault("list blobs", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), partial) {
				continue
			}
			info, err := e.Info()
			if err == nil && info.ModTime().Before(before) {
				err = s.root.Remove(path.Join(prefix(i), e.Name()))
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fault("remove an abandoned file", err)
			}
		}
	}
	return nil
}

// sync makes the entries of a folder last.
func (s *Store) sync(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return fault("open folder", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fault("sync folder", err)
	}
	return nil
}

// place is where a blob lies. Only the one form of a digest gets a place, so no
// digest leads out of the store.
func place(d penstock.Digest) (string, error) {
	if _, err := penstock.ParseDigest(string(d)); err != nil {
		return "", err
	}
	hex := d.Hex()
	return path.Join(base, hex[:2], hex[2:]), nil
}

// Size implements blob.Store.
func (s *Store) Size(ctx context.Context, d penstock.Digest) (int64, error) {
	name, err := place(d)
	if err != nil {
		return 0, err
	}
	if err := alive(ctx); err != nil {
		return 0, err
	}
	info, err := s.root.Lstat(name)
	if err != nil {
		return 0, missing(d, err)
	}
	return info.Size(), nil
}

// Walk implements blob.Store. Blobs that come or go meanwhile may or may not be
// among those that are told.
func (s *Store) Walk(ctx context.Context, fn func(d penstock.Digest, size int64) error) error {
	for i := range 256 {
		entries, err := fs.ReadDir(s.root.FS(), prefix(i))
		if err != nil {
			return fault("list blobs", err)
		}
		for _, e := range entries {
			d, err := penstock.ParseDigest(fmt.Sprintf("sha256:%02x%s", i, e.Name()))
			if err != nil {
				continue // a partial file
			}
			if err := alive(ctx); err != nil {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fault("look at blob "+d.Short(), err)
			}
			if err := fn(d, info.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete implements blob.Store. Readers that are open can be read to their end.
func (s *Store) Delete(ctx context.Context, d penstock.Digest) error {
	name, err := place(d)
	if err != nil {
		return err
	}
	if err := alive(ctx); err != nil {
		return err
	}
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault("delete blob "+d.Short(), err)
	}
	return s.sync(path.Dir(name))
}

func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &penstock.Error{Code: penstock.Canceled, Msg: "given up", Err: err}
	}
	return nil
}

func missing(d penstock.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no blob %s", d)}
	}
	return fault("open blob "+d.Short(), err)
}

// fault says what the file system said no to. A full disk is told apart from
// the rest: somebody can do something about it.
func fault(doing string, err error) error {
	var e *penstock.Error
	switch {
	case errors.As(err, &e):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: doing + ": there is no room left on the disk", Err: err,
			Hint: "free space on the disk of the data folder, or raise its quota, and try again; nothing was kept of this",
		}
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EROFS):
		return &penstock.Error{Code: penstock.Unavailable, Msg: doing + ": the disk can't be read or written", Err: err, Hint: "look into the kernel's log for this disk"}
	}
	return &penstock.Error{Code: penstock.Internal, Msg: doing, Err: err}
}
