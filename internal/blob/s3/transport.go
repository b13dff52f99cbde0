package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// errStalled ends a request in which no byte moved for too long.
var errStalled = errors.New("no byte moved for too long")

type patienceKey struct{}

// withPatience gives a request more time to be answered than others have.
func withPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

// transport ends requests in which nothing moves: while connecting, sending,
// waiting for the answer, or reading it. A transfer that moves may take as long
// as it takes. It also sees how far the server's clock is from ours.
type transport struct {
	next  http.RoundTripper
	stall time.Duration
	ahead atomic.Int64 // of the server's clock, in ns; seconds are exact
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	stall := t.stall
	if d, ok := req.Context().Value(patienceKey{}).(time.Duration); ok {
		stall = max(stall, d)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{ctx: ctx, cancel: cancel, stall: stall}
	w.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	out := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &sending{req.Body, w}
	}
	resp, err := t.next.RoundTrip(out)
	w.answered.Store(true)
	w.timer.Stop()
	if err != nil {
		err = w.why(err)
		cancel(nil)
		return nil, err
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.ahead.Store(int64(time.Until(at)))
	}
	resp.Body = &receiving{resp.Body, w}
	return resp, nil
}

// now is the time on the server's clock, which stamps what is stored there.
func (t *transport) now() time.Time { return time.Now().Add(time.Duration(t.ahead.Load())) }

// watch cancels a request after a time without progress.
type watch struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	stall    time.Duration
	timer    *time.Timer
	answered atomic.Bool
}

// why tells a stall from other reasons to end.
func (w *watch) why(err error) error {
	if context.Cause(w.ctx) == errStalled {
		return errStalled
	}
	return err
}

type sending struct {
	io.ReadCloser
	w *watch
}

// Read is called when the connection takes more bytes. After the answer has
// begun the time is that of the receiver.
func (s *sending) Read(p []byte) (int, error) {
	if !s.w.answered.Load() {
		s.w.timer.Reset(s.w.stall)
	}
	return s.ReadCloser.Read(p)
}

type receiving struct {
	io.ReadCloser
	w *watch
}

// Read has time only while it waits: a slow caller isn't a stall.
func (r *receiving) Read(p []byte) (int, error) {
	r.w.timer.Reset(r.w.stall)
	n, err := r.ReadCloser.Read(p)
	r.w.timer.Stop()
	if err != nil && err != io.EOF {
		err = r.w.why(err)
	}
	return n, err
}

// Close ends the request.
func (r *receiving) Close() error {
	r.w.timer.Stop()
	err := r.ReadCloser.Close()
	r.w.cancel(nil)
	return err
}
