package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Cost asks what the fleet cost in a window; zero times take the server's
// defaults, the present month so far.
func (c *Client) Cost(ctx context.Context, from, to time.Time, by []string) (v1.CostReport, error) {
	q := url.Values{}
	for name, t := range map[string]time.Time{"from": from, "to": to} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	for _, d := range by {
		q.Add("by", d)
	}
	var r v1.CostReport
	err := c.do(ctx, call{method: http.MethodGet, path: "/cost", query: q}, &r)
	return r, err
}

// LogOptions choose what of a task's log is read.
type LogOptions struct {
	Attempt int // 0 is the newest
	Rank    int
	Tail    int // lines; 0 is all
	Follow  bool
}

// Logs opens a task's log. The caller closes it.
func (c *Client) Logs(ctx context.Context, job penstock.Ref, o LogOptions) (io.ReadCloser, error) {
	q := url.Values{
		"attempt": {strconv.Itoa(o.Attempt)}, "rank": {strconv.Itoa(o.Rank)},
		"tail": {strconv.Itoa(o.Tail)}, "follow": {strconv.FormatBool(o.Follow)},
	}
	resp, err := c.send(ctx, call{method: http.MethodGet, path: path(job, "logs"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// PutBlob uploads bytes under their digest, unless they are there already.
func (c *Client) PutBlob(ctx context.Context, d penstock.Digest, open func() (io.ReadCloser, error)) error {
	p := "/blobs/" + string(d)
	resp, err := c.send(ctx, call{method: http.MethodHead, path: p})
	if err == nil {
		return resp.Body.Close()
	}
	if penstock.CodeOf(err) != penstock.NotFound {
		return err
	}
	from, err := open()
	if err != nil {
		return err
	}
	defer from.Close()
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	return c.do(ctx, call{method: http.MethodPut, path: p, body: io.Reader(from), header: header}, nil)
}

// WatchOptions choose what is watched. After is the revision to go on from; 0
// starts now.
type WatchOptions struct {
	Project string
	Kind    penstock.Kind
	After   int64
}

// Watch calls fn for each change until ctx ends or fn fails. When the stream
// breaks it goes on where it was, as long as the server comes back.
func (c *Client) Watch(ctx context.Context, o WatchOptions, fn func(v1.Change) error) error {
	for {
		err := c.watchOnce(ctx, &o, fn)
		var stop *stopped
		switch {
		case errors.As(err, &stop):
			return stop.cause
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && penstock.CodeOf(err) != penstock.Unavailable:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// stopped carries fn's own error out of the retries.
type stopped struct{ cause error }

func (s *stopped) Error() string { return s.cause.Error() }

func (c *Client) watchOnce(ctx context.Context, o *WatchOptions, fn func(v1.Change) error) error {
	q := url.Values{}
	if o.Project != "" {
		q.Set("project", o.Project)
	}
	if o.Kind != "" {
		q.Set("kind", string(o.Kind))
	}
	if o.After > 0 {
		q.Set("after", strconv.FormatInt(o.After, 10))
	}
	resp, err := c.send(ctx, call{method: http.MethodGet, path: "/watch", query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var change v1.Change
		if err := json.Unmarshal(data, &change); err != nil {
			return fmt.Errorf("decode change: %w", err)
		}
		o.After = change.Revision
		if err := fn(change); err != nil {
			return &stopped{err}
		}
	}
	return &penstock.Error{Code: penstock.Unavailable, Msg: "the watch broke off", Err: lines.Err()}
}

// WaitFor reads an object, again after each of its changes, until done says so
// or fails, or ctx ends. NotFound when it doesn't exist or is deleted.
func (c *Client) WaitFor(ctx context.Context, ref penstock.Ref, done func(v1.Object) (bool, error)) error {
	o, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	if over, err := done(o); over || err != nil {
		return err
	}
	reached := errors.New("reached")
	err = c.Watch(ctx, WatchOptions{Project: ref.Project, Kind: ref.Kind, After: o.Metadata.Revision}, func(change v1.Change) error {
		if change.Object.Ref() != ref {
			return nil
		}
		if change.Op == "deleted" {
			return &penstock.Error{Code: penstock.NotFound, Where: ref.String(), Msg: "it was deleted"}
		}
		over, err := done(change.Object)
		if over {
			return reached
		}
		return err
	})
	if errors.Is(err, reached) {
		return nil
	}
	return err
}
