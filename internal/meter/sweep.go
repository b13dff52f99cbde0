package meter

import (
	"cmp"
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// sweep goes through a cut in time and says how much of the capacity nobody
// held, how much was held beyond it, and when.
func sweep(c cut, uses []store.Usage) (idle, over Area, imbalances []Imbalance) {
	var held penstock.Amount
	since := c.from
	pass := func(to int64) {
		if to == since {
			return
		}
		if free := c.period.capacity.Add(-held); free >= 0 {
			idle = idle.Add(NewArea(free, to-since))
		} else {
			over = over.Add(NewArea(-free, to-since))
			imbalances = addImbalance(imbalances, Imbalance{
				Pool: c.pool, Resource: c.resource, From: at(since), To: at(to), Held: held, Capacity: c.period.capacity,
			})
		}
		since = to
	}
	for _, s := range stepsOf(c, uses) {
		pass(s.at)
		held = held.Add(s.change)
	}
	pass(c.to)
	return idle, over, imbalances
}

// step is a moment at which what is held changes.
type step struct {
	at     int64
	change penstock.Amount
}

func stepsOf(c cut, uses []store.Usage) []step {
	var steps []step
	for _, u := range uses {
		if from, to, ok := c.clip(u); ok {
			steps = append(steps, step{from, u.Amount}, step{to, -u.Amount})
		}
	}
	// Steps of one moment may come in any order: no time passes between them.
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return steps
}

// addImbalance adds i, or makes the last one longer if only time passed.
func addImbalance(all []Imbalance, i Imbalance) []Imbalance {
	if n := len(all); n > 0 && all[n-1].To.Equal(i.From) && all[n-1].Held == i.Held {
		all[n-1].To = i.To
		return all
	}
	return append(all, i)
}
