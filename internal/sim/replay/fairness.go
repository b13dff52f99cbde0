package replay

import (
	"maps"
	"slices"
)

// Queue is how a queue fared.
type Queue struct {
	Name       string
	Jobs       int
	GPUSeconds float64 // of work done
	Wait       float64 // mean time to the first start, seconds
	JCT        float64 // mean, seconds
	// Pace is the mean over its jobs of duration by completion time: 1 is a queue
	// whose jobs never wait, and never do anything twice.
	Pace float64
}

// Queues lists how each queue fared, by name.
func (r *Result) Queues() []Queue {
	all := map[string]*Queue{}
	for _, rec := range r.Records {
		q := all[rec.Job.Queue]
		if q == nil {
			q = &Queue{Name: rec.Job.Queue}
			all[rec.Job.Queue] = q
		}
		q.Jobs++
		q.GPUSeconds += rec.Job.Duration.Seconds() * float64(rec.Job.GPUs)
		q.Wait += rec.Wait().Seconds()
		q.JCT += rec.JCT().Seconds()
		q.Pace += rec.Job.Duration.Seconds() / rec.JCT().Seconds()
	}
	list := make([]Queue, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		q := *all[name]
		q.Wait, q.JCT, q.Pace = q.Wait/float64(q.Jobs), q.JCT/float64(q.Jobs), q.Pace/float64(q.Jobs)
		list = append(list, q)
	}
	return list
}

// Jain is Jain's index of fairness: 1 if all are equal, 1/n if one has all
// (Jain, Chiu, Hawe: DEC-TR-301, 1984). Of nothing it is 1.
func Jain(x []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, v := range x {
		sum += v
		squares += v * v
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(x)) * squares)
}

// Rho is, for each queue by name, the finish-time fairness of its jobs: the mean
// completion time on the shared fleet by that on its own part of it alone
// (Themis, NSDI'20, section 3). Below 1 the queue gains by sharing. Both are
// results of one trace; alone is the replay in which nobody could borrow.
func (r *Result) Rho(alone *Result) []float64 {
	shared, own := r.Queues(), alone.Queues()
	rho := make([]float64, len(shared))
	for i := range rho {
		rho[i] = shared[i].JCT / own[i].JCT
	}
	return rho
}
