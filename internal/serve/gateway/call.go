package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// promptTokensHeader is how penstock-llama tells the number of prompt tokens
// before the first token of the answer.
const promptTokensHeader = "Penstock-Prompt-Tokens"

// noReplicaRetry is when a client may ask again while no replica is ready.
const noReplicaRetry = 5 * time.Second

// errorBody bounds an upstream's own error that is passed on.
const errorBody = 256 << 10

// passedHeaders are the request's and the answer's headers that go through. All
// others stay here: above all the caller's key and cookies.
func passedHeaders() (request, answer []string) {
	return []string{"Accept", "User-Agent", "Traceparent", "Tracestate"}, []string{"Content-Type", "Cache-Control", "Retry-After"}
}

// call is one request that was reserved, from there to its settlement.
type call struct {
	g        *Gateway
	w        http.ResponseWriter
	r        *http.Request
	ask      ask
	endpoint *endpoint
	first    *replica // the one to ask first, acquired
	body     []byte   // for the replica
	entry    store.Request

	tally   tally
	begun   bool // content was passed on: no other replica is tried
	settled bool // the ledger has it
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, to route) {
	c, err := g.admit(w, r, to)
	if err != nil {
		g.refuse(w, err)
		return
	}
	w.Header().Set("X-Request-Id", c.entry.ID)
	// Whatever happens, a panic included, the reservation is settled.
	defer func() { _ = c.settle(outcomeFailed, 0) }()
	c.forward()
}

// admit checks everything that can be checked before a replica is asked, and
// reserves the tokens.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, to route) (*call, error) {
	started := time.Now()
	cred, err := g.caller(r)
	if err != nil {
		return nil, err
	}
	if err := g.rates.take(cred, started); err != nil {
		return nil, err
	}
	body, err := g.readBody(w, r)
	if err != nil {
		return nil, err
	}
	c := &call{g: g, w: w, r: r}
	if c.ask, err = parse(body); err != nil {
		return nil, err
	}
	if c.endpoint, err = g.table.find(r.Context(), cred, c.ask.model); err != nil {
		return nil, err
	}
	if c.first = g.table.acquire(c.endpoint, nil); c.first == nil {
		return nil, noReplica(c.endpoint)
	}
	if err := c.reserve(cred, to, started); err != nil {
		g.table.release(c.first)
		return nil, err
	}
	return c, nil
}

// reserve opens the call in the ledger, and makes the body for its replica.
func (c *call) reserve(cred store.Credential, to route, started time.Time) (err error) {
	if c.entry, err = newEntry(cred, c.endpoint, c.first.version, to, started); err != nil {
		return err
	}
	reserved, bound := c.g.most(c.ask, c.endpoint, cred)
	if c.body, err = c.ask.upstream(c.endpoint.name, bound); err != nil {
		return err
	}
	c.entry.Reserved = reserved
	return c.g.reserve(c.entry, cred.Limit)
}

// most is the number of tokens that a request can use. For a key with a limit
// there must be such a number: where neither the request nor the endpoint's
// context gives one, bound is the max_tokens to send along.
func (g *Gateway) most(a ask, e *endpoint, cred store.Credential) (reserved, bound int64) {
	answer := a.maxTokens
	if answer == 0 {
		answer = g.limits.MaxTokens
		if e.context > 0 {
			answer = e.context
		} else if cred.Limit > 0 {
			bound = answer
		}
	}
	reserved = a.promptBound() + a.choices*answer
	if e.context > 0 {
		reserved = min(reserved, a.choices*e.context)
	}
	return reserved, bound
}

func noReplica(e *endpoint) error {
	return &fault{
		err:  &penstock.Error{Code: penstock.Unavailable, Msg: "no replica of " + e.model() + " is ready", Hint: "Try again in a moment"},
		code: "no_ready_replica", retry: noReplicaRetry,
	}
}

// forward tries replicas until one has answered.
func (c *call) forward() {
	var tried []*replica
	last := noReplica(c.endpoint)
	for next := c.first; next != nil; next = c.another(tried) {
		tried = append(tried, next)
		c.tally = tally{}
		retry := c.attempt(next)
		if retry == nil {
			return
		}
		c.g.log.Warn("replica failed before its answer began", "request", c.entry.ID, "endpoint", c.endpoint.model(), "replica", next.address, "err", retry)
		c.g.table.unreachable(next)
		var told *fault
		if last = retry; !errors.As(retry, &told) {
			last = upstreamFault(http.StatusBadGateway, fmt.Sprintf("none of %d replicas of %s answered", len(tried), c.endpoint.model()))
		}
	}
	if c.left() {
		_ = c.settle(outcomeAborted, 0)
		return
	}
	c.fail(last)
}

// another is the replica to ask next, if there is one and it still makes sense.
func (c *call) another(tried []*replica) *replica {
	if len(tried) >= c.g.limits.Attempts || c.left() {
		return nil
	}
	return c.g.table.acquire(c.endpoint, tried)
}

// attempt asks one replica, acquired before. An error means that nothing was generated or passed
// on yet, so that another may be asked; otherwise the call is over.
func (c *call) attempt(to *replica) error {
	defer c.g.table.release(to)
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.r.Context()))
	defer cancel(nil)
	dog := newWatchdog(cancel)
	defer dog.stop()
	dog.allow(c.patience())
	// When the client leaves, what is under way may end, within bounds.
	forget := context.AfterFunc(c.r.Context(), func() { dog.drain(c.g.limits.Drain.Time) })
	defer forget()

	req, err := c.request(ctx, to)
	if err != nil {
		return err
	}
	res, err := c.g.transport.RoundTrip(req)
	if err != nil {
		return c.unanswered(ctx, err)
	}
	defer res.Body.Close()
	if encoding := res.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		c.fail(upstreamFault(http.StatusBadGateway, "the replica compressed its answer without being asked"))
		return nil
	}
	if res.StatusCode != http.StatusOK {
		return c.refused(res)
	}
	c.tally.taken = true
	if n, err := strconv.ParseUint(res.Header.Get(promptTokensHeader), 10, 31); err == nil {
		c.tally.hint = int64(n)
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); c.ask.stream && kind == "text/event-stream" {
		return c.stream(ctx, res, dog)
	}
	c.whole(ctx, res)
	return nil
}

// patience is how long a replica may take for the first content.
func (c *call) patience() time.Duration {
	if c.ask.stream {
		return c.g.limits.FirstContent
	}
	return c.g.limits.Whole
}

// left reports whether the client is gone. The server ends the context when the
// connection closes and when a write to it fails or takes too long.
func (c *call) left() bool { return c.r.Context().Err() != nil }

func (c *call) request(ctx context.Context, to *replica) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.address+route(c.entry.Route).path(), bytes.NewReader(c.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	names, _ := passedHeaders()
	for _, name := range names {
		if v := c.r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", c.entry.ID)
	return req, nil
}

// unanswered decides what follows when a replica sent no answer at all.
func (c *call) unanswered(ctx context.Context, err error) error {
	var dial *net.OpError
	connected := !errors.As(err, &dial) || dial.Op != "dial"
	switch {
	case c.left():
		// An answer that isn't streamed says nothing before its end.
		c.tally.taken = connected && !c.ask.stream
		_ = c.settle(outcomeAborted, 0)
		return nil
	case errors.Is(context.Cause(ctx), errSilent):
		c.tally.taken = connected
		c.fail(upstreamFault(http.StatusGatewayTimeout, "the replica sent nothing in time"))
		return nil
	}
	return err
}

// refused handles an answer that is no 200. What the client did wrong it gets to
// hear in the replica's own words, above all context_length_exceeded.
func (c *call) refused(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusBadGateway || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusGatewayTimeout:
		return upstreamFault(res.StatusCode, fmt.Sprintf("the replica answered %d", res.StatusCode))
	case res.StatusCode < 400 || res.StatusCode >= 500 || res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		c.fail(upstreamFault(http.StatusBadGateway, fmt.Sprintf("the replica answered %d", res.StatusCode)))
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, errorBody))
	if err != nil {
		return fmt.Errorf("read the replica's error: %w", err)
	}
	if err := c.settle(outcomeFailed, res.StatusCode); err != nil {
		c.g.refuse(c.w, err)
		return nil
	}
	c.pass(res, res.StatusCode, body)
	return nil
}

// whole passes on an answer that isn't streamed, once the ledger has it.
func (c *call) whole(ctx context.Context, res *http.Response) {
	body, err := io.ReadAll(io.LimitReader(res.Body, c.g.limits.Answer+1))
	switch {
	case err != nil && c.left():
		_ = c.settle(outcomeAborted, 0)
		return
	case err != nil:
		c.g.log.Warn("answer was cut off", "request", c.entry.ID, "endpoint", c.endpoint.model(), "bytes", len(body), "err", err, "cause", context.Cause(ctx))
		c.fail(upstreamFault(http.StatusBadGateway, "the replica's answer was cut off"))
		return
	case int64(len(body)) > c.g.limits.Answer:
		c.fail(upstreamFault(http.StatusBadGateway, fmt.Sprintf("the replica's answer has more than %d bytes", c.g.limits.Answer)))
		return
	}
	c.tally.report(gjson.ParseBytes(body))
	c.entry.TTFT = time.Since(c.entry.Started)
	outcome := outcomeOK
	if c.left() {
		outcome = outcomeAborted
	}
	if err := c.settle(outcome, res.StatusCode); err != nil {
		c.g.refuse(c.w, err)
		return
	}
	c.pass(res, res.StatusCode, body)
}

// pass begins the answer with the replica's status and allowed headers.
func (c *call) pass(res *http.Response, status int, body []byte) {
	_, names := passedHeaders()
	for _, name := range names {
		if v := res.Header.Get(name); v != "" {
			c.w.Header().Set(name, v)
		}
	}
	c.w.WriteHeader(status)
	c.write(body)
}

// fail settles the call as failed and tells the client so.
func (c *call) fail(err error) {
	status, _ := describe(err)
	if settleErr := c.settle(outcomeFailed, status); settleErr != nil && !c.begun {
		err = settleErr
	}
	if c.begun {
		c.write(errorEvent(err))
		return
	}
	c.g.refuse(c.w, err)
}

// settle writes what the call used to the ledger, once. A call that can't be
// settled stays open there, to be swept.
func (c *call) settle(outcome string, status int) error {
	if c.settled {
		return nil
	}
	c.settled = true
	r := &c.entry
	r.Ended, r.Outcome, r.Status = time.Now().UTC(), outcome, status
	r.PromptTokens, r.CompletionTokens, r.Source = c.used()
	if err := c.g.settle(*r); err != nil {
		c.g.log.Error("request stays open in the ledger", "request", r.ID, "err", err)
		return err
	}
	return nil
}

// used is the tokens of the call and how they are known: by the replica's own
// count; else one for each chunk that came; else, for an answer that isn't
// streamed and whose end nobody saw, the most that it can have been.
func (c *call) used() (prompt, completion int64, source string) {
	switch {
	case c.tally.reported:
		return c.tally.prompt, c.tally.completion, sourceUpstream
	case !c.tally.taken:
		return 0, 0, sourceCounted
	}
	prompt = c.tally.hint
	if prompt == 0 {
		prompt = c.ask.promptGuess()
	}
	if c.ask.stream {
		return prompt, c.tally.counted, sourceCounted
	}
	return prompt, max(0, c.entry.Reserved-c.ask.promptBound()), sourceEstimated
}
