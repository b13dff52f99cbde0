package pack

import (
	"cmp"
	"math"
	"slices"
)

// Learner counts the shapes that were asked for. Older requests count less:
// half after halfLife further ones. A short memory costs much (the last 1,000
// arrivals alone lose 0.8 points of allocation to all of openb's default list),
// so halfLife should be thousands.
type Learner struct {
	index  map[Shape]int // in seen
	seen   []Counted
	weight float64 // of the next request; what was counted before stays as it is
	growth float64
}

const (
	maxLearned = 4096 // shapes that are remembered; beyond, the rarer half goes
	rescale    = 1e100
)

// NewLearner starts with a prior, whose counts decay as all others do.
func NewLearner(prior []Counted, halfLife float64) *Learner {
	l := &Learner{index: map[Shape]int{}, weight: 1, growth: math.Exp2(1 / max(halfLife, 1))}
	for _, c := range prior {
		l.add(c.Shape, c.N)
	}
	return l
}

// Saw counts a request, whether it found a place or not. What no empty node
// could hold isn't worth counting: it says nothing of what is to be placed.
func (l *Learner) Saw(r Request) {
	if !r.Valid() {
		return
	}
	l.weight *= l.growth
	if l.weight > rescale {
		for i := range l.seen {
			l.seen[i].N /= l.weight
		}
		l.weight = 1
	}
	l.add(r.Shape(), l.weight)
}

func (l *Learner) add(s Shape, n float64) {
	i, known := l.index[s]
	if !known {
		if len(l.seen) >= maxLearned {
			l.prune()
		}
		i = len(l.seen)
		l.index[s] = i
		l.seen = append(l.seen, Counted{Shape: s})
	}
	l.seen[i].N += n
}

func (l *Learner) prune() {
	slices.SortStableFunc(l.seen, func(a, b Counted) int { return cmp.Compare(b.N, a.N) })
	l.seen = l.seen[:maxLearned/2]
	clear(l.index)
	for i := range l.seen {
		l.index[l.seen[i].Shape] = i
	}
}

// Seen is the counts by now, in units of the latest request.
func (l *Learner) Seen() []Counted {
	seen := slices.Clone(l.seen)
	for i := range seen {
		seen[i].N /= l.weight
	}
	return seen
}

// Prior is what to expect of a fleet before anything was seen: mostly single
// devices, whole and shared, some groups up to the largest node, and tasks
// without a device, each with as much CPU as falls to its devices. Beside these,
// somebody will want each type, and will fill each sort of node with one task:
// that is what it was bought for, and by the time they ask, all of a small sort
// could be broken. The prior counts as much as 10 requests: heavier ones hold
// what is learned back.
func Prior(empty []Node) []Counted {
	var cpu, gpu int64
	devices := 0
	for i := range empty {
		cpu, gpu, devices = cpu+min(max(empty[i].CPU, 0), plenty), gpu+empty[i].GPU(), max(devices, len(empty[i].Left))
	}
	if gpu == 0 {
		return []Counted{{Shape{CPU: Whole}, 10}}
	}
	per := float64(cpu) / float64(gpu)
	of := func(count int, milli int32, types Types) Shape {
		return Shape{CPU: int64(per * float64(count) * float64(milli)), Count: count, Milli: milli, Types: types}
	}
	var groups, types, sorts []Shape
	for count := 2; count <= devices; count *= 2 {
		groups = append(groups, of(count, Whole, 0))
	}
	for i := range empty {
		n := &empty[i]
		if n.GPU() == 0 {
			continue
		}
		// An agent or two may take the rest of its CPU.
		full := Shape{CPU: min(n.CPU, plenty) / 16 * 15, Count: len(n.Left), Milli: Whole}
		types, sorts = addNew(types, of(1, Whole, 1<<n.Type)), addNew(sorts, full)
	}
	prior := []Counted{{of(1, Whole, 0), 4}, {of(1, Whole/2, 0), 1.5}, {of(1, Whole/4, 0), 1.5}, {Shape{CPU: int64(per * Whole)}, 1}}
	for _, kind := range [][]Shape{groups, types, sorts} {
		for _, s := range kind {
			prior = append(prior, Counted{s, 1 / float64(len(kind))})
		}
	}
	return prior
}

func addNew(all []Shape, s Shape) []Shape {
	if slices.Contains(all, s) || len(all) == MaxTypes {
		return all
	}
	return append(all, s)
}
