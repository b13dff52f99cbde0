package core

import (
	"cmp"
	"slices"
	"strings"

	"github.com/penstock/penstock/internal/sim/replay"
)

// use is what the jobs of a queue ask for.
type use struct {
	Queue
	service float64 // GPU-seconds
	widest  int     // GPUs of the widest job
	settled bool
	rest    float64 // what rounding down took
}

// Quotas shares a fleet out among the queues of a trace in proportion to the
// GPU-seconds of their jobs, but gives none less than its widest job, so that
// each can run on its own quota. The sum is the fleet, to the GPU; it's more only
// if the widest jobs together are. The list is by name.
func Quotas(jobs []replay.Job, gpus int) []Queue {
	all := uses(jobs)
	left := gpus
	for settled := true; settled; {
		settled = false
		total := 0.0
		for _, u := range all {
			if !u.settled {
				total += u.service
			}
		}
		for _, u := range all {
			if u.settled {
				continue
			}
			share := u.service / total * float64(max(0, left))
			u.Nominal, u.rest = int(share), share-float64(int(share))
			if share < float64(u.widest) { // the others share what is left beside it
				u.Nominal, u.rest, u.settled, settled = u.widest, 0, true, true
				left -= u.widest
				break
			}
		}
	}
	return rounded(all, gpus)
}

// uses lists what the queues ask for, by name.
func uses(jobs []replay.Job) []*use {
	var all []*use
	for _, j := range jobs {
		i, known := slices.BinarySearchFunc(all, j.Queue, func(u *use, name string) int { return strings.Compare(u.Name, name) })
		if !known {
			all = slices.Insert(all, i, &use{Queue: Queue{Name: j.Queue}})
		}
		all[i].service += j.Duration.Seconds() * float64(j.GPUs)
		all[i].widest = max(all[i].widest, j.GPUs)
	}
	return all
}

// rounded gives what rounding down left over to those of whom it took most.
func rounded(all []*use, gpus int) []Queue {
	over := gpus
	for _, u := range all {
		over -= u.Nominal
	}
	byRest := slices.Clone(all)
	slices.SortStableFunc(byRest, func(a, b *use) int { return cmp.Compare(b.rest, a.rest) })
	for i := 0; i < over && i < len(byRest) && byRest[i].rest > 0; i++ {
		byRest[i].Nominal++
	}
	queues := make([]Queue, len(all))
	for i, u := range all {
		queues[i] = u.Queue
	}
	return queues
}
