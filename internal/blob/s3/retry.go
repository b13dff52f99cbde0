package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/penstock/penstock"
)

const (
	attempts  = 8 // of one request
	firstWait = 100 * time.Millisecond
	longest   = 10 * time.Second // wait between two attempts

	// A retry takes one token, a request that was answered gives a tenth of
	// one: so a server that is ill for all sees at most a tenth more requests
	// than it would without retries, once the first few are used up. This is
	// how Amazon's clients do it (AWS SDKs and Tools Reference Guide, "Retry
	// behavior", standard mode).
	budgetTokens = 64
	earned       = 0.1
)

// budget is the bucket of tokens that all retries of a store are taken from.
type budget struct {
	mu     sync.Mutex
	tokens float64
}

func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+earned, budgetTokens)
}

// try makes a request, again where that may help: request must be one that may
// be made twice. Its error is a clear one.
func (s *Store) try(ctx context.Context, doing string, request func(context.Context) error) error {
	for i := 1; ; i++ {
		err := s.plain(request(ctx))
		switch {
		case err == nil:
			s.budget.earn()
			return nil
		case ctx.Err() != nil:
			return given(doing, ctx.Err())
		case !transient(err):
			s.budget.earn() // the server is well
			return s.fault(doing, err)
		case i == attempts:
			return s.unwell(doing, i, "", err)
		case !s.budget.take():
			return s.unwell(doing, i, ", and the retries of all requests are used up", err)
		}
		if err := wait(ctx, i); err != nil {
			return given(doing, err)
		}
	}
}

// wait waits before the attempt after the i-th: up to twice as long each time,
// at random, so that many don't come back at once.
func wait(ctx context.Context, i int) error {
	most := min(firstWait<<(i-1), longest)
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transient says whether the same request may succeed a moment later.
func transient(err error) bool {
	var said *refusal
	var clear *penstock.Error
	switch {
	case errors.As(err, &said):
		return slices.Contains([]int{
			http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		}, said.Status) || slices.Contains([]string{
			"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
			// Another writer of the same key is at work.
			"ConditionalRequestConflict", "OperationAborted",
			// Bytes that were changed on their way: the ones we hold are right.
			"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
		}, said.Code)
	case errors.As(err, &clear), untrusted(err):
		return false
	}
	var network net.Error
	if unknown := (*net.DNSError)(nil); errors.As(err, &unknown) && unknown.IsNotFound {
		return false
	}
	return errors.Is(err, errStalled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}

// untrusted says whether TLS was refused by us.
func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verify) || errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &unknown) || errors.As(err, &host)
}
