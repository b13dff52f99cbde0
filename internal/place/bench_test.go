package place

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/snapshot"
)

// crowd is 500 nodes of 8 devices and queued jobs of so many different shapes.
func crowd(queued, shapes int) *snapshot.State {
	s := &snapshot.State{Now: time.Unix(1_700_000_000, 0), Projects: map[string]snapshot.Project{}}
	for i := range 500 {
		if i%100 == 0 {
			s.Pools = append(s.Pools, snapshot.Pool{Name: fmt.Sprintf("pool-%d", i/100)})
		}
		p := &s.Pools[len(s.Pools)-1]
		p.Nodes = append(p.Nodes, node(fmt.Sprintf("node-%03d", i), penstock.Resources{"cpu": 128_000, "memory": 1 << 40, "h100": 8000}))
	}
	sizes := []penstock.Amount{250, 500, 1000, 1000, 2000, 4000, 8000}
	for i := range queued {
		name := fmt.Sprintf("job-%05d", i)
		s.Queue = append(s.Queue, snapshot.Job{
			UID: penstock.UID(name), Ref: penstock.Ref{Kind: penstock.KindJob, Project: fmt.Sprintf("team-%d", i%20), Name: name},
			Priority: i % 3, QueuedAt: s.Now.Add(-time.Duration(i%500) * time.Second),
			Sets: []snapshot.Set{{Name: "worker", Count: 1 + i%8, Each: penstock.Resources{
				"cpu": 1000 + penstock.Amount(i%shapes), "memory": 8 << 30, "h100": sizes[i%len(sizes)],
			}}},
		})
	}
	return s
}

func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct {
		name   string
		shapes int
		full   bool
	}{{"empty-fleet", 1, false}, {"full-fleet", 1, true}, {"empty-fleet-every-job-another-shape", 10_000, false}, {"full-fleet-every-job-another-shape", 10_000, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := crowd(10_000, c.shapes)
			if c.full {
				apply(s, Plan(crowd(3000, 1)))
				running := s.Running
				s = crowd(10_000, c.shapes)
				s.Running = running
			}
			for b.Loop() {
				Plan(s)
			}
		})
	}
}

// BenchmarkFixes explains a gang far back in the queue of a full fleet.
func BenchmarkFixes(b *testing.B) {
	s := crowd(3000, 1)
	apply(s, Plan(s))
	s.Queue = crowd(10_000, 1).Queue
	waiting := penstock.UID("")
	for _, d := range Plan(s) {
		if d.Start == nil && d.Job.Sets[0].Count == 8 {
			waiting = d.Job.UID
		}
	}
	for b.Loop() {
		Fixes(s, waiting)
	}
}
