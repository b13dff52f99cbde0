package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// serve serves what production points to, and holds the ledger to the tokens
// that its customer counted.
func (t *tour) serve(ctx context.Context) error {
	files := []string{"apply"}
	for _, name := range []string{"endpoint", "monitor", "pipeline"} {
		files = append(files, "-f", t.manifests(name+".yaml"))
	}
	if _, err := t.do(ctx, "ann", files...); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "wait", "endpoint/chat", "--timeout", "2m"); err != nil {
		return err
	}
	e, err := client.GetAs[v1.EndpointSpec, v1.EndpointStatus](ctx, t.api, ref(penstock.KindEndpoint, "chat"))
	if err != nil {
		return err
	}
	t.check(e.Status.Version == t.version, "chat is %s and serves version %s", e.Metadata.Phase, e.Status.Version.Short())
	key, err := t.do(ctx, "ann", "token", "create", "shop", "--key", "--endpoint", "chat")
	if err != nil {
		return err
	}
	t.shop = shop{t.api.Base, strings.TrimSpace(key), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}}
	t.tell("%d requests to %s/v1, %d at a time", t.Pace.Requests, t.api.Base, parallel)
	began := time.Now()
	replies, err := t.shop.send(ctx, usual(t.Pace.Requests))
	if err != nil {
		return err
	}
	t.report.Latency = timesOf(replies, time.Since(began))
	l := t.report.Latency
	t.tell("%.0f requests/s; first token after %s (median) and %s (95 of 100), whole answers after %s and %s",
		l.PerSecond, l.TTFT.at(50), l.TTFT.at(95), l.Whole.at(50), l.Whole.at(95))
	return t.checkLedger(ctx, replies)
}

// counts are tokens of a number of requests.
type counts struct{ Requests, Succeeded, Prompt, Completion int64 }

// checkLedger compares the client's counts with the ledger's, as the cost
// report sums them up. Of what a client left, it saw a part only: the ledger
// has at least that, and at most what was asked for.
func (t *tour) checkLedger(ctx context.Context, replies []reply) error {
	seen, least, most := clientCounts(replies)
	ledger, err := t.settled(ctx, seen.Requests)
	if err != nil {
		return err
	}
	left := seen.Requests - seen.Succeeded
	t.check(ledger.Requests == seen.Requests && ledger.Succeeded == seen.Succeeded, "the ledger has %d requests, %d answered and %d left by the client; the client made %d, and left %d",
		ledger.Requests, ledger.Succeeded, ledger.Requests-ledger.Succeeded, seen.Requests, left)
	t.check(ledger.Prompt == seen.Prompt, "the ledger has %d prompt tokens, the client sent %d", ledger.Prompt, seen.Prompt)
	rest := ledger.Completion - seen.Completion
	t.check(rest >= least && rest <= most, "the ledger has %d answer tokens: the %d that clients got whole, and %d of answers that were left, of which %d were seen", ledger.Completion, seen.Completion, rest, least)
	t.report.Ledger, t.report.Client, t.report.SeenOfLeft = ledger, seen, least
	return nil
}

// clientCounts is what the client knows: whole answers say what they used, and
// equal prompts have equal tokens.
func clientCounts(replies []reply) (seen counts, least, most int64) {
	prompts := map[string]int64{}
	for _, r := range replies {
		if !r.Abort {
			prompts[r.ask.Prompt] = r.Prompted
			seen.Succeeded++
			seen.Completion += r.Completed
		}
	}
	for _, r := range replies {
		seen.Requests++
		seen.Prompt += prompts[r.ask.Prompt]
		if r.Abort {
			least, most = least+r.Chunks, most+int64(r.MaxTokens)
		}
	}
	return seen, least, most
}

// settled waits until the ledger has closed that many requests: one that was
// left is closed once its replica has noticed.
func (t *tour) settled(ctx context.Context, requests int64) (counts, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var c counts
	err := t.until(ctx, fmt.Sprintf("%d requests are in the ledger", requests), func() (bool, error) {
		r, err := t.api.Cost(ctx, time.Time{}, time.Time{}, []string{"endpoint"})
		for _, e := range r.Endpoints {
			if e.Endpoint == "chat" {
				c = counts{e.Requests, e.Succeeded, e.PromptTokens, e.CompletionTokens}
			}
		}
		return c.Requests >= requests, err
	})
	return c, err
}

// times are durations in ascending order.
type times []time.Duration

// at is the smallest that percent of them are at or below.
func (d times) at(percent int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return d[(percent*len(d)+99)/100-1].Round(100 * time.Microsecond)
}

// latency is what the customer felt.
type latency struct {
	TTFT, Whole times
	PerSecond   float64
}

func timesOf(replies []reply, took time.Duration) latency {
	l := latency{PerSecond: float64(len(replies)) / took.Seconds()}
	for _, r := range replies {
		if r.Stream {
			l.TTFT = append(l.TTFT, r.TTFT)
		}
		if !r.Abort {
			l.Whole = append(l.Whole, r.Took)
		}
	}
	slices.Sort(l.TTFT)
	slices.Sort(l.Whole)
	return l
}
