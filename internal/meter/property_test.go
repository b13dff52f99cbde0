package meter

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// facts are random rates and uses of two pools within some days.
type facts struct {
	usages []store.Usage
	rates  []store.Rate
}

func drawTime(t *rapid.T, name string) time.Time {
	return epoch.Add(time.Duration(rapid.Int64Range(0, 3*86400*1e6).Draw(t, name)) * time.Microsecond)
}

func drawWindow(t *rapid.T) Window {
	a, b := drawTime(t, "a"), drawTime(t, "b")
	if b.Before(a) {
		a, b = b, a
	}
	return Window{a, b}
}

func drawAmount(t *rapid.T, r penstock.Resource) penstock.Amount {
	if r == penstock.Memory {
		return penstock.Amount(rapid.Int64Range(1, 1<<38).Draw(t, "bytes"))
	}
	return penstock.Amount(rapid.Int64Range(1, 9000).Draw(t, "milli"))
}

func drawFacts(t *rapid.T) facts {
	var f facts
	pools, resources := []string{"a", "b"}, []penstock.Resource{penstock.CPU, penstock.Memory, "h100"}
	for range rapid.IntRange(0, 8).Draw(t, "rates") {
		r := rapid.SampledFrom(resources).Draw(t, "resource")
		f.rates = append(f.rates, store.Rate{
			Pool: rapid.SampledFrom(pools).Draw(t, "pool"), Resource: r, Capacity: drawAmount(t, r),
			Price: penstock.Money(rapid.Int64Range(-1, 70*int64(penstock.Unit)).Draw(t, "price")), From: drawTime(t, "from"),
		})
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "usages") {
		r, w := rapid.SampledFrom(resources).Draw(t, "resource"), drawWindow(t)
		f.usages = append(f.usages, store.Usage{
			ID: fmt.Sprint("u", i), Project: rapid.SampledFrom([]string{"vision", "speech"}).Draw(t, "project"),
			Pool: rapid.SampledFrom(pools).Draw(t, "pool"), Resource: r, Amount: drawAmount(t, r),
			From: w.From, To: w.To, Outcome: rapid.SampledFrom([]string{"succeeded", "lost"}).Draw(t, "outcome"),
			Rank: i,
		})
	}
	return f
}

func (f facts) cost(t *rapid.T, w Window) Report {
	r, err := Cost(w, f.usages, f.rates, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sumRows(rows []Row) (sum penstock.Money) {
	for _, r := range rows {
		sum += r.Cost
	}
	return sum
}

// poolCost is what the pools cost by plain rational arithmetic, and how many
// price periods the window touches.
func poolCost(f facts, w Window) (*big.Rat, int64) {
	sum, n := new(big.Rat), int64(0)
	periods, _ := periodsOf(f.rates)
	for l, all := range periods {
		for _, p := range all {
			from, to := max(p.from, w.From.UnixMicro()), min(p.to, w.To.UnixMicro())
			if from >= to || p.price < 0 {
				continue
			}
			n++
			cost := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(p.capacity)), big.NewInt(to-from)), hour(l.resource))
			sum.Add(sum, cost.Mul(cost, new(big.Rat).SetInt64(int64(p.price))))
		}
	}
	return sum, n
}

func TestRowsSumToWhatThePoolsCostToTheNanoUnit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		r := f.cost(t, w)
		// Uses of a lane that has no rate at all cost nothing, so all rows count.
		if rows := sumRows(r.Rows); rows != r.Cost() {
			t.Fatalf("rows sum to %s, the pools cost %s", rows, r.Cost())
		}
		exact, periods := poolCost(f, w)
		off := new(big.Rat).Sub(exact, new(big.Rat).SetInt64(int64(r.Cost())))
		if off.Abs(off).Cmp(new(big.Rat).SetInt64(periods)) > 0 {
			t.Fatalf("the pools cost %s, by fractions %s", r.Cost(), exact.FloatString(9))
		}
	})
}

func TestAreasConserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		r := f.cost(t, w)
		have, held := map[lane]Area{}, map[lane]Area{}
		for _, row := range r.Rows {
			l := lane{row.Pool, row.Resource}
			switch {
			case row.Kind == Overrun:
				have[l] = have[l].Add(row.Area)
			case row.Kind == Idle || rated(f, l, row.From):
				held[l] = held[l].Add(row.Area)
			}
		}
		for _, p := range r.Pools {
			l := lane{p.Pool, p.Resource}
			if got, want := held[l], have[l].Add(p.Area).Add(p.Unpriced); got != want {
				t.Fatalf("%v: held and idle are %v, capacity and overrun %v", l, got, want)
			}
		}
	})
}

func rated(f facts, l lane, at time.Time) bool {
	for _, r := range f.rates {
		if (lane{r.Pool, r.Resource}) == l && !r.From.After(at) {
			return true
		}
	}
	return false
}

// byUse sums a report by use, and what isn't a use's by pool and resource.
func byUse(reports ...Report) map[string]penstock.Money {
	sums := map[string]penstock.Money{}
	for _, r := range reports {
		for _, row := range r.Rows {
			if row.Kind == Allocated {
				sums[fmt.Sprint("u", row.Rank)] += row.Cost
			} else {
				sums[row.Pool+"/"+string(row.Resource)] += row.Cost
			}
		}
	}
	for k, v := range sums {
		if v == 0 {
			delete(sums, k)
		}
	}
	return sums
}

func TestTouchingWindowsSumToTheWholeExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		middle := w.From.Add(time.Duration(rapid.Int64Range(0, w.To.Sub(w.From).Microseconds()).Draw(t, "cut")) * time.Microsecond)
		whole := f.cost(t, w)
		first, second := f.cost(t, Window{w.From, middle}), f.cost(t, Window{middle, w.To})
		if first.Cost()+second.Cost() != whole.Cost() {
			t.Fatalf("%s + %s is not %s", first.Cost(), second.Cost(), whole.Cost())
		}
		if diff := cmp.Diff(byUse(whole), byUse(first, second)); diff != "" {
			t.Fatalf("a use costs something else in two windows (-whole +parts):\n%s", diff)
		}
	})
}

func TestUseCostsTheSameWhoeverSharesThePool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		together := byUse(f.cost(t, w))
		for _, u := range f.usages {
			alone := byUse(facts{[]store.Usage{u}, f.rates}.cost(t, w))
			if alone[u.ID] != together[u.ID] {
				t.Fatalf("%s costs %s alone and %s beside others", u.ID, alone[u.ID], together[u.ID])
			}
		}
	})
}

func TestOrderAndRepetitionOfUsesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		twice := rapid.Permutation(append(f.usages, f.usages...)).Draw(t, "twice")
		if diff := cmp.Diff(f.cost(t, w), facts{twice, f.rates}.cost(t, w)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestIdleTakesTheRoundingOfItsPeriodAndNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		r := f.cost(t, w)
		for _, idle := range r.Rows {
			if idle.Kind != Idle || !idle.Priced() {
				continue
			}
			exact, err := charge(idle.Price, idle.Area, idle.Resource)
			if err != nil {
				t.Fatal(err)
			}
			if off := idle.Cost - exact; max(off, -off) > penstock.Money(len(f.usages)+3) {
				t.Fatalf("idle costs %s, its area %s", idle.Cost, exact)
			}
		}
	})
}

func TestProjectSeesItsOwnRowsAndTheyConserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		whole := f.cost(t, w)
		own := whole.Of("vision")
		for _, row := range own.Rows {
			if row.Project != "vision" {
				t.Fatalf("a row of %q is seen", row.Project)
			}
		}
		if sum := sumRows(own.Rows); sum != own.Cost() || sum != whole.Spent("vision") {
			t.Fatalf("rows %s, pools %s, spent %s", sum, own.Cost(), whole.Spent("vision"))
		}
	})
}

func TestGroupsSumToTheTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, w := drawFacts(t), drawWindow(t)
		r := f.cost(t, w)
		by := rapid.SliceOfDistinct(rapid.SampledFrom(Dimensions()), rapid.ID).Draw(t, "by")
		s, err := Group(r, by)
		if err != nil {
			t.Fatal(err)
		}
		var cost, lost, rest penstock.Money
		for _, l := range s.Lines {
			cost, lost = cost+l.Cost, lost+l.Lost
		}
		for _, p := range s.Pools {
			rest += p.Idle + p.Overrun
			if p.Cost != p.Allocated+p.Idle+p.Overrun {
				t.Fatalf("%+v doesn't add up", p)
			}
		}
		if cost != s.Total.Cost || lost != s.Total.Lost || cost+rest != s.Cost {
			t.Fatalf("lines %s (lost %s) and the rest %s; total %s (lost %s) of %s", cost, lost, rest, s.Total.Cost, s.Total.Lost, s.Cost)
		}
	})
}
