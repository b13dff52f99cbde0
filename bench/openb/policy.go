package main

import (
	"slices"

	"github.com/penstock/penstock/internal/place/pack"
)

// contender is a policy under test. published is its name in the authors' table,
// if it is there; exact says that every cell has to be equal.
type contender struct {
	name, published string
	exact           bool
	new             func(f *fleet, w *workload, s scenario) (chooser, error)
}

// halfLife is of the learned counts, in requests.
const halfLife = 10_000

func contenders(f *fleet) []contender {
	scale := pack.ScaleOf(f.nodes)
	fixed := func(p pack.Policy) func(*fleet, *workload, scenario) (chooser, error) {
		return func(_ *fleet, _ *workload, s scenario) (chooser, error) { return newChooser(s, p) }
	}
	return []contender{
		{"Random", "01-Random", false, func(_ *fleet, _ *workload, s scenario) (chooser, error) {
			return newChooser(s, pack.Random{Draw: s.draw.Intn})
		}},
		{"DotProduct", "02-DotProd", true, fixed(pack.DotProduct{Scale: scale})},
		{"Clustering", "03-GpuClustering", true, fixed(pack.Clustering{Scale: scale})},
		{"Packing", "04-GpuPacking", true, fixed(pack.Packing{})},
		{"BestFit", "05-BestFit", true, fixed(pack.BestFit{Scale: scale})},
		{"FGD", "06-FGD", true, func(_ *fleet, w *workload, s scenario) (chooser, error) {
			return newChooser(s, pack.NewFGD(pack.NewMix(w.typical()), pack.InOrder))
		}},
		{"Penstock", "", false, newLearning},
		{"Penstock-knows", "", false, func(_ *fleet, w *workload, s scenario) (chooser, error) {
			return newChooser(s, pack.NewHeadroom(w.typical()))
		}},
		{"Spread", "", false, fixed(pack.Spread{Scale: scale})},
	}
}

// packing places each request by one policy.
type packing struct{ packer *pack.Packer }

func newChooser(s scenario, p pack.Policy) (chooser, error) {
	packer, err := pack.New(s.nodes, p, pack.Cached)
	return packing{packer}, err
}

func (c packing) place(r pack.Request) (bool, error) {
	at, ok := c.packer.Choose(r, nil)
	if !ok {
		return false, nil
	}
	return true, c.packer.Take(at, r)
}

// learning is Penstock's default without any knowledge of the list: it starts
// from the prior, and takes up what it saw whenever that is a quarter more.
type learning struct {
	packing
	learner   *pack.Learner
	seen, due int
}

func newLearning(f *fleet, _ *workload, s scenario) (chooser, error) {
	l := pack.NewLearner(pack.Prior(f.nodes), halfLife)
	packer, err := pack.New(s.nodes, pack.NewHeadroom(l.Seen()), pack.Cached)
	return &learning{packing{packer}, l, 0, 10}, err
}

func (c *learning) place(r pack.Request) (bool, error) {
	c.learner.Saw(r)
	if c.seen++; c.seen >= c.due {
		c.due += c.due/4 + 1
		c.packer.Retune(pack.NewHeadroom(c.learner.Seen()))
	}
	return c.packing.place(r)
}

// lostBeside is how many arrivals failed up to 95 % of demand that others placed.
func lostBeside(mine, others []int) int {
	n := 0
	for _, i := range mine {
		if _, also := slices.BinarySearch(others, i); !also {
			n++
		}
	}
	return n
}
