package pack

import "math"

// Scale is the largest node of a fleet: amounts are rated as parts of it.
type Scale struct{ CPU, GPU int64 }

// ScaleOf is the most CPU, and the most of devices, that any of the empty nodes
// has; 1 where there is none.
func ScaleOf(empty []Node) Scale {
	s := Scale{1, 1}
	for i := range empty {
		s.CPU, s.GPU = max(s.CPU, empty[i].CPU), max(s.GPU, empty[i].GPU())
	}
	return s
}

// left is how much of the largest node this one has left: CPU and devices, half
// each.
func (s Scale) left(cpu, gpu int64) float64 {
	return float64(float64(cpu)/float64(s.CPU)*0.5) + float64(float64(gpu)/float64(s.GPU)*0.5)
}

// Tie rates a node for a request that fits it, where the policy's own values
// are equal: higher is better.
type Tie func(n *Node, r *Request) float64

// InOrder leaves ties to the fleet's order.
func InOrder(*Node, *Request) float64 { return 0 }

// Fullest breaks ties for the node that has least left afterwards.
func (s Scale) Fullest(n *Node, r *Request) float64 {
	return -s.left(n.CPU-r.CPU, n.GPU()-r.GPU())
}

// BestFit fills the node that has least left afterwards, in steps of 1 %.
type BestFit struct{ Scale Scale }

// Name is "BestFit".
func (BestFit) Name() string { return "BestFit" }

// Score is int(100 × (1 - what is left)).
func (b BestFit) Score(n *Node, r *Request) Score {
	v := math.Trunc((1 - b.Scale.left(n.CPU-r.CPU, n.GPU()-r.GPU())) * 100)
	return Score{Value: v, Devices: tightDevices(n, r)}
}

// Spread is the opposite of BestFit: it keeps nodes evenly loaded, and shares
// on the emptiest devices.
type Spread struct{ Scale Scale }

// Name is "Spread".
func (Spread) Name() string { return "Spread" }

// Score is what is left afterwards, 0 to 1.
func (s Spread) Score(n *Node, r *Request) Score {
	d := tightDevices(n, r)
	if r.Kind() == Share {
		d = 1 << emptiest(n)
	}
	return Score{Value: s.Scale.left(n.CPU-r.CPU, n.GPU()-r.GPU()), Devices: d}
}

// DotProduct is Tetris' alignment as the FGD paper rates it: the node whose
// remains point least along the request.
type DotProduct struct{ Scale Scale }

// Name is "DotProduct".
func (DotProduct) Name() string { return "DotProduct" }

// Score is int(100 × (1 - the product of remains and request, by 2)).
func (d DotProduct) Score(n *Node, r *Request) Score {
	cpu, gpu := float64(d.Scale.CPU), float64(d.Scale.GPU)
	dot := float64(float64(n.CPU)/cpu*(float64(r.CPU)/cpu)) + float64(float64(n.GPU())/gpu*(float64(r.GPU())/gpu))
	return Score{Value: math.Trunc(100 * (1 - dot/2)), Devices: tightDevices(n, r)}
}

// Packing prefers shared devices, then free ones of used nodes, then free
// nodes, as the FGD paper's baseline does.
type Packing struct{}

// Name is "Packing".
func (Packing) Name() string { return "Packing" }

// Score is 50 to 100 on shared devices, 33 to 50 where free ones are broken,
// below on free nodes, and 0 for who wants no device.
func (Packing) Score(n *Node, r *Request) Score {
	d := tightDevices(n, r)
	if r.Count == 0 {
		return Score{}
	}
	free, broken := 0, 0
	var shared int32
	for i, left := range n.Left {
		if left == Whole {
			free++
		}
		if d.Has(i) && left == Whole {
			broken++
		} else if d.Has(i) {
			shared += left * 100 / Whole
		}
	}
	switch {
	case free == len(n.Left):
		return Score{Value: float64(max(33-free, free)), Devices: d}
	case broken > 0:
		return Score{Value: float64(max(50-broken, 33)), Devices: d}
	}
	return Score{Value: float64(max(100-shared/10, 50)), Devices: d}
}

// Clustering keeps tasks of one kind together, as the FGD paper's baseline does
// (after Gandiva).
type Clustering struct{ Scale Scale }

// Name is "Clustering".
func (Clustering) Name() string { return "Clustering" }

// Score is 25 × what is used of the largest node, and 75, 50, 25 or 0 more
// where the node holds tasks of this kind only, among others, none at all, or
// others only.
func (c Clustering) Score(n *Node, r *Request) Score {
	if r.Count == 0 {
		return Score{}
	}
	kinds := 0
	for _, held := range n.Held[:CPUOnly] {
		if held > 0 {
			kinds++
		}
	}
	v := 25 * (c.Scale.GPU - n.GPU()) / c.Scale.GPU
	same := n.Held[r.Kind()] > 0
	switch {
	case same && kinds == 1:
		v += 75
	case same:
		v += 50
	case kinds == 0:
		v += 25
	}
	return Score{Value: float64(v), Devices: tightDevices(n, r)}
}

// Random takes any node that fits, and any device of it for a share. Draw(n) is
// a number of 0 to n-1. Its scores are drawn anew for each choice.
type Random struct{ Draw func(n int) int }

// Name is "Random".
func (Random) Name() string { return "Random" }

// Score is a draw.
func (p Random) Score(n *Node, r *Request) Score {
	s := Score{Value: float64(p.Draw(1 << 30)), Devices: tightDevices(n, r)}
	if r.Kind() != Share {
		return s
	}
	fit, _ := n.room(r.Milli)
	skip := p.Draw(fit)
	for i, left := range n.Left {
		if left < r.Milli {
			continue
		}
		if skip == 0 {
			s.Devices = 1 << i
		}
		skip--
	}
	return s
}

// tightDevices is where most policies put a request: whole devices from the
// first, a share on the device with least left.
func tightDevices(n *Node, r *Request) Devices {
	if r.Kind() != Share {
		return wholeDevices(n, r.Count)
	}
	best := -1
	for i, left := range n.Left {
		if left >= r.Milli && (best < 0 || left < n.Left[best]) {
			best = i
		}
	}
	return 1 << best
}

func wholeDevices(n *Node, count int) Devices {
	var d Devices
	for i, left := range n.Left {
		if count > 0 && left == Whole {
			d |= 1 << i
			count--
		}
	}
	return d
}

func emptiest(n *Node) int {
	best := 0
	for i, left := range n.Left {
		if left > n.Left[best] {
			best = i
		}
	}
	return best
}
