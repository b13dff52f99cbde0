package meter

import (
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Of is what a project may see of a report: its own rows, and pools that cost
// what those rows do. What stood idle, and what others held, isn't among them.
func (r Report) Of(project string) Report {
	type key struct {
		pool     string
		resource penstock.Resource
	}
	out, sums := Report{Window: r.Window}, map[key]penstock.Money{}
	for _, row := range r.Rows {
		if row.Kind == Allocated && row.Project == project {
			out.Rows = append(out.Rows, row)
			sums[key{row.Pool, row.Resource}] += row.Cost
		}
	}
	for _, p := range r.Pools {
		if cost, used := sums[key{p.Pool, p.Resource}]; used {
			out.Pools = append(out.Pools, PoolCost{Pool: p.Pool, Resource: p.Resource, Cost: cost})
		}
	}
	out.Tallies = slices.DeleteFunc(slices.Clone(r.Tallies), func(t store.Tally) bool { return t.Project != project })
	return out
}
