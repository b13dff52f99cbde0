package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/penstock/penstock"
)

const (
	inFlight = 16 // parts on their way, of all Puts of a store
	parallel = 4  // parts on their way, of one Put

	// A server may put a large blob together before it says a word.
	completing = 10 * time.Minute
	aborting   = 30 * time.Second
)

// putParts uploads a blob of which the first part was read.
func (s *Store) putParts(ctx context.Context, in *source, key string, first []byte) error {
	u, err := s.enter(ctx, in.want, key)
	if err != nil {
		return err
	}
	parts, err := u.send(ctx, in, first)
	if err == nil {
		err = u.complete(ctx, parts)
	}
	switch code := said(err); {
	case err == nil:
		return nil
	case !in.failed && ctx.Err() == nil && code != preconditionFailed && code != noSuchUpload:
		s.leave(key, u.id)
		return err
	case code == preconditionFailed:
		err = nil // somebody was quicker
	}
	if failed := s.abandon(ctx, key, u.id); failed != nil {
		s.options.Log.Warn("an upload to S3 could not be aborted; it will be when it is a day old", "blob", in.want.Short(), "error", failed)
	}
	return err
}

// upload is a multipart upload. have are the parts that the server had before.
type upload struct {
	s    *Store
	d    penstock.Digest
	key  string
	id   string
	have map[int]minio.ObjectPart
}

// enter goes on with an upload of the blob that nobody works at, or begins one.
func (s *Store) enter(ctx context.Context, d penstock.Digest, key string) (*upload, error) {
	u := &upload{s: s, d: d, key: key}
	if id := s.take(key); id != "" {
		if parts, err := s.parts(ctx, key, id); err == nil {
			u.id, u.have = id, parts
			return u, nil
		}
	}
	found, err := s.uploads(ctx, key, "", "")
	if err != nil {
		return nil, err
	}
	for _, f := range found.Uploads {
		if f.Key != key {
			continue
		}
		parts, err := s.parts(ctx, key, f.UploadID)
		if err == nil && s.transport.now().Sub(newest(f, parts)) >= s.ages.adopt {
			u.id, u.have = f.UploadID, parts
			return u, nil
		}
	}
	u.id, err = s.begin(ctx, "put blob "+d.Short(), key)
	return u, err
}

// newest is when something was last done for an upload.
func newest(f minio.ObjectMultipartInfo, parts map[int]minio.ObjectPart) time.Time {
	at := f.Initiated
	for _, p := range parts {
		if p.LastModified.After(at) {
			at = p.LastModified
		}
	}
	return at
}

func (s *Store) take(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.left[key]
	delete(s.left, key)
	return id
}

// leave leaves an upload for the next Put of the blob, unless too many wait.
func (s *Store) leave(key, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) < 1000 {
		s.left[key] = id
	}
}

// send sends parts while the next are read, and gives them all once the digest
// is right.
func (u *upload) send(ctx context.Context, in *source, first []byte) ([]minio.CompletePart, error) {
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	parts, err := u.feed(sending, group, in, first)
	// Also after an error of the reader: a part that comes after the upload was
	// aborted may bring it back.
	failed := group.Wait()
	if failed != nil && !in.failed {
		err = failed // what feed met then is only its echo
	}
	if err != nil {
		return nil, err
	}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = *p
	}
	return list, nil
}

// feed has the group fill in the parts that it gives.
func (u *upload) feed(ctx context.Context, group *errgroup.Group, in *source, b []byte) ([]*minio.CompletePart, error) {
	var parts []*minio.CompletePart
	for end := false; ; {
		if len(parts) == maxParts {
			return nil, in.refuse(u.tooLarge())
		}
		if err := u.s.sending.Acquire(ctx, 1); err != nil {
			return nil, given("put blob "+u.d.Short(), err)
		}
		full, p := b, &minio.CompletePart{PartNumber: len(parts) + 1}
		parts = append(parts, p)
		group.Go(func() error {
			defer u.s.sending.Release(1)
			if err := u.part(ctx, p, full); err != nil {
				return err // a dying request may still read from its buffer
			}
			u.s.buffers.Put(&full)
			return nil
		})
		if end {
			return parts, in.verdict()
		}
		b = nil
		if free, ok := u.s.buffers.Get().(*[]byte); ok {
			b = *free
		}
		var err error
		if b, end, err = in.fill(b, u.s.options.PartSize); err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return parts, in.verdict()
		}
	}
}

// part sends a part, unless the server has it.
func (u *upload) part(ctx context.Context, p *minio.CompletePart, b []byte) error {
	sum := sha256.Sum256(b)
	p.ChecksumSHA256 = base64.StdEncoding.EncodeToString(sum[:])
	if had := u.have[p.PartNumber]; had.Size == int64(len(b)) && had.ChecksumSHA256 == p.ChecksumSHA256 {
		p.ETag = had.ETag
		return nil
	}
	opts := minio.PutObjectPartOptions{
		Sha256Hex: hex.EncodeToString(sum[:]), DisableContentSha256: true, CustomHeader: http.Header{},
	}
	opts.CustomHeader.Set(checksumHeader, p.ChecksumSHA256)
	return u.s.try(ctx, fmt.Sprintf("put part %d of blob %s", p.PartNumber, u.d.Short()), func(ctx context.Context) error {
		sent, err := u.s.core.PutObjectPart(ctx, u.s.bucket, u.key, u.id, p.PartNumber, bytes.NewReader(b), int64(len(b)), opts)
		p.ETag = sent.ETag
		return err
	})
}

// complete makes the blob of the parts. That the upload is unknown may mean
// that an answer got lost, or that another Put completed it: then the blob is there.
func (u *upload) complete(ctx context.Context, parts []minio.CompletePart) error {
	opts := minio.PutObjectOptions{}
	opts.SetMatchETagExcept("*")
	patient := withPatience(ctx, u.s.ages.complete)
	err := u.s.try(patient, "complete blob "+u.d.Short(), func(ctx context.Context) error {
		_, err := u.s.core.CompleteMultipartUpload(ctx, u.s.bucket, u.key, u.id, parts, opts)
		return err
	})
	if said(err) == noSuchUpload {
		if _, unseen := u.s.stat(ctx, u.d, u.key); unseen == nil {
			return nil
		}
	}
	return err
}

func (u *upload) tooLarge() error {
	return &penstock.Error{
		Code: penstock.TooLarge, Msg: fmt.Sprintf("blob %s has more than %d parts of %d bytes", u.d.Short(), maxParts, u.s.options.PartSize),
		Hint: "raise the part size of the S3 store",
	}
}

// begin begins an upload. An answer that gets lost leaves an empty one, until
// it is swept.
func (s *Store) begin(ctx context.Context, doing, key string) (id string, err error) {
	opts := s.writing()
	opts.UserMetadata = map[string]string{checksumAlgorithm: "SHA256"}
	err = s.try(ctx, doing, func(ctx context.Context) (err error) {
		id, err = s.core.NewMultipartUpload(ctx, s.bucket, key, opts)
		return err
	})
	return id, err
}

// abort throws an upload away. One that isn't there is no error.
func (s *Store) abort(ctx context.Context, key, id string) error {
	err := s.try(ctx, "abort an upload to bucket "+s.bucket, func(ctx context.Context) error {
		return s.core.AbortMultipartUpload(ctx, s.bucket, key, id)
	})
	if code := said(err); code == noSuchUpload || code == noSuchKey {
		return nil
	}
	return err
}

// abandon aborts an upload for a Put whose context may have ended. A part that
// was cut off may still be at work in the server, and come after the abort: so
// it looks whether the upload is gone (Amazon S3 API Reference,
// AbortMultipartUpload).
func (s *Store) abandon(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), aborting)
	defer cancel()
	for i := 1; ; i++ {
		if err := s.abort(ctx, key, id); err != nil {
			return err
		}
		_, err := s.parts(ctx, key, id)
		if code := said(err); code == noSuchUpload || code == noSuchKey {
			return nil
		}
		if err == nil {
			err = wait(ctx, i)
		}
		if err != nil {
			return err
		}
	}
}

// parts are those that the server has of an upload, by number.
func (s *Store) parts(ctx context.Context, key, id string) (map[int]minio.ObjectPart, error) {
	found := map[int]minio.ObjectPart{}
	for after := 0; ; {
		var page minio.ListObjectPartsResult
		err := s.try(ctx, "list parts in bucket "+s.bucket, func(ctx context.Context) (err error) {
			page, err = s.core.ListObjectParts(ctx, s.bucket, key, id, after, pageSize)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, p := range page.ObjectParts {
			found[p.PartNumber] = p
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= after {
			return found, nil
		}
		after = page.NextPartNumberMarker
	}
}

// uploads is a page of the unfinished uploads whose keys begin with prefix.
func (s *Store) uploads(ctx context.Context, prefix, afterKey, afterID string) (page minio.ListMultipartUploadsResult, err error) {
	err = s.try(ctx, "list uploads in bucket "+s.bucket, func(ctx context.Context) (err error) {
		page, err = s.core.ListMultipartUploads(ctx, s.bucket, prefix, afterKey, afterID, "", pageSize)
		return err
	})
	return page, err
}
