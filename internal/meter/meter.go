// Package meter turns facts into money: what was used, what it cost, who pays.
//
// It is a pure roll-up. The facts (who held what and when, what a resource's
// hour cost and how much of it a pool had, what endpoints answered) come in as
// records of the ledger; nothing here reads a store or a clock, so the same
// facts always give the same report, whoever asks and however often.
//
// Three rules hold for every report:
//
//   - Its rows sum to what the pools cost, to the nano-unit. What nobody held
//     is a row of its own (Idle), and what was held beyond a pool's capacity is
//     one too (Overrun): nothing is clamped.
//   - What a use costs depends on that use and the rates alone, not on who
//     shared the pool, and the costs of two windows that touch sum to the cost
//     of the window that covers both, exactly.
//   - A price that isn't known is not 0: such rows say how long what was held,
//     and cost nothing that is known.
package meter

import (
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Window is a stretch of time, its end not included.
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// MonthWindow is the calendar month, in UTC, that t falls into, whatever time
// zone t is written in.
func MonthWindow(t time.Time) Window {
	t = t.UTC()
	from := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Window{From: from, To: from.AddDate(0, 1, 0)}
}

// check refuses a window that ends before it begins.
func (w Window) check() error {
	if w.To.Before(w.From) {
		return &penstock.Error{
			Code: penstock.Invalid,
			Msg:  fmt.Sprintf("the window ends at %s, before it begins at %s", stamp(w.To), stamp(w.From)),
			Hint: "give a from that is before to",
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Kind says what a row's money was spent on.
type Kind string

// The kinds of rows.
const (
	// Allocated is what a task held.
	Allocated Kind = "allocated"
	// Idle is what a pool had and nobody held. It also takes the rounding of its
	// period, at most one nano-unit for each row.
	Idle Kind = "idle"
	// Overrun is what was held beyond the pool's capacity: a negative cost,
	// since the pool didn't cost what its users were charged. Each one has its
	// Imbalance.
	Overrun Kind = "overrun"
)

// Row is one resource held by one task, or by nobody, at one price.
type Row struct {
	Kind     Kind
	Pool     string
	Resource penstock.Resource
	From, To time.Time
	// Area is amount × time. Amount is 0 for Idle and Overrun, where it varies.
	Amount penstock.Amount
	Area   Area
	// Price is for one CPU, one GiB or one device, for one hour; below 0 it
	// isn't known, and Cost is 0.
	Price penstock.Money
	Cost  penstock.Money

	// The rest tells whose use it was, and is empty for Idle and Overrun.

	Node    string
	Project string
	Job     penstock.UID
	JobName string
	Attempt int
	Rank    int
	// Labels are the job's at its start: model, dataset, environment, team,
	// endpoint, class and whatever its owner added. They aren't to be changed.
	Labels  map[string]string
	Outcome string
}

// Priced reports whether the row's price was known.
func (r Row) Priced() bool { return r.Price >= 0 }

// Lost reports whether the row paid for an attempt that came to nothing: it
// failed, was lost with its machine, or was stopped.
func (r Row) Lost() bool {
	return r.Outcome == "failed" || r.Outcome == "lost" || r.Outcome == "stopped"
}

// PoolCost is what one resource of one pool cost, used or not.
type PoolCost struct {
	Pool     string
	Resource penstock.Resource
	Cost     penstock.Money
	// Area is capacity × time at known prices, Unpriced that at unknown ones.
	Area, Unpriced Area
}

// Imbalance is a stretch of time in which more was held than the pool had.
type Imbalance struct {
	Pool     string            `json:"pool"`
	Resource penstock.Resource `json:"resource"`
	From     time.Time         `json:"from"`
	To       time.Time         `json:"to"`
	Held     penstock.Amount   `json:"held"`
	Capacity penstock.Amount   `json:"capacity"`
}

// String is the one-line form: pool a: 5 of 4 h100 held from … to ….
func (i Imbalance) String() string {
	return fmt.Sprintf("pool %s: %s of %s %s held from %s to %s", i.Pool,
		i.Resource.Short(i.Held), i.Resource.Short(i.Capacity), i.Resource, stamp(i.From), stamp(i.To))
}

// Report is what a window cost. Rows are in order of pool, resource and time;
// their costs sum to those of Pools.
type Report struct {
	Window     Window
	Rows       []Row
	Pools      []PoolCost
	Imbalances []Imbalance
	Tallies    []store.Tally
}

// Cost is what all pools cost together.
func (r Report) Cost() penstock.Money {
	var sum penstock.Money
	for _, p := range r.Pools {
		sum += p.Cost
	}
	return sum
}

// Spent is what a project's tasks cost at known prices.
func (r Report) Spent(project string) penstock.Money {
	var sum penstock.Money
	for _, row := range r.Rows {
		if row.Kind == Allocated && row.Project == project {
			sum += row.Cost
		}
	}
	return sum
}
