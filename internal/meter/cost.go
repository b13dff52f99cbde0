package meter

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Cost says what the pools cost in a window and who used them.
//
// rates are all rates from before the window's end; of two with the same time,
// the one that comes later counts. usages are those that overlap the window,
// each ID once; what is still held ends where it is known to have been held.
// Times count to the microsecond. tallies are those of the window; PerThousand
// divides by them. A window that reaches into the future charges what the pools
// will cost if nothing changes: who wants what was spent ends it now.
//
// A price period of a pool's resource costs price × capacity × time, and a use
// in it price × amount × time. Both are rounded down as running totals from
// their own beginning, and a window is charged the difference of two totals:
// that is why windows sum exactly. The division of what is neither used nor
// rounding between Idle and Overrun may move by one nano-unit with the cut.
func Cost(w Window, usages []store.Usage, rates []store.Rate, tallies []store.Tally) (Report, error) {
	report := Report{Window: w, Tallies: tallies}
	if err := w.check(); err != nil {
		return report, err
	}
	uses, err := byLane(usages)
	if err != nil {
		return report, err
	}
	periods, err := periodsOf(rates)
	if err != nil {
		return report, err
	}
	lanes := slices.Collect(maps.Keys(uses))
	for l := range periods {
		if _, used := uses[l]; !used {
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, lane.compare)
	for _, l := range lanes {
		if err := report.addLane(l, uses[l], periods[l]); err != nil {
			return report, fmt.Errorf("cost %s of pool %s: %w", l.resource, l.pool, err)
		}
	}
	return report, report.countable()
}

// lane is one resource of one pool: what has one price at a time.
type lane struct {
	pool     string
	resource penstock.Resource
}

func (l lane) compare(other lane) int {
	return cmp.Or(cmp.Compare(l.pool, other.pool), cmp.Compare(l.resource, other.resource))
}

// byLane sorts the uses into lanes, in an order that doesn't depend on that of
// the input.
func byLane(usages []store.Usage) (map[lane][]store.Usage, error) {
	lanes, seen := map[lane][]store.Usage{}, map[string]store.Usage{}
	for _, u := range usages {
		if u.Amount < 0 || u.To.Before(u.From) {
			return nil, &penstock.Error{Code: penstock.Corrupt, Msg: fmt.Sprintf(
				"usage %s holds %d from %s to %s", u.ID, u.Amount, stamp(u.From), stamp(u.To))}
		}
		if before, twice := seen[u.ID]; twice {
			if !reflect.DeepEqual(before, u) {
				return nil, &penstock.Error{Code: penstock.Corrupt, Msg: fmt.Sprintf("usage %s is there twice, with different contents", u.ID)}
			}
			continue
		}
		seen[u.ID] = u
		l := lane{u.Pool, u.Resource}
		lanes[l] = append(lanes[l], u)
	}
	for _, uses := range lanes {
		slices.SortFunc(uses, func(a, b store.Usage) int {
			return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.ID, b.ID))
		})
	}
	return lanes, nil
}

// unknown is the capacity of a pool before its first rate.
const unknown penstock.Amount = -1

// period is a stretch in which a lane's price and capacity don't change, in
// microseconds since 1970.
type period struct {
	from, to int64
	price    penstock.Money // < 0 is unknown
	capacity penstock.Amount
}

// periodsOf lists each lane's periods without gaps, from the beginning of time
// to its end.
func periodsOf(rates []store.Rate) (map[lane][]period, error) {
	lanes := map[lane][]period{}
	sorted := slices.Clone(rates)
	slices.SortStableFunc(sorted, func(a, b store.Rate) int { return a.From.Compare(b.From) })
	for _, r := range sorted {
		if r.Capacity < 0 {
			return nil, &penstock.Error{Code: penstock.Corrupt, Msg: fmt.Sprintf(
				"pool %s has %d %s from %s on", r.Pool, r.Capacity, r.Resource, stamp(r.From))}
		}
		l := lane{r.Pool, r.Resource}
		before := lanes[l]
		if before == nil {
			before = []period{unrated()}
		}
		from := r.From.UnixMicro()
		before[len(before)-1].to = from
		lanes[l] = append(before, period{from: from, to: math.MaxInt64, price: r.Price, capacity: r.Capacity})
	}
	return lanes, nil
}

// unrated is all of time, with nothing known.
func unrated() period {
	return period{from: math.MinInt64, to: math.MaxInt64, price: -1, capacity: unknown}
}

// addLane adds the rows of one lane, period by period.
func (r *Report) addLane(l lane, uses []store.Usage, periods []period) error {
	if periods == nil {
		periods = []period{unrated()}
	}
	pool := PoolCost{Pool: l.pool, Resource: l.resource}
	for _, p := range periods {
		from, to := max(p.from, r.Window.From.UnixMicro()), min(p.to, r.Window.To.UnixMicro())
		if from >= to {
			continue
		}
		c := cut{lane: l, period: p, from: from, to: to}
		allocated, err := r.addUses(c, uses)
		if err != nil {
			return err
		}
		if p.capacity == unknown {
			continue
		}
		if err := r.addRest(c, uses, allocated, &pool); err != nil {
			return err
		}
	}
	r.Pools = append(r.Pools, pool)
	return nil
}

// cut is the part of a lane's period that lies in the window.
type cut struct {
	lane
	period   period
	from, to int64
}

// clip is the part of a use that lies in the cut.
func (c cut) clip(u store.Usage) (from, to int64, ok bool) {
	from, to = max(c.from, u.From.UnixMicro()), min(c.to, u.To.UnixMicro())
	return from, to, from < to
}

// charge is what an amount costs from one time of the cut to another, counted
// from since.
func (c cut) charge(amount penstock.Amount, since, from, to int64) (penstock.Money, error) {
	if c.period.price < 0 {
		return 0, nil
	}
	end, err := charge(c.period.price, NewArea(amount, to-since), c.resource)
	if err != nil {
		return 0, err
	}
	start, err := charge(c.period.price, NewArea(amount, from-since), c.resource)
	return end - start, err
}

// addUses adds a row for each use and says what they cost together.
func (r *Report) addUses(c cut, uses []store.Usage) (sum penstock.Money, err error) {
	for _, u := range uses {
		from, to, ok := c.clip(u)
		if !ok {
			continue
		}
		cost, err := c.charge(u.Amount, max(c.period.from, u.From.UnixMicro()), from, to)
		if err != nil {
			return 0, err
		}
		if sum > math.MaxInt64-cost {
			return 0, tooMuch("the uses together")
		}
		sum += cost
		row := c.row(Allocated, NewArea(u.Amount, to-from), cost)
		row.From, row.To, row.Amount = at(from), at(to), u.Amount
		row.Node, row.Project, row.Job, row.JobName = u.Node, u.Project, u.Job, u.JobName
		row.Attempt, row.Rank, row.Labels, row.Outcome = u.Attempt, u.Rank, u.Labels, u.Outcome
		r.Rows = append(r.Rows, row)
	}
	return sum, nil
}

// addRest adds what the pool cost beyond its uses, and what the uses took
// beyond the pool.
func (r *Report) addRest(c cut, uses []store.Usage, allocated penstock.Money, pool *PoolCost) error {
	cost, err := c.charge(c.period.capacity, c.period.from, c.from, c.to)
	if err != nil {
		return err
	}
	whole := NewArea(c.period.capacity, c.to-c.from)
	if c.period.price < 0 {
		pool.Unpriced = pool.Unpriced.Add(whole)
	} else {
		pool.Cost, pool.Area = pool.Cost+cost, pool.Area.Add(whole)
	}
	idle, over, imbalances := sweep(c, uses)
	r.Imbalances = append(r.Imbalances, imbalances...)
	rest := cost - allocated
	if !over.Zero() {
		var overrun penstock.Money
		if c.period.price > 0 {
			if overrun, err = charge(c.period.price, over, c.resource); err != nil {
				return err
			}
		}
		r.Rows = append(r.Rows, c.row(Overrun, over, -overrun))
		rest += overrun
	}
	if !idle.Zero() || rest != 0 {
		r.Rows = append(r.Rows, c.row(Idle, idle, rest))
	}
	return nil
}

// row is a row over the whole cut.
func (c cut) row(kind Kind, area Area, cost penstock.Money) Row {
	return Row{
		Kind: kind, Pool: c.pool, Resource: c.resource, From: at(c.from), To: at(c.to),
		Area: area, Price: max(c.period.price, -1), Cost: cost,
	}
}

func at(microseconds int64) time.Time { return time.UnixMicro(microseconds).UTC() }

// countable refuses a report whose costs can't be summed in any order: after
// it, no sum of rows can overflow.
func (r Report) countable() error {
	sum := new(big.Int)
	for _, row := range r.Rows {
		cost := big.NewInt(int64(row.Cost))
		sum.Add(sum, cost.Abs(cost))
	}
	if !sum.IsInt64() {
		return tooMuch("the rows of this window")
	}
	return nil
}
