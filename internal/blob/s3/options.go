package s3

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/penstock/penstock"
)

// Options says which bucket is used, and how. Only Endpoint and Bucket must be
// given.
type Options struct {
	// Endpoint is the URL of the service, as https://s3.eu-central-1.amazonaws.com
	// or http://127.0.0.1:7070, without a path. Its scheme says whether TLS is used.
	Endpoint string
	// Bucket must exist.
	Bucket string
	// Prefix begins all keys; a "/" is put after it. With none, the bucket
	// looks as the folder of the adapter fs does.
	Prefix string
	// Region is the one that requests are signed for; us-east-1 if empty.
	Region string
	// Style is how the bucket is named in requests; StyleAuto if empty.
	Style Style
	// CAFile holds PEM certificates that are trusted besides the system's.
	CAFile string
	// Encryption is what the server is asked to encrypt with; its own choice if empty.
	Encryption Encryption
	// KMSKey is the id or ARN of the key for EncryptionKMS; the bucket's if empty.
	KMSKey string
	// Credentials says where the keys come from.
	Credentials Credentials
	// PartSize is how many bytes are sent at a time, DefaultPartSize if 0. A
	// blob may have 10,000 parts. A Put holds at most one part in memory, and
	// 16 more are held by all Puts of a store together.
	PartSize int64
	// Timeout is how long a request may go without a byte moving, DefaultTimeout
	// if 0.
	Timeout time.Duration
	// Log is told what becomes of abandoned uploads; nothing is if it is nil.
	Log *slog.Logger
}

// The bounds and defaults of Options. 5 MiB and 5 GiB are the bounds of S3
// itself (Amazon S3 User Guide, multipart upload limits).
const (
	DefaultRegion   = "us-east-1"
	DefaultPartSize = 16 << 20
	MinPartSize     = 5 << 20
	MaxPartSize     = 5 << 30
	DefaultTimeout  = time.Minute
	maxParts        = 10_000
)

// Style is how the bucket is named in requests.
type Style string

// The styles: in the path (https://host/bucket/key), which servers at an
// address without a wildcard name need; as a virtual host
// (https://bucket.host/key); or the latter for the clouds that are known to
// want it, the former for all others.
const (
	StyleAuto    Style = "auto"
	StylePath    Style = "path"
	StyleVirtual Style = "virtual"
)

// Encryption is what the server is asked to encrypt blobs with.
type Encryption string

// The encryptions: keys that S3 keeps itself (SSE-S3), or keys of a key
// management service (SSE-KMS).
const (
	EncryptionS3  Encryption = "sse-s3"
	EncryptionKMS Encryption = "sse-kms"
)

func (o Options) withDefaults() Options {
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Prefix != "" {
		o.Prefix += "/"
	}
	if o.Region == "" {
		o.Region = DefaultRegion
	}
	if o.Style == "" {
		o.Style = StyleAuto
	}
	if o.PartSize == 0 {
		o.PartSize = DefaultPartSize
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// endpoint is Endpoint taken apart. What is wrong with it is told without
// showing it: it may hold a password.
func (o Options) endpoint() (*url.URL, error) {
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("the endpoint isn't the URL of a service", "write it as https://s3.example.com or http://127.0.0.1:9000")
	case u.User != nil:
		return nil, invalid("the endpoint holds a user name", "take it out: keys come from a file, the environment or web identity")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, invalid("the endpoint has something after its host", "name the bucket and the prefix in settings of their own")
	}
	return u, nil
}

func (o Options) check() error {
	for _, part := range strings.Split(strings.TrimSuffix(o.Prefix, "/"), "/") {
		if o.Prefix != "" && (part == "" || part == "." || part == "..") {
			return invalid(fmt.Sprintf("the prefix %q has an empty part, or one of dots", o.Prefix), "use plain names with / between them")
		}
	}
	switch {
	case o.Bucket == "":
		return invalid("no bucket is named", "name one that exists")
	case o.Style != StyleAuto && o.Style != StylePath && o.Style != StyleVirtual:
		return invalid(fmt.Sprintf("there is no style %q", o.Style), "use auto, path or virtual")
	case o.Encryption != "" && o.Encryption != EncryptionS3 && o.Encryption != EncryptionKMS:
		return invalid(fmt.Sprintf("there is no encryption %q", o.Encryption), "use sse-s3 or sse-kms, or leave it out")
	case o.KMSKey != "" && o.Encryption != EncryptionKMS:
		return invalid("a KMS key is named, but the encryption isn't sse-kms", "set the encryption to sse-kms, or leave the key out")
	case o.PartSize < MinPartSize || o.PartSize > MaxPartSize:
		return invalid(fmt.Sprintf("parts of %d bytes can't be sent", o.PartSize), fmt.Sprintf("use %d to %d bytes", MinPartSize, int64(MaxPartSize)))
	case o.Timeout < 0:
		return invalid(fmt.Sprintf("the timeout is %s", o.Timeout), "use a positive one, or leave it out")
	}
	return nil
}

func (o Options) lookup() minio.BucketLookupType {
	switch o.Style {
	case StylePath:
		return minio.BucketLookupPath
	case StyleVirtual:
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}

// encryption is nil for none.
func (o Options) encryption() (encrypt.ServerSide, error) {
	switch o.Encryption {
	case EncryptionS3:
		return encrypt.NewSSE(), nil
	case EncryptionKMS:
		sse, err := encrypt.NewSSEKMS(o.KMSKey, nil)
		if err != nil {
			return nil, invalid("the KMS key can't be used", "give its id or its ARN")
		}
		return sse, nil
	}
	return nil, nil
}

// connections makes the connections of the store and of its credentials. HTTP
// proxies of the environment are used, as everywhere in Go.
func (o Options) connections() (*http.Transport, error) {
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   64,
		// Bytes must come as they are stored: a digest is of them.
		DisableCompression: true,
	}, nil
}

// roots is nil for the system's own.
func (o Options) roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the CA file can't be read", Where: o.CAFile, Err: err, Hint: "name a file with PEM certificates"}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the CA file holds no certificate", Where: o.CAFile, Hint: "name a file with PEM certificates"}
	}
	return pool, nil
}

func invalid(msg, hint string) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: "S3: " + msg, Hint: hint}
}
