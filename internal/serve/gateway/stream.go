package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/penstock/penstock/internal/serve/sse"
)

// heldBytes bounds what is kept back of a stream before its first content.
const heldBytes = 64 << 10

// afterDone is how long a replica may take to close after the end mark.
const afterDone = time.Second

// stream passes events on as they come. Before the first content they are held
// back, so that another replica can take over without a trace of this one; an
// error means that it should.
func (c *call) stream(ctx context.Context, res *http.Response, dog *watchdog) error {
	events := sse.NewReader(res.Body)
	var held []byte
	var drained Drain
	for {
		event, err := events.Next()
		if err != nil {
			return c.ended(ctx, err)
		}
		what := c.tally.see(event.Data)
		if c.left() {
			drained.Events++
			drained.Bytes += int64(len(event.Raw))
			if what == partDone || c.tally.complete() || c.g.limits.Drain.reached(drained) {
				return c.ended(ctx, errDrained)
			}
			continue
		}
		if what == partFailed && !c.begun {
			return fmt.Errorf("the replica sent an error: %.200q", event.Data)
		}
		if what != partOther || len(held) > heldBytes {
			c.begin(res, &held)
		}
		if event.Data != nil {
			c.extend(dog, what)
		}
		if over := c.relay(event, what, &held); over {
			return nil
		}
	}
}

// reached reports whether one of d's bounds is met.
func (d Drain) reached(used Drain) bool { return used.Events >= d.Events || used.Bytes >= d.Bytes }

// begin sends the headers and what was held back.
func (c *call) begin(res *http.Response, held *[]byte) {
	if c.begun {
		return
	}
	c.begun = true
	c.entry.TTFT = time.Since(c.entry.Started)
	c.pass(res, http.StatusOK, bytes.Clone(*held))
	*held = nil
}

// extend lets the replica go on: only data counts, a keep-alive is no progress.
func (c *call) extend(dog *watchdog, what part) {
	switch {
	case what == partDone:
		dog.allow(afterDone)
	case c.begun:
		dog.allow(c.g.limits.Idle)
	}
}

// relay passes one event on, or holds it back. over says that it was the last.
// A write that fails ends the request's context: the client counts as gone.
func (c *call) relay(event sse.Event, what part, held *[]byte) (over bool) {
	switch {
	case what == partUsage && !c.ask.wantsUsage:
		return false // asked for by the gateway, not by the client
	case !c.begun:
		*held = append(*held, event.Raw...)
		return false
	case what == partFailed:
		_ = c.settle(outcomeFailed, http.StatusOK)
		over = true
	case what == partDone:
		if err := c.settle(outcomeOK, http.StatusOK); err != nil {
			c.write(errorEvent(err))
			return true
		}
	}
	c.write(event.Raw)
	return over
}

// ended settles a stream that gives no more events.
func (c *call) ended(ctx context.Context, err error) error {
	switch {
	case c.settled:
		return nil
	case c.left():
		_ = c.settle(outcomeAborted, http.StatusOK)
		return nil
	case errors.Is(err, io.EOF) && c.begun && c.tally.finished:
		if err := c.settle(outcomeOK, http.StatusOK); err != nil {
			c.write(errorEvent(err))
		}
		return nil
	case errors.Is(context.Cause(ctx), errSilent):
		c.fail(upstreamFault(http.StatusGatewayTimeout, "the replica was silent for too long"))
		return nil
	case !c.begun:
		return fmt.Errorf("the stream ended before its content: %w", err)
	}
	c.g.log.Warn("stream was cut off", "request", c.entry.ID, "endpoint", c.endpoint.model(), "tokens", c.tally.counted, "err", err)
	c.fail(upstreamFault(http.StatusBadGateway, fmt.Sprintf("the replica's stream was cut off after %d chunks", c.tally.counted)))
	return nil
}

// write sends bytes to the client at once. That it failed shows in left.
func (c *call) write(b []byte) {
	control := http.NewResponseController(c.w)
	_ = control.SetWriteDeadline(time.Now().Add(c.g.limits.Write)) // a recorder has none
	if _, err := c.w.Write(b); err != nil {
		return
	}
	if err := control.Flush(); err != nil {
		return
	}
	// The connection's next request must not inherit the deadline.
	_ = control.SetWriteDeadline(time.Time{})
}
