package pack_test

import (
	"fmt"
	"testing"

	"github.com/penstock/penstock/internal/place/pack"
)

// BenchmarkPlace fills 1,213 nodes of eight devices with 10,000 requests of 60
// shapes.
func BenchmarkPlace(b *testing.B) {
	var nodes []pack.Node
	for i := range 1213 {
		nodes = append(nodes, pack.Node{CPU: 96000, Memory: 1 << 40, Type: uint8(i % 4), Left: []int32{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}})
	}
	var requests []pack.Request
	var seen []pack.Counted
	for i := range 60 {
		r := share(int64(1000+i%7*2000), int32(100+i*13))
		if i%3 == 0 {
			r = whole(int64(8000+i*100), 1<<(i%9/3))
		}
		r.Types = pack.Types(i % 5 / 4)
		requests, seen = append(requests, r), append(seen, pack.Counted{Shape: r.Shape(), N: float64(1 + i%11)})
	}
	for _, policy := range []func() pack.Policy{
		func() pack.Policy { return pack.NewFGD(pack.NewMix(seen), pack.InOrder) },
		func() pack.Policy { return pack.NewHeadroom(seen) },
	} {
		b.Run(fmt.Sprint(policy().Name()), func(b *testing.B) {
			for b.Loop() {
				p, err := pack.New(nodes, policy(), pack.Cached)
				if err != nil {
					b.Fatal(err)
				}
				for i := range 10_000 {
					r := requests[i*7919%len(requests)]
					if at, ok := p.Choose(r, nil); ok {
						if err := p.Take(at, r); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
		})
	}
}
