package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/serve/gateway"
	"github.com/penstock/penstock/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bill is the part of a request that is charged.
type bill struct {
	Prompt, Completion int64
	Outcome, Source    string
	Status             int
}

func billOf(r store.Request) bill {
	return bill{r.PromptTokens, r.CompletionTokens, r.Outcome, r.Source, r.Status}
}

func TestLedgerHoldsWhatTheReplicaCounted(t *testing.T) {
	for name, body := range map[string]string{
		"whole":             `{"model":"writer","messages":[],"max_tokens":3}`,
		"stream":            `{"model":"writer","messages":[],"max_tokens":3,"stream":true}`,
		"stream with usage": `{"model":"vision/writer","messages":[],"max_tokens":3,"stream":true,"stream_options":{"include_usage":true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, gateway.Limits{}, &model{})
			res := h.send(t, t.Context(), chatUse, body)
			if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 {
				t.Fatal(res.Status, err)
			}
			got := h.store.ledger(t)[0]
			want := store.Request{
				ID: res.Header.Get("X-Request-Id"), Key: "key-1", Project: "vision", Endpoint: "uid-writer", EndpointName: "writer",
				Version: "sha256:aa", Route: "chat", Reserved: int64(len(body)) + 3,
				PromptTokens: 7, CompletionTokens: 3, Outcome: "ok", Source: "upstream", Status: 200,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.Request{}, "Started", "Ended", "TTFT")); diff != "" {
				t.Fatal(diff)
			}
			if got.TTFT <= 0 || !got.Ended.After(got.Started) {
				t.Fatalf("times %v", got)
			}
		})
	}
}

// A client that sees the end of an answer must find it in the ledger.
func TestAnswerEndsOnlyAfterItIsSettled(t *testing.T) {
	h := build(t, gateway.Limits{}, &model{})
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":2,"stream":true}`)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && lines.Text() != "data: [DONE]" {
	}
	h.store.ledger(t) // fails if it is open
}

func TestStoreThatFailsAtTheEndKeepsTheAnswerFromEndingWell(t *testing.T) {
	var h *house
	m := &model{step: func(*http.Request, int) { h.store.fail(errors.New("disk full")) }}
	h = build(t, gateway.Limits{}, m)
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":1,"stream":true}`)
	all, _ := io.ReadAll(res.Body)
	if strings.Contains(string(all), "[DONE]") || !strings.Contains(string(all), `"error"`) || strings.Contains(string(all), "disk full") {
		t.Fatalf("%s", all)
	}
	h.store.fail(nil)
	res = h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":1}`)
	if all, _ := io.ReadAll(res.Body); res.StatusCode != 500 || strings.Contains(string(all), "choices") {
		t.Fatalf("%d %s", res.StatusCode, all)
	}
}

// litellm#14457, #37558, #36008: what a client that left had used was lost.
func TestClientThatLeavesIsBilledWhatTheReplicaGenerates(t *testing.T) {
	var h *house
	m := &model{step: func(_ *http.Request, n int) {
		if n == 2 {
			<-h.left("")
		}
	}}
	h = build(t, gateway.Limits{Drain: gateway.Drain{Time: 20 * time.Second}}, m)
	ctx, leave := context.WithCancel(t.Context())
	res := h.send(t, ctx, chatUse, `{"model":"writer","messages":[],"max_tokens":20,"stream":true}`)
	readUntil(t, res.Body, "é1")
	leave()
	want := bill{7, 20, "aborted", "upstream", 200}
	if diff := cmp.Diff(want, billOf(h.store.settlement(t))); diff != "" {
		t.Fatal(diff)
	}
}

func readUntil(t *testing.T, r io.Reader, text string) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("%q didn't come: %v", text, lines.Err())
}

func TestReplicaIsStoppedWhenTheDrainIsOverAndChunksAreCounted(t *testing.T) {
	for name, drain := range map[string]gateway.Drain{
		"events": {Events: 3, Time: time.Minute},
		"bytes":  {Bytes: 150, Time: time.Minute},
		"time":   {Time: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			stopped := make(chan struct{})
			m := &model{step: func(r *http.Request, n int) {
				switch {
				case n == 0:
					context.AfterFunc(r.Context(), func() { close(stopped) })
				case n >= 3 && name == "time": // it falls silent
					<-r.Context().Done()
				case n >= 3: // it goes on slowly
					select {
					case <-time.After(2 * time.Millisecond):
					case <-r.Context().Done():
					}
				}
			}}
			h := build(t, gateway.Limits{Drain: drain}, m)
			ctx, leave := context.WithCancel(t.Context())
			res := h.send(t, ctx, chatUse, `{"model":"writer","messages":[],"max_tokens":100000,"stream":true}`)
			readUntil(t, res.Body, "é2")
			leave()
			got := h.store.settlement(t)
			select {
			case <-stopped:
			case <-time.After(10 * time.Second):
				t.Fatal("the replica was not stopped")
			}
			if got.Outcome != "aborted" || got.Source != "counted" || got.PromptTokens != 7 || got.CompletionTokens < 3 || got.CompletionTokens > 40 {
				t.Fatalf("%+v", billOf(got))
			}
		})
	}
}

// sub2api#4408: leaving with nothing read was billed in full.
func TestClientThatLeavesBeforeTheFirstTokenIsBilledNoCompletion(t *testing.T) {
	started := make(chan struct{})
	m := &model{step: func(r *http.Request, _ int) { close(started); <-r.Context().Done() }}
	h := build(t, gateway.Limits{Drain: gateway.Drain{Time: 10 * time.Millisecond}}, m)
	h.abandon(t, started, `{"model":"writer","messages":[],"max_tokens":1,"stream":true}`)
	if diff := cmp.Diff(bill{7, 0, "aborted", "counted", 200}, billOf(h.store.settlement(t))); diff != "" {
		t.Fatal(diff)
	}
}

func TestClientThatLeavesAWholeAnswerIsBilledItsUsage(t *testing.T) {
	var h *house
	started := make(chan struct{})
	m := &model{step: func(_ *http.Request, n int) {
		if n == 0 {
			close(started)
			<-h.left("")
		}
	}}
	h = build(t, gateway.Limits{Drain: gateway.Drain{Time: 20 * time.Second}}, m)
	h.abandon(t, started, `{"model":"writer","messages":[],"max_tokens":4}`)
	if diff := cmp.Diff(bill{7, 4, "aborted", "upstream", 200}, billOf(h.store.settlement(t))); diff != "" {
		t.Fatal(diff)
	}
}

func TestWholeAnswerThatNobodySawEndIsEstimatedAtItsMost(t *testing.T) {
	started := make(chan struct{})
	m := &model{step: func(r *http.Request, _ int) { close(started); <-r.Context().Done() }}
	h := build(t, gateway.Limits{Drain: gateway.Drain{Time: 10 * time.Millisecond}}, m)
	h.abandon(t, started, `{"model":"writer","messages":[],"max_tokens":1}`)
	if diff := cmp.Diff(bill{1, 1, "aborted", "estimated", 0}, billOf(h.store.settlement(t))); diff != "" {
		t.Fatal(diff)
	}
}

// abandon sends a request and leaves when the replica has started.
func (h *house) abandon(t *testing.T, started <-chan struct{}, body string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-started; leave() }()
	req, err := http.NewRequestWithContext(ctx, "POST", h.url+chatUse, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if res, err := h.client.Do(req); err == nil {
		res.Body.Close()
		t.Fatal("an answer came")
	}
}

// litellm#30667, #13245: a call that failed midway left no trace.
func TestAnswerThatIsCutOffIsSettledAndTold(t *testing.T) {
	for name, c := range map[string]struct {
		replica raw
		body    string
		want    bill
		answer  string
	}{
		"stream": {
			raw{kind: "text/event-stream", body: events(begins, hello, hello), piece: 1000, end: reset}, `"stream":true`,
			bill{1, 2, "failed", "counted", 502}, `"code":"upstream_error"`,
		},
		"stream that just ends": {
			raw{kind: "text/event-stream", body: events(begins, hello), piece: 1000}, `"stream":true`,
			bill{1, 1, "failed", "counted", 502}, `"code":"upstream_error"`,
		},
		"error of the replica": {
			raw{kind: "text/event-stream", body: events(begins, hello, `{"error":{"message":"out of memory"}}`, done), piece: 1000}, `"stream":true`,
			bill{1, 1, "failed", "counted", 200}, `{"error":{"message":"out of memory"}}`,
		},
		"whole": {
			raw{kind: "application/json", body: `{"choices":[`, piece: 1000, end: reset}, `"stream":false`,
			bill{1, 9, "failed", "estimated", 502}, `"code":"upstream_error"`,
		},
		"end without a mark": {
			raw{kind: "text/event-stream", body: events(begins, hello, stops, used), piece: 1000}, `"stream":true`,
			bill{5, 1, "ok", "upstream", 200}, `"finish_reason":"stop"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, gateway.Limits{}, c.replica)
			res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":9,`+c.body+`}`)
			all, err := io.ReadAll(res.Body)
			if err != nil || !strings.Contains(string(all), c.answer) || strings.Contains(string(all), done) {
				t.Errorf("%v %s", err, all)
			}
			if diff := cmp.Diff(c.want, billOf(h.store.settlement(t))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSilentReplicaIsGivenUp(t *testing.T) {
	for name, after := range map[string]int{"before content": 0, "after content": 1} {
		t.Run(name, func(t *testing.T) {
			m := &model{step: func(r *http.Request, n int) {
				if n == after {
					<-r.Context().Done()
				}
			}}
			h := build(t, gateway.Limits{FirstContent: 50 * time.Millisecond, Idle: 50 * time.Millisecond}, m)
			res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":9,"stream":true}`)
			all, _ := io.ReadAll(res.Body)
			if !strings.Contains(string(all), "upstream_error") || (after == 0) != (res.StatusCode == 504) {
				t.Errorf("%d %s", res.StatusCode, all)
			}
			if diff := cmp.Diff(bill{7, int64(after), "failed", "counted", 504}, billOf(h.store.settlement(t))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// litellm#36008: a client that reads nothing must hold up neither the replica
// nor the gateway's memory.
func TestClientThatStopsReadingCountsAsGone(t *testing.T) {
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		say(w, begins)
		long := strings.Replace(hello, "hello", strings.Repeat("x", 100_000), 1)
		for r.Context().Err() == nil {
			say(w, long)
		}
	})
	h := build(t, gateway.Limits{Write: 50 * time.Millisecond, Drain: gateway.Drain{Events: 2}}, endless)
	h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"stream":true}`)
	if got := h.store.settlement(t); got.Outcome != "aborted" || got.Source != "counted" || got.CompletionTokens < 2 {
		t.Fatalf("%+v", billOf(got))
	}
}

func TestMetricsTellOfRequestsByEndpointAndOutcome(t *testing.T) {
	h := build(t, gateway.Limits{}, &model{})
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":3,"stream":true}`)
	_, _ = io.Copy(io.Discard, res.Body)
	h.send(t, t.Context(), chatUse, `{"model":"nobody-at-all"}`)
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			got = append(got, fmt.Sprintf("%s: %d, %g", line, m.GetHistogram().GetSampleCount(), m.GetCounter().GetValue()))
		}
	}
	want := []string{
		"penstock_gateway_refused_total model_not_found: 0, 1",
		"penstock_gateway_request_duration_seconds writer ok vision: 1, 0",
		"penstock_gateway_tokens writer completion vision: 1, 0",
		"penstock_gateway_tokens writer prompt vision: 1, 0",
		"penstock_gateway_ttft_seconds writer vision: 1, 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// litellm#34732, #40002, bifrost#3547: parallel calls passed a limit together.
func TestParallelRequestsNeverPassAKeysLimit(t *testing.T) {
	const limit = 1000
	h := build(t, gateway.Limits{}, &model{})
	h.keys[key] = store.Credential{ID: "key-1", Use: store.Gateway, Project: "vision", Limit: limit}
	var wg sync.WaitGroup
	codes := make(chan int, 64)
	for range 64 {
		wg.Go(func() {
			res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[],"max_tokens":60}`)
			_, _ = io.Copy(io.Discard, res.Body)
			codes <- res.StatusCode
			if res.StatusCode == 429 && res.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		})
	}
	wg.Wait()
	close(codes)
	counts := map[int]int{}
	for code := range codes {
		counts[code]++
	}
	var spent int64
	for _, r := range h.store.ledger(t) {
		spent += r.PromptTokens + r.CompletionTokens
	}
	if spent > limit || counts[429] == 0 || counts[200] == 0 || counts[200]+counts[429] != 64 {
		t.Fatalf("%d of %d tokens, answers %v", spent, limit, counts)
	}
}

func TestLimitedKeyAlwaysSendsABound(t *testing.T) {
	h := build(t, gateway.Limits{MaxTokens: 5}, &model{})
	h.keys[key] = store.Credential{ID: "key-1", Use: store.Gateway, Project: "vision", Limit: 1000}
	res := h.send(t, t.Context(), chatUse, `{"model":"writer","messages":[]}`)
	_, _ = io.Copy(io.Discard, res.Body)
	if got := h.store.settlement(t); got.CompletionTokens != 5 {
		t.Fatalf("%+v", got)
	}
}

func TestOpenRequestsOfADeadGatewayAreSweptOnce(t *testing.T) {
	h := build(t, gateway.Limits{}, &model{})
	for i := range 3 {
		r := store.Request{ID: fmt.Sprint("old-", i), Key: "key-1", Started: time.Now().Add(-time.Hour), Reserved: 40}
		if err := h.store.Update(t.Context(), func(tx store.Tx) error { return tx.Reserve(r, 0) }); err != nil {
			t.Fatal(err)
		}
	}
	g, err := gateway.New(gateway.Options{Store: h.store, Metrics: prometheusRegistry(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, want := range []int{3, 0} {
		if n, err := g.Sweep(t.Context()); n != want || err != nil {
			t.Fatalf("swept %d, %v; want %d", n, err, want)
		}
	}
	for _, r := range h.store.ledger(t) {
		if diff := cmp.Diff(bill{0, 40, "swept", "estimated", 0}, billOf(r)); diff != "" {
			t.Fatal(diff)
		}
	}
	h.store.fail(&penstock.Error{Code: penstock.Internal, Msg: "gone"})
	if _, err := g.Sweep(t.Context()); err == nil {
		t.Fatal("a store that fails went unseen")
	}
}

// bifrost#828: goroutines leaked with each cancelled stream. That none is left
// is seen by TestMain.
func TestLedgerEqualsTheReplicasCountUnderLoadWithAborts(t *testing.T) {
	var h *house
	// A stream whose client leaves waits for that, so that it can't be over before.
	step := func(r *http.Request, n int) {
		if id := r.Header.Get("Traceparent"); n == 2 && id != "" {
			<-h.left(id)
		}
	}
	m, n := &model{step: step}, &model{step: step}
	h = build(t, gateway.Limits{Drain: gateway.Drain{Events: 1000, Bytes: 1 << 20, Time: time.Minute}}, m, n)
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for round := range 4 {
				load(t, h, worker*4+round)
			}
		})
	}
	wg.Wait()
	waitSettled(t, h.store, 256)
	aborted := 0
	for _, r := range h.store.ledger(t) {
		real, ok := m.generated[r.ID]
		if !ok {
			real = n.generated[r.ID]
		}
		if got := [2]int64{r.PromptTokens, r.CompletionTokens}; got != real && (got != [2]int64{7, 0} || real != [2]int64{}) {
			t.Errorf("request %s (%s, %s): ledger %v, replica %v", r.ID, r.Outcome, r.Source, got, real)
		}
		if r.Outcome == "aborted" {
			aborted++
		}
	}
	if aborted == 0 {
		t.Fatal("no request was aborted")
	}
	t.Logf("%d of 256 aborted", aborted)
}

// load sends one request; one in ten is a stream whose client leaves after its
// first bytes.
func load(t *testing.T, h *house, i int) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	leaves := i%10 == 1
	body := fmt.Sprintf(`{"model":"writer","messages":[],"max_tokens":%d,"stream":%v}`, 5+i%90, leaves || i%3 != 0)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+chatUse, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if leaves {
		req.Header.Set("Traceparent", fmt.Sprint(i))
	}
	res, err := h.client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if leaves {
		_, _ = io.ReadFull(res.Body, make([]byte, 100))
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
}

func waitSettled(t *testing.T, m *memory, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		m.mu.Lock()
		settled := len(m.settled)
		m.mu.Unlock()
		if settled == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d requests were settled", settled, n)
		}
	}
}

func TestAmongSeveralGatewaysOnlyWhatCanLiveNoMoreIsSwept(t *testing.T) {
	h := build(t, gateway.Limits{}, &model{})
	for id, age := range map[string]time.Duration{"dead": time.Hour, "may-live": 20 * time.Minute, "young": time.Second} {
		r := store.Request{ID: id, Key: "key-1", Started: time.Now().Add(-age), Reserved: 40}
		if err := h.store.Update(t.Context(), func(tx store.Tx) error { return tx.Reserve(r, 0) }); err != nil {
			t.Fatal(err)
		}
	}
	g, err := gateway.New(gateway.Options{Store: h.store, Metrics: prometheusRegistry(), Log: discard(), Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, want := range []int{1, 0} {
		if n, err := g.Sweep(t.Context()); n != want || err != nil {
			t.Fatalf("swept %d, %v; want %d", n, err, want)
		}
	}
	var open []store.Request
	if err := h.store.View(t.Context(), func(tx store.Tx) (err error) {
		open, err = tx.Requests(store.RequestQuery{Open: true, Limit: 10})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, r := range open {
		if r.ID == "dead" {
			t.Error("a request whose gateway is dead is still open")
		}
	}
	if len(open) != 2 {
		t.Errorf("%d requests are open, of 2 that may live", len(open))
	}
}
