package pack

import (
	"math"
	"slices"
)

// FGD is fragmentation gradient descent (Weng et al., Beware of Fragmentation,
// ATC'23): of all places the one that turns the least free capacity into
// capacity which the typical requests can't use. Scores are rounded to 0..100
// as by its authors, so ties are many and Tie matters.
type FGD struct {
	mix Mix
	tie Tie
}

// NewFGD makes the policy for a mix of requests to come.
func NewFGD(mix Mix, tie Tie) *FGD { return &FGD{mix, tie} }

// Name is "FGD".
func (*FGD) Name() string { return "FGD" }

// Score is int(100 × sigmoid((before - after) / 1000)) of the node's fragments.
// A share goes to the device with the best score.
func (f *FGD) Score(n *Node, r *Request) Score {
	before := f.mix.Fragment(n)
	s := bestDevices(n, r, func(after *Node) float64 {
		return math.Trunc(100 / (1 + math.Exp(-(before-f.mix.Fragment(after))/1000)))
	})
	s.Tie = f.tie(n, r)
	return s
}

// bestDevices is the request's best score on the node: value rates what would
// be left of it. Equal devices are equally good, and the first one wins.
func bestDevices(n *Node, r *Request, value func(after *Node) float64) Score {
	var left [MaxDevices]int32
	after := Node{CPU: n.CPU - r.CPU, Memory: n.Memory, Type: n.Type, Left: left[:len(n.Left)]}
	copy(after.Left, n.Left)
	try := func(d Devices) Score {
		take(&after, r, d, 1)
		defer take(&after, r, d, -1)
		return Score{Value: value(&after), Devices: d}
	}
	if r.Kind() != Share {
		return try(wholeDevices(n, r.Count))
	}
	best := Score{Value: math.Inf(-1)}
	for i, milli := range n.Left {
		if milli < r.Milli || slices.Contains(n.Left[:i], milli) {
			continue
		}
		if s := try(1 << i); s.Value > best.Value {
			best = s
		}
	}
	return best
}

// Fragment is the node's free device capacity, in thousandths, that a typical
// request can't use: the mean over the mix.
//
// It keeps one sum per cause, and adds those up last, in the authors' order:
// float addition isn't associative, and a difference of 1e-12 decides whether a
// score is 50 or 49. The products are rounded by themselves, so that no machine
// fuses them with the sums.
func (m Mix) Fragment(n *Node) float64 {
	var lacksBoth, lacksGPU, lacksCPU, cpuFits, cpuLacks, noAccess float64
	free := float64(n.GPU())
	for i := range m {
		t := &m[i]
		all := float64(t.Weight * free)
		if t.Count == 0 {
			if t.CPU <= n.CPU {
				cpuFits += all
			} else {
				cpuLacks += all
			}
			continue
		}
		if !t.Types.Has(n.Type) {
			noAccess += all
			continue
		}
		fit, low := n.room(t.Milli)
		switch {
		case fit >= t.Count && t.CPU <= n.CPU:
			lacksGPU += float64(t.Weight * float64(low))
		case fit >= t.Count:
			lacksCPU += all
		case t.CPU <= n.CPU:
			lacksGPU += all
		default:
			lacksBoth += all
		}
	}
	return lacksBoth + lacksGPU + lacksCPU + cpuFits + cpuLacks + noAccess
}

// room is on how many devices there is room for a share, and what the others
// have left together.
func (n *Node) room(milli int32) (fit int, low int64) {
	for _, left := range n.Left {
		if left >= milli {
			fit++
		} else {
			low += int64(left)
		}
	}
	return fit, low
}
