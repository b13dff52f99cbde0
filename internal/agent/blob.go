package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// transfers is how many blobs travel at once.
const transfers = 4

// maxBadDownloads is how often wrong bytes are fetched again.
const maxBadDownloads = 3

func blobPath(d penstock.Digest) string { return "/v1/agent/blobs/" + string(d) }

// each calls do for every file, several at a time, and stops at the first error.
func each(ctx context.Context, files []v1.File, do func(context.Context, v1.File) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(transfers)
	for _, file := range files {
		group.Go(func() error { return do(ctx, file) })
	}
	return group.Wait()
}

// download writes the bytes of file into dst and makes sure that they are the
// right ones. It asks again while the server is away.
func (c *client) download(ctx context.Context, file v1.File, dst *os.File) error {
	bad := 0
	return persist(ctx, func() error {
		if err := errors.Join(dst.Truncate(0), rewind(dst)); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
		err := c.downloadOnce(ctx, file, dst)
		if penstock.CodeOf(err) == penstock.Corrupt {
			if bad++; bad < maxBadDownloads {
				return temporary{err}
			}
		}
		return err
	})
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (c *client) downloadOnce(ctx context.Context, file v1.File, dst io.Writer) error {
	ctx, moved, cancel := stalling(ctx)
	defer cancel()
	answer, err := c.send(ctx, http.MethodGet, blobPath(file.Digest), nil, 0)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	hash := sha256.New()
	// One byte more than it should have is enough to know that it is wrong.
	n, err := io.Copy(io.MultiWriter(hash, writeGuard{dst}), io.LimitReader(moving{answer.Body, moved}, file.Size+1))
	var disk diskError
	if errors.As(err, &disk) {
		return fmt.Errorf("write %s: %w", file.Path, disk.error)
	}
	if err != nil {
		return temporary{fmt.Errorf("fetch %s: %w", file.Path, err)}
	}
	if got := penstock.DigestOf(hash.Sum(nil)); got != file.Digest || n != file.Size {
		return &penstock.Error{
			Code: penstock.Corrupt, Where: file.Path,
			Msg:  fmt.Sprintf("fetched %d bytes with digest %s, want %d bytes with %s", n, got.Short(), file.Size, file.Digest.Short()),
			Hint: "the server's copy may be damaged",
		}
	}
	return nil
}

// upload stores the bytes of file, which open gives, unless the server has them.
func (c *client) upload(ctx context.Context, file v1.File, open func() (io.ReadCloser, error)) error {
	return persist(ctx, func() error {
		there, err := c.stored(ctx, file.Digest)
		if err != nil || there {
			return err
		}
		return c.uploadOnce(ctx, file, open)
	})
}

func (c *client) stored(ctx context.Context, d penstock.Digest) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := c.send(ctx, http.MethodHead, blobPath(d), nil, 0)
	if penstock.CodeOf(err) == penstock.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, answer.Body.Close()
}

func (c *client) uploadOnce(ctx context.Context, file v1.File, open func() (io.ReadCloser, error)) error {
	body, err := open()
	if err != nil {
		return fmt.Errorf("open %s: %w", file.Path, err)
	}
	defer body.Close()
	ctx, moved, cancel := stalling(ctx)
	defer cancel()
	answer, err := c.send(ctx, http.MethodPut, blobPath(file.Digest), moving{body, moved}, file.Size)
	if err != nil {
		return fmt.Errorf("store %s: %w", file.Path, err)
	}
	return answer.Body.Close()
}

// stalling gives a context that ends when moved wasn't called for stallTime. A
// transfer may take hours, but not stand still.
func stalling(ctx context.Context) (_ context.Context, moved func(), cancel func()) {
	ctx, stop := context.WithCancelCause(ctx)
	timer := time.AfterFunc(stallTime, func() { stop(fmt.Errorf("nothing moved for %s", stallTime)) })
	return ctx, func() { timer.Reset(stallTime) }, func() { timer.Stop(); stop(nil) }
}

type moving struct {
	io.Reader
	moved func()
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.moved()
	return n, err
}

// diskError is an error of this machine, which asking the server again won't help.
type diskError struct{ error }

type writeGuard struct{ io.Writer }

func (w writeGuard) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		return n, diskError{err}
	}
	return n, nil
}

// cache is a folder of blobs that the tasks of a machine share. A blob in it is
// complete, but no more is trusted: it is hashed again before each use, since
// whoever was given a link to it may have written through it.
type cache struct {
	dir    string
	client *client
}

// get makes sure that the cache holds the file, and gives its path there.
func (c cache) get(ctx context.Context, file v1.File) (string, error) {
	if _, err := penstock.ParseDigest(string(file.Digest)); err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, file.Digest.Hex()[:2], file.Digest.Hex())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lockPath(ctx, filepath.Join(filepath.Dir(path), ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if sound(path, file) {
		return path, nil
	}
	return path, c.fill(ctx, path, file)
}

func (c cache) fill(ctx context.Context, path string, file v1.File) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write to cache: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already if all went well
	err = c.client.download(ctx, file, temp)
	if err := errors.Join(err, temp.Chmod(0o444), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("write to cache: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

// sound reports whether the file at path has the bytes that it should.
func sound(path string, file v1.File) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	digest, size, err := digestOf(f)
	return err == nil && digest == file.Digest && size == file.Size
}

func digestOf(r io.Reader) (penstock.Digest, int64, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return penstock.DigestOf(hash.Sum(nil)), n, err
}

// lockPath waits until no other process holds the lock of that name, so that
// the ranks of a gang fetch a file once and not each for itself. The lock goes
// with its holder, however that ends.
func lockPath(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || !sleep(ctx, firstPause) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), context.Cause(ctx), f.Close())
		}
	}
}
