package place

import (
	"cmp"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// shortage is the first task for which no node had room.
type shortage struct {
	set    snapshot.Set
	placed int // how many of the gang's tasks did fit before
}

// fitGang places every task of the gang on the pool, in the view, or tells
// which one didn't fit after how many. The caller rolls back.
func fitGang(view *snapshot.View, job snapshot.Job, pool snapshot.Pool) ([]v1.PlacedTask, *shortage) {
	tasks := []v1.PlacedTask{}
	for _, part := range largestFirst(job.Sets) {
		var node *v1.Node
		for i := range part.set.Count {
			task := v1.PlacedTask{Set: part.set.Name, Index: i, Rank: part.rank + i, Resources: part.set.Each}
			if node = fitTask(view, pool, node, &task); node == nil {
				return nil, &shortage{part.set, len(tasks)}
			}
			view.Place(job.Ref.Project, pool.Name, []v1.PlacedTask{task}) // its own slice: tasks is sorted below
			tasks = append(tasks, task)
		}
	}
	slices.SortFunc(tasks, func(a, b v1.PlacedTask) int { return cmp.Compare(a.Rank, b.Rank) })
	return tasks, nil
}

type ranked struct {
	set  snapshot.Set
	rank int // of its first task
}

// largestFirst is the order of fitting: a large task has fewer places to go to
// than a small one. Ranks are by the order in the manifest.
func largestFirst(sets []snapshot.Set) []ranked {
	parts, rank := make([]ranked, 0, len(sets)), 0
	for _, set := range sets {
		parts = append(parts, ranked{set, rank})
		rank += set.Count
	}
	slices.SortStableFunc(parts, func(a, b ranked) int {
		larger, smaller := leftover(b.set.Each, nil), leftover(a.set.Each, nil)
		return slices.Compare(larger[:], smaller[:])
	})
	return parts
}

// fitTask chooses the node that is fullest after taking the task (best fit), so
// that whole nodes stay free for gangs; among equals the first by name. node is
// where the task's twin went, or nil: that is fuller now, and still the best
// as long as it has room.
func fitTask(view *snapshot.View, pool snapshot.Pool, node *v1.Node, task *v1.PlacedTask) *v1.Node {
	if node != nil {
		if devices, ok := fitNode(view, pool, node, task.Resources); ok {
			task.Node, task.Devices = node.Name, devices
			return node
		}
	}
	var best *v1.Node
	var bestLeft [3]penstock.Amount
	for i := range pool.Nodes {
		node := &pool.Nodes[i]
		left := leftover(view.Free(snapshot.Slot{Pool: pool.Name, Node: node.Name}), task.Resources)
		if best != nil && slices.Compare(left[:], bestLeft[:]) >= 0 {
			continue
		}
		if devices, ok := fitNode(view, pool, node, task.Resources); ok {
			best, bestLeft, task.Node, task.Devices = node, left, node.Name, devices
		}
	}
	return best
}

// fitNode names the devices with which the node can take the task now.
func fitNode(view *snapshot.View, pool snapshot.Pool, node *v1.Node, want penstock.Resources) ([]string, bool) {
	at := snapshot.Slot{Pool: pool.Name, Node: node.Name}
	if _, ok := want.Fits(view.Free(at)); !ok {
		return nil, false
	}
	return fitDevices(view, at, node, want)
}

// leftover orders nodes by what they would have left: accelerators count first,
// then CPU, then memory.
func leftover(free, taken penstock.Resources) [3]penstock.Amount {
	var left [3]penstock.Amount
	for name, amount := range free {
		i := rank(name)
		left[i] = left[i].Add(amount - taken[name])
	}
	return left
}

func rank(name penstock.Resource) int {
	switch name {
	case penstock.CPU:
		return 1
	case penstock.Memory:
		return 2
	}
	return 0
}

// fitDevices names the devices of a node that can carry the accelerators of one
// task: untouched devices for whole ones, and for a fraction the device with
// the least room that is enough. Nobody holds one and a half: the half would
// have to be told apart from the rest of the task.
func fitDevices(view *snapshot.View, at snapshot.Slot, node *v1.Node, want penstock.Resources) ([]string, bool) {
	var chosen []string
	for _, name := range want.Names() {
		if !name.Accelerator() || want[name] == 0 {
			continue
		}
		devices := slices.DeleteFunc(slices.Clone(node.Devices), func(d v1.Device) bool { return d.Type != name })
		slices.SortFunc(devices, func(a, b v1.Device) int {
			return cmp.Or(cmp.Compare(view.DeviceFree(at, a.ID), view.DeviceFree(at, b.ID)), cmp.Compare(a.ID, b.ID))
		})
		left := want[name]
		if left > 1000 && left%1000 != 0 {
			return nil, false
		}
		for _, d := range devices {
			if take := min(left, 1000); left > 0 && view.DeviceFree(at, d.ID) >= take {
				chosen, left = append(chosen, d.ID), left-take
			}
		}
		if left > 0 {
			return nil, false
		}
	}
	return chosen, true
}
