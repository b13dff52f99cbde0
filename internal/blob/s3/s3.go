// Package s3 keeps blobs in a bucket of an S3 service: the adapter of the blob
// port for more than one machine. The blob sha256:abcdef… is the object
// blobs/sha256/ab/cdef… below the prefix, as in a folder of the adapter fs, so
// a folder can be copied into a bucket by any tool, and back.
//
// # Writing
//
// A blob of up to Options.PartSize is one PUT. Its digest is taken before
// anything is sent, and goes with it as the signed content hash and as the
// SHA-256 checksum, so the server refuses what was changed on its way. A larger
// blob is a multipart upload whose parts carry their SHA-256 each; it is
// completed only once the digest of the whole is right. Both write with
// If-None-Match: *, so nothing is ever written over: who comes second has
// succeeded.
//
// A Put that fails because of its reader, its digest or its context aborts its
// upload: nothing is left. One that fails because of the server leaves the
// upload, and the next Put of the digest through the same Store goes on with it:
// parts whose SHA-256 the server already has are not sent again. So it does
// with an upload of a process that died, once nothing was added to it for 15
// minutes. Open aborts, in the background, what is older than a day.
//
// # Reading
//
// A blob that is read whole is held against its digest. A transfer that breaks
// off is continued where it was, on the same object (If-Match).
//
// # When the server is ill
//
// All requests may be repeated and are, with growing random waits, where that
// can help. The retries of a store come from one bucket of tokens, so a sick
// server isn't hammered. A request in which no byte moves is given up after
// Options.Timeout; one that moves may take its time.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"golang.org/x/sync/semaphore"

	"github.com/penstock/penstock"
)

const (
	base = "blobs/sha256/"
	// probeName is no blob's: an upload to it is begun and aborted by Open.
	probeName = "probe"
)

// Store is a blob.Store in a bucket. It may be used by several processes at
// once.
type Store struct {
	core       minio.Core
	keys       *credentials.Credentials
	transport  *transport
	connection *http.Transport
	options    Options
	encryption encrypt.ServerSide
	host       string
	bucket     string
	region     string
	root       string // of all keys
	ages       ages

	budget  budget
	sending *semaphore.Weighted // parts on their way
	buffers sync.Pool           // of *[]byte, for parts

	mu   sync.Mutex
	left map[string]string // key to the id of the upload that a failed Put left

	stop context.CancelFunc
	done sync.WaitGroup
}

// ages are the times without a new part after which an upload is nobody's, by
// the server's clock, and what a server has to put a blob together.
type ages struct {
	adopt    time.Duration // an upload may be continued
	abort    time.Duration // it may be thrown away
	complete time.Duration // before the server says a word
}

// Open opens the store in a bucket and checks that it can be used: that it is
// there, may be listed and written to, and that clocks, region, keys and
// certificates are right. What isn't is told with what to do about it. It also
// starts to abort abandoned uploads. Close it when nothing uses it any more.
func Open(ctx context.Context, o Options) (*Store, error) {
	return open(ctx, o, ages{adopt: 15 * time.Minute, abort: 24 * time.Hour, complete: completing})
}

func open(ctx context.Context, o Options, a ages) (*Store, error) {
	s, err := connect(ctx, o.withDefaults(), a)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := s.probe(ctx); err != nil {
		s.connection.CloseIdleConnections()
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.sweep(background) })
	return s, nil
}

func connect(ctx context.Context, o Options, a ages) (*Store, error) {
	u, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	connection, err := o.connections()
	if err != nil {
		return nil, err
	}
	s := &Store{
		options: o, host: u.Host, bucket: o.Bucket, region: o.Region, root: o.Prefix + base, ages: a,
		connection: connection, transport: &transport{next: connection, stall: o.Timeout},
		budget: budget{tokens: budgetTokens}, sending: semaphore.NewWeighted(inFlight), left: map[string]string{},
	}
	if s.encryption, err = o.encryption(); err != nil {
		return nil, err
	}
	if s.keys, err = o.Credentials.open(ctx, o.Region, &http.Client{Transport: s.connection, Timeout: o.Timeout}); err != nil {
		return nil, err
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: s.keys, Secure: u.Scheme == "https", Transport: s.transport, Region: o.Region, BucketLookup: o.lookup(),
		MaxRetries: 1, // we have our own, with a budget
	})
	if err != nil {
		return nil, invalid("the endpoint can't be used: "+err.Error(), "write it as https://s3.example.com")
	}
	s.core = *core
	return s, nil
}

// probe asks for what answers with a full error, which a HEAD doesn't, and
// begins an upload that it throws away, since who can't write should know now.
func (s *Store) probe(ctx context.Context) error {
	if _, err := s.page(ctx, "", 1); err != nil {
		return err
	}
	key := s.root + probeName
	id, err := s.begin(ctx, "try to write to bucket "+s.bucket, key)
	if err != nil {
		return err
	}
	return s.abort(ctx, key, id)
}

// Close stops what Open started. Readers that are still open stay usable.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	s.connection.CloseIdleConnections()
	return nil
}

// place is the key of a blob. Only the one form of a digest has a key.
func (s *Store) place(d penstock.Digest) (string, error) {
	if _, err := penstock.ParseDigest(string(d)); err != nil {
		return "", err
	}
	return s.root + d.Hex()[:2] + "/" + d.Hex()[2:], nil
}

// digest is the inverse of place; it is false for what isn't a blob.
func (s *Store) digest(key string) (penstock.Digest, bool) {
	rest, ours := strings.CutPrefix(key, s.root)
	first, second, cut := strings.Cut(rest, "/")
	if !ours || !cut || len(first) != 2 {
		return "", false
	}
	d, err := penstock.ParseDigest("sha256:" + first + second)
	return d, err == nil
}

func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &penstock.Error{Code: penstock.Canceled, Msg: "given up", Err: err}
	}
	return nil
}

// Size implements blob.Store.
func (s *Store) Size(ctx context.Context, d penstock.Digest) (int64, error) {
	key, err := s.place(d)
	if err != nil {
		return 0, err
	}
	info, err := s.stat(ctx, d, key)
	return info.Size, err
}

func (s *Store) stat(ctx context.Context, d penstock.Digest, key string) (info minio.ObjectInfo, err error) {
	if err := alive(ctx); err != nil {
		return info, err
	}
	err = s.try(ctx, "look at blob "+d.Short(), func(ctx context.Context) (err error) {
		info, err = s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
		return err
	})
	return info, missing(d, err)
}

// missing tells a blob that isn't there from other errors.
func missing(d penstock.Digest, err error) error {
	if said(err) == noSuchKey {
		return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no blob %s", d)}
	}
	return err
}

const pageSize = 1000

// Walk implements blob.Store. Blobs that come or go meanwhile may or may not be
// among those that are told.
func (s *Store) Walk(ctx context.Context, fn func(d penstock.Digest, size int64) error) error {
	for after := ""; ; {
		page, err := s.page(ctx, after, pageSize)
		if err != nil {
			return err
		}
		for _, o := range page {
			d, ours := s.digest(o.Key)
			if !ours {
				continue
			}
			if err := fn(d, o.Size); err != nil {
				return err
			}
			if err := alive(ctx); err != nil {
				return err
			}
		}
		if len(page) < pageSize {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

// page is up to n objects with keys after the one given. It is shorter only at
// the end.
func (s *Store) page(ctx context.Context, after string, n int) (page []minio.ObjectInfo, err error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	err = s.try(ctx, "list bucket "+s.bucket, func(ctx context.Context) error {
		page = page[:0]
		listing := minio.ListObjectsOptions{Prefix: s.root, Recursive: true, StartAfter: after, MaxKeys: n}
		for o := range s.core.ListObjectsIter(ctx, s.bucket, listing) {
			if o.Err != nil {
				return o.Err
			}
			if page = append(page, o); len(page) == n {
				break
			}
		}
		return ctx.Err()
	})
	return page, err
}

// Delete implements blob.Store. What is being read may break off.
func (s *Store) Delete(ctx context.Context, d penstock.Digest) error {
	key, err := s.place(d)
	if err == nil {
		err = alive(ctx)
	}
	if err != nil {
		return err
	}
	err = s.try(ctx, "delete blob "+d.Short(), func(ctx context.Context) error {
		return s.core.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, &penstock.Error{Code: penstock.NotFound}) {
		return nil
	}
	return err
}
