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
		for i := range part.set.Count {
			task := v1.PlacedTask{Set: part.set.Name, Index: i, Rank: part.rank + i, Resources: part.set.Each}
			if !fitTask(view, pool, &task) {
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
// that whole nodes stay free for gangs; among equals the first by name.
func fitTask(view *snapshot.View, pool snapshot.Pool, task *v1.PlacedTask) bool {
	var bestLeft [3]penstock.Amount
	found := false
	for _, node := range pool.Nodes {
		at := snapshot.Slot{Pool: pool.Name, Node: node.Name}
		free := view.Free(at)
		if _, ok := task.Resources.Fits(free); !ok {
			continue
		}
		left := leftover(free, task.Resources)
		if found && slices.Compare(left[:], bestLeft[:]) >= 0 {
			continue
		}
		if devices, ok := fitDevices(view, at, node, task.Resources); ok {
			found, bestLeft, task.Node, task.Devices = true, left, node.Name, devices
		}
	}
	return found
}

// leftover orders nodes by what they would have left: accelerators count first,
// then CPU, then memory.
func leftover(free, taken penstock.Resources) [3]penstock.Amount {
	var left [3]penstock.Amount
	for name, amount := range free {
		i := 0
		switch name {
		case penstock.CPU:
			i = 1
		case penstock.Memory:
			i = 2
		}
		left[i] = left[i].Add(amount - taken[name])
	}
	return left
}

// fitDevices names the devices of a node that can carry the accelerators of one
// task: untouched devices for whole ones, and for a fraction the device with
// the least room that is enough.
func fitDevices(view *snapshot.View, at snapshot.Slot, node v1.Node, want penstock.Resources) ([]string, bool) {
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
