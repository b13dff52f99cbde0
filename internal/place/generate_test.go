package place

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// states makes small crowded fleets: up to 12 nodes of several shapes in up to
// 3 pools, jobs that run already, and a queue that asks for more than there is.
func states() *rapid.Generator[*snapshot.State] {
	return rapid.Custom(func(t *rapid.T) *snapshot.State {
		s := &snapshot.State{Now: time.Unix(1_700_000_000, 0).UTC(), Projects: map[string]snapshot.Project{}}
		nodes := rapid.SampledFrom([]int{2, 1, 3, 4, 5, 7, 9, 12, 0}).Draw(t, "nodes")
		for i := range nodes {
			if i%5 == 0 {
				s.Pools = append(s.Pools, snapshot.Pool{Name: fmt.Sprintf("pool-%d", len(s.Pools))})
			}
			p := &s.Pools[len(s.Pools)-1]
			p.Nodes = append(p.Nodes, oneNode(t, fmt.Sprintf("node-%02d", i)))
		}
		for _, name := range []string{"p", "q", "r"} {
			s.Projects[name] = snapshot.Project{Quota: quotas(t)}
		}
		s.Queue = jobs(t, "before", 6, 14)
		apply(s, Plan(s)) // what runs is what an earlier plan started
		s.Queue = jobs(t, "job", 4, 10)
		return s
	})
}

func oneNode(t *rapid.T, name string) v1.Node {
	return node(name, rapid.SampledFrom([]penstock.Resources{
		{"cpu": 8000, "memory": 32 << 30},
		{"cpu": 8000, "memory": 16 << 30, "h100": 4000},
		{"cpu": 4000, "memory": 16 << 30, "h100": 1000, "a100": 2000},
		{"cpu": 16000, "memory": 64 << 30, "a100": 8000},
	}).Draw(t, name))
}

func quotas(t *rapid.T) v1.Quota {
	return rapid.SampledFrom([]v1.Quota{
		{}, {}, {}, {},
		{Nominal: penstock.Resources{"h100": 2000}, Borrow: penstock.Resources{"h100": 3000}},
		{Nominal: penstock.Resources{"cpu": 6000, "a100": 1500}},
		{Nominal: penstock.Resources{"cpu": 10000, "h100": 0, "a100": 4000}, Borrow: penstock.Resources{"a100": 1000}},
	}).Draw(t, "quota")
}

func jobs(t *rapid.T, name string, least, most int) []snapshot.Job {
	queue := make([]snapshot.Job, rapid.IntRange(least, most).Draw(t, name+"s"))
	for i := range queue {
		queue[i] = oneJob(t, fmt.Sprintf("%s-%d", name, i))
	}
	return queue
}

func oneJob(t *rapid.T, name string) snapshot.Job {
	project := rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "project")
	j := snapshot.Job{
		UID: penstock.UID(name), Ref: penstock.Ref{Kind: penstock.KindJob, Project: project, Name: name},
		Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
		QueuedAt: time.Unix(1_700_000_000-rapid.SampledFrom([]int64{180, 120, 119, 0}).Draw(t, "waited"), 0).UTC(),
		Pool:     rapid.SampledFrom([]string{"", "", "", "", "", "", "pool-0", "pool-1", "nowhere"}).Draw(t, "pool"),
		Endless:  rapid.IntRange(0, 4).Draw(t, "endless") == 4,
	}
	if rapid.IntRange(0, 9).Draw(t, "held") == 9 {
		j.Held = []penstock.Reason{penstock.Because(penstock.DependencyUnmet, penstock.Wait, "waits for another")}
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "sets") {
		j.Sets = append(j.Sets, snapshot.Set{Name: fmt.Sprintf("set-%d", i), Count: rapid.SampledFrom([]int{4, 2, 1, 3}).Draw(t, "count"), Each: tasks(t)})
	}
	return j
}

func tasks(t *rapid.T) penstock.Resources {
	return rapid.SampledFrom([]penstock.Resources{
		{"cpu": 1000},
		{"cpu": 3000, "memory": 8 << 30},
		{"cpu": 1000, "h100": 1000},
		{"cpu": 2000, "memory": 1 << 30, "h100": 4000},
		{"cpu": 500, "h100": 500},
		{"cpu": 500, "h100": 300},
		{"cpu": 500, "a100": 700},
		{"a100": 2000},
		{"cpu": 1000, "a100": 500, "h100": 1000},
		{"cpu": 9000, "h100": 1000},
		{"h100": 1500},
		{"memory": 0, "cpu": 100},
	}).Draw(t, "each")
}

// shuffled is s with every list in another order and every map made anew.
func shuffled(s *snapshot.State, seed uint64) *snapshot.State {
	r := rand.New(rand.NewPCG(seed, seed))
	c := s.Clone()
	c.Projects = maps.Collect(maps.All(s.Projects))
	mix(r, c.Queue)
	mix(r, c.Running)
	mix(r, c.Pools)
	for i := range c.Pools {
		c.Pools[i].Nodes = slices.Clone(c.Pools[i].Nodes)
		mix(r, c.Pools[i].Nodes)
		for k := range c.Pools[i].Nodes {
			n := &c.Pools[i].Nodes[k]
			n.Devices = slices.Clone(n.Devices)
			mix(r, n.Devices)
		}
	}
	return c
}

func mix[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
}
