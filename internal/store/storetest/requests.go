package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

func request(id string, tokens int64) store.Request {
	return store.Request{
		ID: id, Key: "key", Project: "vision", Endpoint: uid(1), EndpointName: "chat", Version: digest('a'), Route: "chat",
		Started: minute(0), Reserved: tokens,
	}
}

// settled is request id with its end.
func settled(id string, prompt, completion int64) store.Request {
	r := request(id, 100)
	r.Ended, r.PromptTokens, r.CompletionTokens, r.TTFT = minute(1), prompt, completion, 123_456_789*time.Nanosecond
	r.Outcome, r.Source, r.Status = "ok", "upstream", 200
	return r
}

func requestTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"ReserveStopsAtTheLimitToTheToken":             testLimit,
		"ManyReservationsAtOnceNeverPassTheLimit":      testParallelReserve,
		"SettlingPutsWhatWasUsedForWhatWasHeld":        testSettle,
		"OfManySettlementsOneIsTheFirst":               testSettleOnce,
		"ARequestCanBeReservedOnce":                    testReserveTwice,
		"SettlingWhatWasNeverReservedIsNotFound":       testSettleUnknown,
		"ASettlementWithoutOutcomeOrEndIsRefused":      testSettleIncomplete,
		"RequestsAreTheNewestFirstAndChosenByTheQuery": testRequests,
		"TheTallySumsWhatEndedInTheTimeByVersion":      testTally,
		"TheTallyOfATimeThatIsOverDoesNotChange":       testTallyStays,
		"SpendingNeverPassesTheLimitWhileRequestsGoOn": testSpending,
	}
}

func reserve(t *testing.T, s store.Store, r store.Request, limit int64) error {
	return s.Update(t.Context(), func(tx store.Tx) error { return tx.Reserve(r, limit) })
}

func settle(t *testing.T, s store.Store, r store.Request) (first bool) {
	t.Helper()
	update(t, s, func(tx store.Tx) (err error) { first, err = tx.Settle(r); return err })
	return first
}

func testLimit(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 60), 100) })
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.Reserve(request("r2", 41), 100) }), penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r2", 40), 100) })
	wantCode(t, reserve(t, s, request("r3", 1), 100), penstock.OverLimit)
	other := request("r4", 100)
	other.Key = "other"
	if err := reserve(t, s, other, 100); err != nil {
		t.Errorf("another key: %v", err)
	}
	if err := reserve(t, s, request("r5", 1_000_000), 0); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func testParallelReserve(t *testing.T, s store.Store) {
	const calls, each, limit = 64, 30, 1000
	var granted atomic.Int64
	parallel(calls, func(i int) {
		switch err := reserve(t, s, request(fmt.Sprintf("r%d", i), each), limit); penstock.CodeOf(err) {
		case "":
			granted.Add(1)
		case penstock.OverLimit:
		default:
			t.Errorf("reserve: %v", err)
		}
	})
	if granted.Load() != limit/each {
		t.Errorf("%d calls got %d tokens each of %d, want %d calls", granted.Load(), each, limit, limit/each)
	}
	open := read(t, s, func(tx store.Tx) ([]store.Request, error) { return tx.Requests(store.RequestQuery{Open: true}) })
	if int64(len(open)) != granted.Load() {
		t.Errorf("%d requests are open, %d were granted", len(open), granted.Load())
	}
}

func testSettle(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 100), 100) })
	if !settle(t, s, settled("r1", 20, 30)) {
		t.Error("the first settlement isn't the first")
	}
	// 50 are used and nothing is held.
	wantCode(t, reserve(t, s, request("r2", 51), 100), penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r2", 50), 100) })
	// It used more than it had reserved, and that counts.
	settle(t, s, settled("r2", 40, 40))
	wantCode(t, reserve(t, s, request("r3", 0), 100), penstock.OverLimit)
	wantCode(t, reserve(t, s, request("r3", 1), 130), penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r3", 0), 130) })

	got := read(t, s, func(tx store.Tx) ([]store.Request, error) { return tx.Requests(store.RequestQuery{}) })
	second := settled("r2", 40, 40)
	second.Reserved = 50
	wantSame(t, got, []store.Request{request("r3", 0), second, settled("r1", 20, 30)})
}

func testSettleOnce(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 100), 0) })
	var first atomic.Int64
	parallel(16, func(i int) {
		if settle(t, s, settled("r1", int64(i), 1)) {
			first.Add(1)
		}
	})
	if first.Load() != 1 {
		t.Errorf("%d settlements were the first", first.Load())
	}
	got := read(t, s, func(tx store.Tx) ([]store.Request, error) { return tx.Requests(store.RequestQuery{}) })
	used := got[0].PromptTokens + got[0].CompletionTokens
	wantCode(t, reserve(t, s, request("r2", 1001-used), 1000), penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r2", 1000-used), 1000) })
}

func testReserveTwice(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 10), 100) })
	again := func(tx store.Tx) error { return tx.Reserve(request("r1", 20), 100) }
	wantCode(t, refuse(t, s, again), penstock.Exists)
	settle(t, s, settled("r1", 1, 1))
	wantCode(t, refuse(t, s, again), penstock.Exists)
}

func testSettleUnknown(t *testing.T, s store.Store) {
	wantCode(t, refuse(t, s, func(tx store.Tx) error { _, err := tx.Settle(settled("r1", 1, 1)); return err }), penstock.NotFound)
}

func testSettleIncomplete(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 10), 0) })
	before := everything(t, s)
	for what, change := range map[string]func(*store.Request){
		"no outcome":      func(r *store.Request) { r.Outcome = "" },
		"another outcome": func(r *store.Request) { r.Outcome = "fine" },
		"no end":          func(r *store.Request) { r.Ended = time.Time{} },
		"negative tokens": func(r *store.Request) { r.PromptTokens = -1 },
	} {
		r := settled("r1", 1, 1)
		change(&r)
		err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Settle(r); return err })
		if penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%s gives %v, want Invalid", what, err)
		}
	}
	wantSame(t, everything(t, s), before)
}

func testRequests(t *testing.T, s store.Store) {
	for n, id := range []string{"a", "b", "c", "d"} {
		r := request(id, 10)
		r.Started = minute(n)
		if id == "b" {
			r.Key, r.Endpoint = "other", uid(2)
		}
		update(t, s, func(tx store.Tx) error { return tx.Reserve(r, 0) })
	}
	settle(t, s, settled("c", 1, 1))
	for what, c := range map[string]struct {
		q    store.RequestQuery
		want string
	}{
		"all":         {store.RequestQuery{}, "dcba"},
		"newest":      {store.RequestQuery{Limit: 2}, "dc"},
		"open":        {store.RequestQuery{Open: true}, "dba"},
		"of a key":    {store.RequestQuery{Key: "key"}, "dca"},
		"of an other": {store.RequestQuery{Endpoint: uid(2)}, "b"},
		"together":    {store.RequestQuery{Key: "key", Endpoint: uid(1), Open: true, Limit: 1}, "d"},
		"none":        {store.RequestQuery{Key: "key", Endpoint: uid(2)}, ""},
	} {
		got := ""
		for _, r := range read(t, s, func(tx store.Tx) ([]store.Request, error) { return tx.Requests(c.q) }) {
			got += r.ID
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

func testTally(t *testing.T, s store.Store) {
	for i, c := range []struct {
		ended   int
		version byte
		outcome string
	}{{0, 'a', "ok"}, {5, 'a', "ok"}, {6, 'a', "aborted"}, {7, 'b', "failed"}, {9, 'b', "swept"}, {10, 'a', "ok"}} {
		r := settled(fmt.Sprintf("r%d", i), 10, 1)
		r.Version, r.Ended, r.Outcome = digest(c.version), minute(c.ended), c.outcome
		update(t, s, func(tx store.Tx) error {
			if err := tx.Reserve(r, 0); err != nil {
				return err
			}
			_, err := tx.Settle(r)
			return err
		})
	}
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("open", 100), 0) })
	want := []store.Tally{
		{Project: "vision", Endpoint: uid(1), EndpointName: "chat", Version: digest('a'), Requests: 2, Succeeded: 1, PromptTokens: 20, CompletionTokens: 2},
		{Project: "vision", Endpoint: uid(1), EndpointName: "chat", Version: digest('b'), Requests: 2, Succeeded: 0, PromptTokens: 20, CompletionTokens: 2},
	}
	wantSame(t, read(t, s, func(tx store.Tx) ([]store.Tally, error) { return tx.Tally(minute(5), minute(10)) }), want)
	wantSame(t, read(t, s, func(tx store.Tx) ([]store.Tally, error) { return tx.Tally(minute(20), minute(30)) }), nil)
}

func testTallyStays(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("r1", 100), 0) })
	tally := func() []store.Tally {
		return read(t, s, func(tx store.Tx) ([]store.Tally, error) { return tx.Tally(minute(-60), minute(60)) })
	}
	before := tally()
	late := settled("r1", 1, 1)
	late.Ended = minute(61)
	settle(t, s, late)
	wantSame(t, tally(), before)
}

// testSpending lets many clients reserve and settle, each within what it
// reserved, and checks that all the tokens settled stay within the limit.
func testSpending(t *testing.T, s store.Store) {
	const limit = 2000
	parallel(12, func(client int) {
		for i := range 8 {
			id := fmt.Sprintf("r%d-%d", client, i)
			if reserve(t, s, request(id, 50), limit) == nil {
				settle(t, s, settled(id, 25, int64(i)))
			}
		}
	})
	sum := int64(0)
	for _, r := range read(t, s, func(tx store.Tx) ([]store.Request, error) { return tx.Requests(store.RequestQuery{}) }) {
		sum += r.PromptTokens + r.CompletionTokens
	}
	// Whoever was refused was so with less than 50 to go, counting what was held.
	if sum > limit || sum == 0 {
		t.Errorf("%d tokens were spent of %d", sum, limit)
	}
	wantCode(t, reserve(t, s, request("last", limit-sum+1), limit), penstock.OverLimit)
	update(t, s, func(tx store.Tx) error { return tx.Reserve(request("last", limit-sum), limit) })
}
