package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// How long the agent waits for a server that doesn't answer.
const (
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
	callTime   = 30 * time.Second // for a call without much of a body
	stallTime  = time.Minute      // for a transfer that doesn't move
)

// client speaks to the server for one attempt.
type client struct {
	contact v1.Contact
	http    *http.Client

	mu   sync.Mutex
	base string
}

func newClient(contact v1.Contact) (*client, error) {
	checks, err := trust(contact)
	if err != nil {
		return nil, err
	}
	c := &client{contact: contact, base: strings.TrimSuffix(contact.URL, "/"), http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     checks,
			Proxy:               http.ProxyFromEnvironment,
			MaxIdleConnsPerHost: transfers,
			IdleConnTimeout:     time.Minute,
		},
		// A redirect would take the token somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.findServer()
	return c, nil
}

// findServer reads the server's address again: it may have come back elsewhere.
func (c *client) findServer() {
	if c.contact.AddressFile == "" {
		return
	}
	b, err := os.ReadFile(c.contact.AddressFile)
	if url := strings.TrimSpace(string(b)); err == nil && url != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.base = strings.TrimSuffix(url, "/")
	}
}

// send makes one call and gives the answer if it is a good one. Any other is an
// error; the temporary ones can be asked of again.
func (c *client) send(ctx context.Context, method, path string, body io.Reader, size int64) (*http.Response, error) {
	c.mu.Lock()
	url := c.base + path
	c.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, temporary{fmt.Errorf("address the server: %w", err)}
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+c.contact.Token)
	req.Header.Set("Content-Type", "application/octet-stream")
	if strings.HasSuffix(path, "/reports") {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(req)
	if err != nil {
		c.findServer()
		return nil, temporary{fmt.Errorf("reach the server: %w", err)}
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	defer answer.Body.Close()
	err = refusal(answer)
	if errors.As(err, &temporary{}) {
		c.findServer()
	}
	return nil, err
}

// report sends reports and gives the last one that the server has.
func (c *client) report(ctx context.Context, reports []v1.Report) (taken int64, err error) {
	body, err := json.Marshal(v1.Reports{Reports: reports})
	if err != nil {
		return 0, fmt.Errorf("encode reports: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := c.send(ctx, http.MethodPost, "/v1/agent/reports", bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var out v1.ReportsAnswer
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&out); err != nil {
		return 0, temporary{fmt.Errorf("read answer to reports: %w", err)}
	}
	return out.Taken, nil
}

// temporary is an error after which the same call may succeed.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

// refusal makes an error of an answer that isn't good. Only what is clearly
// Penstock's own word is final: another program may have taken the port of a
// server that is down.
func refusal(answer *http.Response) error {
	var problem struct {
		Code   penstock.Code `json:"code"`
		Title  string        `json:"title"`
		Detail string        `json:"detail"`
	}
	b, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	_ = json.Unmarshal(b, &problem) // not every answer is one
	msg := problem.Detail
	if msg == "" {
		msg = problem.Title
	}
	e := &penstock.Error{Code: problem.Code, Msg: fmt.Sprintf("the server answered %d: %s", answer.StatusCode, msg)}
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized:
		e.Code = penstock.Unauthenticated
	case status == http.StatusForbidden:
		e.Code = penstock.Denied
	case problem.Code == "" && status == http.StatusNotFound && answer.Request.Method == http.MethodHead:
		e.Code = penstock.NotFound // an answer to HEAD has no body to explain itself
	case problem.Code == penstock.Corrupt: // the same bytes again would be no better
	case problem.Code == "", status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return temporary{e}
	}
	return e
}

// disowned reports whether err says that this attempt has nothing to say any
// more: a newer one runs, or its token is gone.
func disowned(err error) bool {
	switch penstock.CodeOf(err) {
	case penstock.Fenced, penstock.Unauthenticated, penstock.Denied:
		return true
	}
	return false
}

// persist calls do until it succeeds, fails for good, or ctx ends.
func persist(ctx context.Context, do func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := do()
		if err == nil || !errors.As(err, &temporary{}) {
			return err
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

// sleep waits for about d, so that many agents don't come back at once, and
// reports false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d/2 + rand.N(d/2+1)):
		return true
	}
}
