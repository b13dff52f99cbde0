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
	set  snapshot.Set
	task int // how many of the gang's tasks stood before it
}

// fitGang places every task of the gang on the pool, in the view, or tells
// which one didn't fit after how many. The caller rolls back.
func fitGang(view *snapshot.View, job snapshot.Job, pool snapshot.Pool) ([]v1.PlacedTask, *shortage) {
	var tasks []v1.PlacedTask
	rank := 0
	for _, set := range job.Sets {
		for i := range set.Count {
			task := v1.PlacedTask{Set: set.Name, Index: i, Rank: rank, Resources: set.Each}
			if !fitTask(view, pool, &task) {
				return tasks, &shortage{set, rank}
			}
			view.Place(job.Ref.Project, pool.Name, []v1.PlacedTask{task})
			tasks = append(tasks, task)
			rank++
		}
	}
	return tasks, nil
}

// fitTask chooses the node that is fullest after taking the task (best fit), so
// that whole nodes stay free for gangs; among equals the first by name.
func fitTask(view *snapshot.View, pool snapshot.Pool, task *v1.PlacedTask) bool {
	best := -1
	var bestLeft [3]penstock.Amount
	var bestDevices []string
	for i, node := range pool.Nodes {
		at := snapshot.Slot{Pool: pool.Name, Node: node.Name}
		free := view.Free(at)
		if _, ok := task.Resources.Fits(free); !ok {
			continue
		}
		devices, ok := fitDevices(view, at, node, task.Resources)
		if !ok {
			continue
		}
		left := leftover(free.Minus(task.Resources))
		if best < 0 || slices.Compare(left[:], bestLeft[:]) < 0 {
			best, bestLeft, bestDevices = i, left, devices
		}
	}
	if best < 0 {
		return false
	}
	task.Node, task.Devices = pool.Nodes[best].Name, bestDevices
	return true
}

// leftover orders nodes by what they would have left: accelerators count first,
// then CPU, then memory.
func leftover(rest penstock.Resources) [3]penstock.Amount {
	var left [3]penstock.Amount
	for name, amount := range rest {
		switch {
		case name.Accelerator():
			left[0] = left[0].Add(amount)
		case name == penstock.CPU:
			left[1] = amount
		default:
			left[2] = amount
		}
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
		slices.SortStableFunc(devices, func(a, b v1.Device) int {
			return cmp.Or(cmp.Compare(view.DeviceFree(at, a.ID), view.DeviceFree(at, b.ID)), cmp.Compare(a.ID, b.ID))
		})
		whole, part := int(want[name]/1000), want[name]%1000
		for _, d := range devices {
			free := view.DeviceFree(at, d.ID)
			switch {
			case part > 0 && whole == 0 && free >= part:
				chosen, part = append(chosen, d.ID), 0
			case whole > 0 && free == 1000:
				chosen = append(chosen, d.ID)
				whole--
			}
		}
		if whole > 0 || part > 0 {
			return nil, false
		}
	}
	return chosen, true
}
