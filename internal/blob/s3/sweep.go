package s3

import (
	"context"
	"time"

	"github.com/minio/minio-go/v7"
)

// The bounds of one sweep; the next Open goes on where it ended.
const (
	sweepUploads = 10_000
	sweepTime    = 10 * time.Minute
)

// sweep aborts uploads to our keys that nobody added to for long: they cost
// money, and no listing of objects shows them.
func (s *Store) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	aborted, err := s.sweepAll(ctx)
	if err != nil && ctx.Err() == nil {
		s.options.Log.Warn("abandoned uploads to S3 could not be aborted", "aborted", aborted, "error", err)
	} else if aborted > 0 {
		s.options.Log.Info("abandoned uploads to S3 were aborted", "aborted", aborted)
	}
}

func (s *Store) sweepAll(ctx context.Context) (aborted int, err error) {
	afterKey, afterID := "", ""
	for seen := 0; seen < sweepUploads; {
		page, err := s.uploads(ctx, s.root, afterKey, afterID)
		if err != nil {
			return aborted, err
		}
		for _, f := range page.Uploads {
			seen++
			old, err := s.abandoned(ctx, f)
			if err == nil && old {
				if err = s.abort(ctx, f.Key, f.UploadID); err == nil {
					aborted++
				}
			}
			if err != nil {
				return aborted, err
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == afterKey && page.NextUploadIDMarker == afterID {
			break
		}
		afterKey, afterID = page.NextKeyMarker, page.NextUploadIDMarker
	}
	return aborted, nil
}

// abandoned looks at the parts only of what began long ago: it may still go on.
func (s *Store) abandoned(ctx context.Context, f minio.ObjectMultipartInfo) (bool, error) {
	_, blob := s.digest(f.Key)
	if !blob && f.Key != s.root+probeName || s.transport.now().Sub(f.Initiated) < s.ages.abort {
		return false, nil
	}
	parts, err := s.parts(ctx, f.Key, f.UploadID)
	if said(err) == noSuchUpload {
		return false, nil // it ended meanwhile
	}
	return s.transport.now().Sub(newest(f, parts)) >= s.ages.abort, err
}
