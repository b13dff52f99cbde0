package main

import (
	"fmt"
	"os"
	"time"

	"github.com/penstock/penstock/internal/place/pack"
)

type packing struct{ p *pack.Packer }

func (c packing) place(r pack.Request) (bool, error) {
	at, ok := c.p.Choose(r, nil)
	if !ok {
		return false, nil
	}
	return true, c.p.Take(at, r)
}

func main() {
	dir := "/work/shared/traces/openb/"
	f, err := readFleet(dir + "openb_node_list_gpu_node.csv")
	if err != nil {
		panic(err)
	}
	scale := pack.ScaleOf(f.nodes)
	for _, l := range []string{"default", "cpu050", "gpushare40", "multigpu20", "gpuspec10"} {
		w, err := readWorkload(l, dir+"openb_pod_list_"+l+".csv", f)
		if err != nil {
			panic(err)
		}
		mix := pack.NewMix(w.typical())
		for seed := int64(42); seed < 43; seed++ {
			s := newScenario(f, w, seed)
			for _, pol := range []pack.Policy{pack.NewFGD(mix, pack.InOrder), pack.BestFit{scale}, pack.DotProduct{scale}, pack.Packing{}, pack.Clustering{scale}, pack.Random{s.draw.Intn}} {
				if len(os.Args) > 1 && pol.Name() != os.Args[1] {
					continue
				}
				t := time.Now()
				p, _ := pack.New(s.nodes, pol, pack.Cached)
				st, err := replay(s.arrivals, packing{p})
				if err != nil {
					panic(err)
				}
				c := curve(st, f.milli)
				fmt.Println(l, seed, pol.Name(), len(mix), c[20], c[80], c[100], c[130], firstShortfall(st, f.milli), time.Since(t))
			}
		}
	}
}
