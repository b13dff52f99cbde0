package place

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

func noPool(job snapshot.Job, pools []snapshot.Pool) penstock.Reason {
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	switch {
	case len(pools) == 0:
		return penstock.Because(penstock.NoPool, penstock.Ask, "there is no pool with a usable node")
	default:
		return penstock.Because(penstock.NoPool, penstock.Change, "there is no pool %q; pools: %s", job.Pool, strings.Join(names, ", "))
	}
}

// neverFits says whether some task is larger than every node of the pool, or
// the gang larger than the whole pool, even if nothing else ran.
func neverFits(job snapshot.Job, pool snapshot.Pool) (penstock.Reason, bool) {
	for _, set := range job.Sets {
		for _, name := range set.Each.Names() {
			most := penstock.Amount(0)
			for _, n := range pool.Nodes {
				most = max(most, n.Capacity[name])
			}
			if set.Each[name] > most {
				return penstock.Because(penstock.NeverFits, penstock.Change,
					"each %s task wants %s %s; the largest node of pool %s has %s",
					set.Name, name.Format(set.Each[name]), name, pool.Name, name.Format(most)).
					With("want", int64(set.Each[name])).With("most", int64(most)), true
			}
			if a := set.Each[name]; name.Accelerator() && a > 1000 && a%1000 != 0 {
				return penstock.Because(penstock.NeverFits, penstock.Change,
					"each %s task wants %s %s; above one device only whole devices can be held",
					set.Name, name.Format(a), name).With("want", int64(a)), true
			}
		}
	}
	empty := &snapshot.State{Pools: []snapshot.Pool{pool}}
	tasks, short := fitGang(empty.View(), job, pool)
	if short == nil {
		return penstock.Reason{}, false
	}
	return penstock.Because(penstock.NeverFits, penstock.Change,
		"the gang of %d tasks is larger than pool %s: %d fit on its %d nodes when nothing else runs",
		size(job), pool.Name, len(tasks), len(pool.Nodes)).
		With("want", int64(size(job))).With("fit", int64(len(tasks))), true
}

func noCapacity(job snapshot.Job, pool snapshot.Pool, view *snapshot.View, short shortage, placed int) penstock.Reason {
	// Every task that did fit is still placed in the view, so what is free now is
	// what the next task met.
	var parts []string
	for _, name := range short.set.Each.Names() {
		most, total, free := penstock.Amount(0), penstock.Amount(0), penstock.Amount(0)
		for _, n := range pool.Nodes {
			f := view.Free(snapshot.Slot{Pool: pool.Name, Node: n.Name})[name]
			most, free, total = max(most, f), free.Add(max(0, f)), total.Add(n.Capacity[name])
		}
		if short.set.Each[name] > most {
			parts = append(parts, fmt.Sprintf("%s %s wanted, at most %s free on one node (%s of %s in the pool)",
				name.Format(short.set.Each[name]), name, name.Format(most), name.Format(free), name.Format(total)))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "no single node has all of it free")
	}
	return penstock.Because(penstock.NoCapacity, penstock.Wait, "pool %s has room for %d of the gang's %d tasks; for the next %s task: %s",
		pool.Name, placed, size(job), short.set.Name, strings.Join(parts, "; ")).
		With("fit", int64(placed)).With("want", int64(size(job)))
}

func behind(pool string, name penstock.Resource, first penstock.Ref) penstock.Reason {
	return penstock.Because(penstock.BehindOthers, penstock.Wait,
		"%s of pool %s is kept for %s, which has waited longer than %s", name, pool, first, HoldAfter)
}

func whyThere(pool snapshot.Pool, tasks []v1.PlacedTask) string {
	nodes := map[string]bool{}
	for _, t := range tasks {
		nodes[t.Node] = true
	}
	return fmt.Sprintf("best fit on pool %s: %d tasks on %d of %d nodes, those that are fullest afterwards",
		pool.Name, len(tasks), len(nodes), len(pool.Nodes))
}

func size(job snapshot.Job) int {
	n := 0
	for _, s := range job.Sets {
		n += s.Count
	}
	return n
}
