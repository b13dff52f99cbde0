package place

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

func noPool(job snapshot.Job, pools []snapshot.Pool) penstock.Reason {
	if len(pools) == 0 {
		return penstock.Because(penstock.NoPool, penstock.Ask, "there is no pool with a usable node")
	}
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	return penstock.Because(penstock.NoPool, penstock.Change, "there is no pool %q; pools: %s", job.Pool, strings.Join(names, ", "))
}

// neverFits is why a gang doesn't fit on an empty pool.
func neverFits(job snapshot.Job, pool snapshot.Pool, _ *snapshot.View, short shortage) penstock.Reason {
	if r, found := taskTooLarge(job, pool); found {
		return r
	}
	r := penstock.Because(penstock.NeverFits, penstock.Change,
		"the gang of %d tasks is larger than pool %s: %d fit on its %d nodes when nothing else runs",
		size(job), pool.Name, short.placed, len(pool.Nodes))
	if short.placed == 0 {
		r = penstock.Because(penstock.NeverFits, penstock.Change, "no single node of pool %s has all that a %s task wants: %s",
			pool.Name, short.set.Name, amounts(short.set.Each))
	}
	return r.With("want", int64(size(job))).With("fit", int64(short.placed))
}

// taskTooLarge looks for an amount that is larger than on every node.
func taskTooLarge(job snapshot.Job, pool snapshot.Pool) (penstock.Reason, bool) {
	for _, set := range job.Sets {
		for _, name := range set.Each.Names() {
			want, most := set.Each[name], penstock.Amount(0)
			for _, n := range pool.Nodes {
				most = max(most, n.Capacity[name])
			}
			switch {
			case want > most:
				return penstock.Because(penstock.NeverFits, penstock.Change,
					"each %s task wants %s %s; the largest node of pool %s has %s",
					set.Name, name.Format(want), name, pool.Name, name.Short(most)).
					With("want", int64(want)).With("most", int64(most)), true
			case name.Accelerator() && want > 1000 && want%1000 != 0:
				return penstock.Because(penstock.NeverFits, penstock.Change,
					"each %s task wants %s %s; above one device only whole devices can be held",
					set.Name, name.Format(want), name).With("want", int64(want)), true
			}
		}
	}
	return penstock.Reason{}, false
}

// noCapacity is why a gang doesn't fit now. Every task that did fit is still
// placed in the view, so what is free there is what the next task met.
func noCapacity(job snapshot.Job, pool snapshot.Pool, view *snapshot.View, short shortage) penstock.Reason {
	var parts []string
	for _, name := range short.set.Each.Names() {
		want, most, total, free := short.set.Each[name], penstock.Amount(0), penstock.Amount(0), penstock.Amount(0)
		for _, n := range pool.Nodes {
			f := max(0, view.Free(snapshot.Slot{Pool: pool.Name, Node: n.Name})[name])
			most, free, total = max(most, usable(view, pool, n, name, want)), free.Add(f), total.Add(n.Capacity[name])
		}
		if want > most {
			parts = append(parts, fmt.Sprintf("%s %s wanted, at most %s %s (%s of %s in the pool)",
				name.Format(want), name, name.Short(most), where(name, want), name.Short(free), name.Short(total)))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "no single node has all of it free: "+amounts(short.set.Each))
	}
	return penstock.Because(penstock.NoCapacity, penstock.Wait, "pool %s has room for %d of the gang's %d tasks; for the next %s task: %s",
		pool.Name, short.placed, size(job), short.set.Name, strings.Join(parts, "; ")).
		With("fit", int64(short.placed)).With("want", int64(size(job)))
}

// usable is what of a node's free amount one task that wants so much could
// have: whole devices, or a part of one device.
func usable(view *snapshot.View, pool snapshot.Pool, n v1.Node, name penstock.Resource, want penstock.Amount) penstock.Amount {
	at := snapshot.Slot{Pool: pool.Name, Node: n.Name}
	free := view.Free(at)[name]
	if !name.Accelerator() {
		return free
	}
	whole, part := penstock.Amount(0), penstock.Amount(0)
	for _, d := range n.Devices {
		f := view.DeviceFree(at, d.ID)
		if d.Type == name {
			whole, part = whole+f/1000*1000, max(part, f)
		}
	}
	if want < 1000 {
		return min(free, part)
	}
	return min(free, whole)
}

func where(name penstock.Resource, want penstock.Amount) string {
	switch {
	case !name.Accelerator():
		return "free on one node"
	case want < 1000:
		return "free on one device"
	}
	return "wholly free on one node"
}

func amounts(r penstock.Resources) string {
	var parts []string
	for _, name := range r.Names() {
		parts = append(parts, string(name)+" "+name.Short(r[name]))
	}
	return strings.Join(parts, ", ")
}

func behind(job snapshot.Job, pool string, name penstock.Resource, first penstock.Ref) penstock.Reason {
	who := first.String()
	if first.Project != job.Ref.Project {
		who = "a job of another project" // whose names are nobody else's business
	}
	return penstock.Because(penstock.BehindOthers, penstock.Wait,
		"%s of pool %s is kept for %s, which has waited longer than %s", name, pool, who, HoldAfter)
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
