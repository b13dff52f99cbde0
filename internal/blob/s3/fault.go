package s3

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/penstock/penstock"
)

// The codes of S3 that decide something here (Amazon S3 API Reference, "Error
// responses").
const (
	noSuchKey          = "NoSuchKey"
	noSuchUpload       = "NoSuchUpload"
	preconditionFailed = "PreconditionFailed"
	invalidRange       = "InvalidRange"
)

// refusal is what the server said no with. Of its answer it has only what can't
// hold a secret: a proxy may send back the headers that it was asked with.
type refusal struct {
	Code    string
	Status  int    // of HTTP
	Region  string // where the bucket is, if the server says so
	Request string // id in the server's log
	Message string
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the server says %s (HTTP %d)", r.Code, r.Status)
	if r.Message != "" {
		text += ": " + r.Message
	}
	if r.Request != "" {
		text += ", request " + r.Request
	}
	return text
}

// said is the code of a refusal, "" for any other error.
func said(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// plain takes the library's error apart.
func (s *Store) plain(err error) error {
	var e minio.ErrorResponse
	if !errors.As(err, &e) {
		return err
	}
	r := &refusal{Code: e.Code, Status: e.StatusCode, Region: e.Region, Request: e.RequestID, Message: e.Message}
	// The keys are cached, so this asks nobody.
	if keys, err := s.keys.Get(); err == nil { //nolint:staticcheck
		for _, secret := range []string{keys.SecretAccessKey, keys.SessionToken, keys.AccessKeyID} {
			if secret != "" {
				r.Message = strings.ReplaceAll(r.Message, secret, "…")
				r.Code = strings.ReplaceAll(r.Code, secret, "…")
			}
		}
	}
	return r
}

func given(doing string, err error) error {
	return &penstock.Error{Code: penstock.Canceled, Msg: doing + ": given up", Err: err}
}

// unwell is an error that didn't go away.
func (s *Store) unwell(doing string, tries int, and string, err error) error {
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: fmt.Sprintf("%s: S3 at %s didn't answer well in %d tries%s", doing, s.host, tries, and), Err: err,
		Hint: "look at the S3 service and at the network to it; trying again later may help",
	}
}

// fault says what the server or the network said no to, and what to do. Nearly
// all of it is Unavailable: that Penstock may not do something to its bucket is
// not the caller's Denied, and a bucket that is gone isn't a blob that is.
func (s *Store) fault(doing string, err error) error {
	var clear *penstock.Error
	var r *refusal
	switch {
	case errors.As(err, &clear):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.As(err, &r):
		return s.refused(doing, r)
	case untrusted(err):
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: fmt.Sprintf("%s: TLS with %s is not to be trusted", doing, s.host), Err: err,
			Hint: "name the certificate of its authority as the CA file; if the server speaks no TLS, write the endpoint with http://",
		}
	}
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: fmt.Sprintf("%s: S3 at %s can't be reached", doing, s.host), Err: err,
		Hint: "check the endpoint, its name in DNS and the network",
	}
}

func (s *Store) refused(doing string, r *refusal) error {
	e := &penstock.Error{Code: penstock.Unavailable, Err: r}
	switch r.Code {
	case noSuchKey:
		e.Code, e.Msg = penstock.NotFound, "it isn't there"
	case "NoSuchBucket":
		e.Msg = fmt.Sprintf("there is no bucket %q at %s", s.bucket, s.host)
		e.Hint = "make the bucket, or correct its name or the endpoint"
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden":
		e.Msg = fmt.Sprintf("the keys in use may not do this in bucket %q", s.bucket)
		e.Hint = "allow s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidClientTokenId":
		e.Msg = fmt.Sprintf("%s doesn't accept the keys in use", s.host)
		e.Hint = "check the keys where they come from: wrong, revoked, expired, or of another service"
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "301 Moved Permanently", "IllegalLocationConstraintException", "IncorrectEndpoint":
		e.Msg = fmt.Sprintf("bucket %q isn't in region %s", s.bucket, s.region)
		e.Hint = "set the region, and the endpoint, to where the bucket is"
		if r.Region != "" && r.Region != s.region {
			e.Msg += ", but in " + r.Region
			e.Hint = "set the region to " + r.Region + ", and the endpoint to the one there"
		}
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		e.Msg = fmt.Sprintf("the clock of this machine and that of %s are %s apart, which it doesn't accept", s.host, s.apart())
		e.Hint = "set this machine's clock, best by NTP; S3 accepts 15 minutes"
	case "NotImplemented", "501 Not Implemented":
		e.Code, e.Msg = penstock.Unsupported, s.host+" can't do this"
		e.Hint = "Penstock needs multipart uploads and If-None-Match on writes: use a newer version of the service, or another"
	default:
		e.Msg = s.host + " refuses it"
		e.Hint = "look up " + r.Code + " in the documentation of the service"
	}
	e.Msg = doing + ": " + e.Msg
	return e
}

func (s *Store) apart() time.Duration {
	return time.Duration(s.transport.ahead.Load()).Abs().Round(time.Second)
}
