package storetest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

func usage(id string, from, to int) store.Usage {
	return store.Usage{
		ID: id, Project: "vision", Job: uid(1), JobName: "train", Attempt: 2, Rank: 3, Pool: "local", Node: "a", Resource: "h100",
		Amount: math.MaxInt64, From: minute(from), To: minute(to), Labels: map[string]string{"team": "red"}, Outcome: "succeeded",
	}
}

func rate(from int) store.Rate {
	return store.Rate{Pool: "local", Resource: "h100", Price: 2_500_000_001, Capacity: 8000, From: minute(from)}
}

// parallel runs fn n times at once.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

func ledgerTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"AUseIsKeptWholeAndCountedOnce":         testUsageOnce,
		"UsageIsWhatOverlapsTheTime":            testUsageOverlap,
		"AUseThatEndsBeforeItBeginsIsRefused":   testUsageBackwards,
		"RatesAreThoseBeforeATimeInOrderOfFrom": testRates,
	}
}

func testUsageOnce(t *testing.T, s store.Store) {
	want := usage("u1", 0, 60)
	again := usage("u1", 0, 90)
	again.Amount = 5
	update(t, s, func(tx store.Tx) error { return tx.AppendUsage(want, want) })
	update(t, s, func(tx store.Tx) error { return tx.AppendUsage(again) })
	update(t, s, func(tx store.Tx) error { return tx.AppendUsage() })
	wantSame(t, read(t, s, func(tx store.Tx) ([]store.Usage, error) { return tx.Usage(minute(0), minute(1)) }), []store.Usage{want})
}

// testUsageOverlap compares Usage with the definition: from < To and From < to.
func testUsageOverlap(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, 12)
		var uses []store.Usage
		for i := range rapid.IntRange(0, 8).Draw(rt, "uses") {
			from := at.Draw(rt, "use from")
			uses = append(uses, usage(fmt.Sprintf("u%d", i), from, from+rapid.IntRange(1, 6).Draw(rt, "use length")))
		}
		from, to := at.Draw(rt, "from"), at.Draw(rt, "to")
		var want []string
		slices.SortStableFunc(uses, func(a, b store.Usage) int { return a.From.Compare(b.From) })
		for _, u := range uses {
			if minute(from).Before(u.To) && u.From.Before(minute(to)) {
				want = append(want, u.ID)
			}
		}
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.AppendUsage(uses...); err != nil {
				return err
			}
			found, err := tx.Usage(minute(from), minute(to))
			if err != nil {
				return err
			}
			var got []string
			for _, u := range found {
				got = append(got, u.ID)
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("in [%d, %d) there is %v, want %v", from, to, got, want)
			}
			return errStop
		})
		if err != errStop {
			rt.Fatalf("update: %v", err)
		}
	})
}

func testUsageBackwards(t *testing.T, s store.Store) {
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.AppendUsage(usage("u1", 5, 4)) })
	wantCode(t, err, penstock.Invalid)
}

func testRates(t *testing.T, s store.Store) {
	unknown := rate(20)
	unknown.Price = -1
	corrected := rate(10)
	corrected.Price = 0
	update(t, s, func(tx store.Tx) error {
		for _, r := range []store.Rate{unknown, rate(10), corrected, rate(0)} {
			if err := tx.AppendRate(r); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		to   time.Time
		want []store.Rate
	}{
		{minute(0), nil}, {minute(10), []store.Rate{rate(0)}}, {minute(20), []store.Rate{rate(0), rate(10), corrected}},
		{minute(99), []store.Rate{rate(0), rate(10), corrected, unknown}},
	} {
		wantSame(t, read(t, s, func(tx store.Tx) ([]store.Rate, error) { return tx.Rates(c.to) }), c.want)
	}
}
