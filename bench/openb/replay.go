package main

import (
	"math/rand"
	"slices"

	"github.com/penstock/penstock/internal/place/pack"
)

// demand is how much of the fleet's GPUs the tuned lists ask for.
const demand = 1.3

// scenario is one seed's arrivals and node order. The draws follow the FGD
// authors' simulator call for call, so the numbers can be compared bit by bit.
type scenario struct {
	arrivals []pod
	nodes    []pack.Node // in the order that breaks ties
	draw     *rand.Rand  // for what is random besides
}

func newScenario(f *fleet, w *workload, seed int64) scenario {
	r := rand.New(rand.NewSource(seed))
	r.Int() // the authors' first draw goes elsewhere
	pods := slices.Clone(w.pods)
	r.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	pods = tune(r, pods, w.pods, f.milli)
	for range 10 {
		r.Float64() // one for each informer that their simulator starts
	}
	s := scenario{arrivals: pods, nodes: make([]pack.Node, len(f.nodes)), draw: r}
	for i, rank := range r.Perm(len(f.nodes)) {
		s.nodes[rank] = f.nodes[i]
	}
	return s
}

// tune makes the arrivals ask for 130 % of the GPUs: it appends copies of pods
// drawn from the sorted list, or removes some. The stop test counts one GPU of
// a pod only, as the authors' does.
func tune(r *rand.Rand, pods, sorted []pod, capacity int64) []pod {
	limit := demand * float64(capacity)
	var total int64
	for i := range pods {
		total += pods[i].request.GPU()
	}
	if float64(total) == limit {
		return pods
	}
	if float64(total) > limit {
		for float64(total) > limit {
			i := r.Intn(len(pods))
			total -= pods[i].request.GPU()
			pods = slices.Delete(pods, i, i+1)
		}
		return pods
	}
	for { // even where the limit is met already: then pods without a GPU go on
		p := sorted[r.Intn(len(sorted))]
		if float64(total+int64(p.request.Milli)) > limit {
			return pods
		}
		total += p.request.GPU()
		pods = append(pods, p)
	}
}

// step is the state after one arrival, in thousandths of a GPU.
type step struct {
	arrived, allocated int64
	placed             bool
}

// chooser places one request after another.
type chooser interface {
	place(r pack.Request) (bool, error)
}

// replay hands each arrival to the chooser once; what fits nowhere is dropped,
// and nothing ever leaves.
func replay(arrivals []pod, c chooser) ([]step, error) {
	steps := make([]step, len(arrivals))
	var now step
	for i := range arrivals {
		r := arrivals[i].request
		placed, err := c.place(r)
		if err != nil {
			return nil, err
		}
		now.arrived += r.GPU()
		if placed {
			now.allocated += r.GPU()
		}
		now.placed = placed
		steps[i] = now
	}
	return steps, nil
}
