package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/penstock/penstock"
)

// Open implements blob.Store. An offset past the end is Invalid; a range that
// reaches past the end stops there.
func (s *Store) Open(ctx context.Context, d penstock.Digest, offset, length int64) (io.ReadCloser, error) {
	key, err := s.place(d)
	if err != nil {
		return nil, err
	}
	if err := alive(ctx); err != nil {
		return nil, err
	}
	r := &reader{s: s, ctx: ctx, d: d, key: key, at: max(offset, 0), body: http.NoBody}
	size := int64(0)
	switch {
	case offset < 0 || length == 0: // a range that HTTP has no words for
		size, err = r.measure()
	default:
		if size, err = r.get(length); said(err) == invalidRange {
			size, err = r.measure()
		}
	}
	if err != nil {
		return nil, errors.Join(missing(d, err), r.body.Close())
	}
	if offset < 0 || offset > size {
		return nil, errors.Join(&penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("blob %s has %d bytes; it can't be read from byte %d on", d.Short(), size, offset),
		}, r.body.Close())
	}
	r.rest = size - offset
	if length >= 0 {
		r.rest = min(r.rest, length)
	}
	if r.rest == size {
		r.hash = sha256.New()
	}
	return r, nil
}

// reader reads a blob or a part of it. hash is nil for a part, which nothing
// can be held against.
type reader struct {
	s    *Store
	ctx  context.Context
	d    penstock.Digest
	key  string
	etag string // of the object, so that what is continued is the same
	at   int64  // offset in the blob of the next byte
	rest int64  // bytes that must still come
	body io.ReadCloser
	hash hash.Hash
	cuts cuts
}

func (r *reader) measure() (int64, error) {
	info, err := r.s.stat(r.ctx, r.d, r.key)
	return info.Size, err
}

// get opens the object from r.at on, and gives its whole size.
func (r *reader) get(length int64) (size int64, err error) {
	opts := minio.GetObjectOptions{}
	if r.etag != "" {
		opts.Set("If-Match", `"`+r.etag+`"`)
	}
	if r.at > 0 || length >= 0 {
		span := fmt.Sprintf("bytes=%d-", r.at)
		if length >= 0 && length < math.MaxInt64-r.at {
			span += strconv.FormatInt(r.at+length-1, 10)
		}
		opts.Set("Range", span)
	}
	err = r.s.try(r.ctx, "read blob "+r.d.Short(), func(ctx context.Context) error {
		body, info, header, err := r.s.core.GetObject(ctx, r.s.bucket, r.key, opts)
		if err != nil {
			return err
		}
		if size, err = extent(header, info.Size, r.at); err != nil {
			return errors.Join(err, body.Close())
		}
		r.body, r.etag = body, info.ETag
		return nil
	})
	return size, err
}

// extent is the size of the whole object, of which n bytes come from offset at.
func extent(h http.Header, n, at int64) (int64, error) {
	text := h.Get("Content-Range") // bytes 0-99/1234 (RFC 9110, 14.4)
	if text == "" && at == 0 {
		return n, nil
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || first != strconv.FormatInt(at, 10) {
		return 0, &penstock.Error{
			Code: penstock.Unsupported, Msg: fmt.Sprintf("S3: a range from byte %d on was answered with Content-Range %q", at, text),
			Hint: "use a service that knows ranges; look for a proxy that takes them away",
		}
	}
	return size, nil
}

// Read gives bytes, and at the end of a whole blob what there is to say of them.
func (r *reader) Read(p []byte) (int, error) {
	if err := alive(r.ctx); err != nil {
		return 0, err
	}
	for r.rest > 0 {
		n, err := r.body.Read(p[:min(int64(len(p)), r.rest)])
		r.at, r.rest = r.at+int64(n), r.rest-int64(n)
		r.cuts.moved(n)
		if r.hash != nil {
			r.hash.Write(p[:n])
		}
		if err != nil && r.rest > 0 {
			if err := r.resume(err); err != nil {
				return n, err
			}
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	if r.hash != nil {
		if got := penstock.DigestOf(r.hash.Sum(nil)); got != r.d {
			return 0, r.corrupt("its bytes have the digest " + string(got))
		}
	}
	return 0, io.EOF
}

// resume goes on where the transfer broke off.
func (r *reader) resume(broke error) error {
	doing := fmt.Sprintf("read blob %s from byte %d on", r.d.Short(), r.at)
	if err := r.ctx.Err(); err != nil {
		return given(doing, err)
	}
	_ = r.body.Close() // it is broken
	r.body = http.NoBody
	if !transient(broke) {
		return r.s.fault(doing, broke)
	}
	if !r.cuts.again() || !r.s.budget.take() {
		return r.s.unwell(doing, r.cuts.n, "", broke)
	}
	if err := wait(r.ctx, r.cuts.n); err != nil {
		return given(doing, err)
	}
	_, err := r.get(r.rest)
	switch said(err) {
	case preconditionFailed:
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: doing + ": the blob was deleted and put again meanwhile", Err: err, Hint: "read it again",
		}
	case noSuchKey:
		return missing(r.d, err)
	}
	return err
}

func (r *reader) corrupt(why string) error {
	return &penstock.Error{
		Code: penstock.Corrupt, Msg: fmt.Sprintf("blob %s is damaged: %s", r.d, why),
		Hint: "delete the blob and store its bytes again; look into the S3 service that lost them",
	}
}

// Close ends the transfer.
func (r *reader) Close() error { return r.body.Close() }

// cuts counts how often a transfer broke off without getting on.
type cuts struct {
	n     int
	since int64 // bytes
}

// moved is told of each byte: who has come far enough begins anew.
func (c *cuts) moved(n int) {
	if c.since += int64(n); c.since >= 1<<20 {
		c.n, c.since = 0, 0
	}
}

func (c *cuts) again() bool {
	c.n++
	return c.n < attempts
}
