package snapshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// seen is all that a View tells. A missing amount is 0, so zeros are left out.
type seen struct {
	Free    map[Slot]penstock.Resources
	Devices map[Slot]map[string]penstock.Amount
	Using   map[string]penstock.Resources
}

func look(s *State, v *View) seen {
	all := seen{map[Slot]penstock.Resources{}, map[Slot]map[string]penstock.Amount{}, map[string]penstock.Resources{}}
	for _, p := range s.Pools {
		for _, n := range p.Nodes {
			at := Slot{p.Name, n.Name}
			all.Free[at], all.Devices[at] = nonzero(v.Free(at)), map[string]penstock.Amount{}
			for _, d := range n.Devices {
				all.Devices[at][d.ID] = v.DeviceFree(at, d.ID)
			}
		}
	}
	for _, project := range projects {
		all.Using[project] = nonzero(v.Using(project))
	}
	return all
}

func nonzero(r penstock.Resources) penstock.Resources {
	out := penstock.Resources{}
	for name, a := range r {
		if a != 0 {
			out[name] = a
		}
	}
	return out
}

var projects = []string{"p", "q"}

func fleet() *State {
	node := func(name string) v1.Node {
		return v1.Node{
			Name: name, Capacity: penstock.Resources{"cpu": 8000, "h100": 2000, "a100": 1000},
			Devices: []v1.Device{{ID: "h0", Type: "h100"}, {ID: "h1", Type: "h100"}, {ID: "a0", Type: "a100"}},
		}
	}
	return &State{Pools: []Pool{{"gpu", []v1.Node{node("a"), node("b")}}, {"cpu", []v1.Node{{Name: "a", Capacity: penstock.Resources{"cpu": 4000}}}}}}
}

func placements() *rapid.Generator[placement] {
	return rapid.Custom(func(t *rapid.T) placement {
		p := placement{project: rapid.SampledFrom(projects).Draw(t, "project"), pool: rapid.SampledFrom([]string{"gpu", "cpu", "gone"}).Draw(t, "pool")}
		for i := range rapid.IntRange(0, 3).Draw(t, "tasks") {
			p.tasks = append(p.tasks, v1.PlacedTask{
				Index: i, Node: rapid.SampledFrom([]string{"a", "b", "gone"}).Draw(t, "node"),
				Resources: penstock.Resources{
					"cpu":  penstock.Amount(rapid.IntRange(0, 3000).Draw(t, "cpu")),
					"h100": penstock.Amount(rapid.SampledFrom([]int{0, 250, 1000, 2000}).Draw(t, "h100")),
					"a100": penstock.Amount(rapid.SampledFrom([]int{0, 500, 1000}).Draw(t, "a100")),
				},
				Devices: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"h0", "h1", "a0", "gone"}), rapid.ID[string]).Draw(t, "devices"),
			})
		}
		return p
	})
}

func TestRollbackRestoresExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := fleet()
		v := s.View()
		var marks []int
		var states []seen
		for range rapid.IntRange(1, 6).Draw(t, "marks") {
			marks, states = append(marks, v.Checkpoint()), append(states, look(s, v))
			for range rapid.IntRange(0, 3).Draw(t, "places") {
				p := placements().Draw(t, "placement")
				v.Place(p.project, p.pool, p.tasks)
			}
		}
		for len(marks) > 0 { // back to any mark, then to any earlier one
			i := rapid.IntRange(0, len(marks)-1).Draw(t, "to")
			v.Rollback(marks[i])
			if diff := cmp.Diff(states[i], look(s, v)); diff != "" {
				t.Fatalf("after the rollback to mark %d (-before +after):\n%s", i, diff)
			}
			marks, states = marks[:i], states[:i]
		}
	})
}

// TestRunningIsAsIfPlaced: what runs holds the same as what is tried.
func TestRunningIsAsIfPlaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tried, running := fleet(), fleet()
		v := tried.View()
		for i := range rapid.IntRange(0, 5).Draw(t, "jobs") {
			p := placements().Draw(t, "placement")
			v.Place(p.project, p.pool, p.tasks)
			job := Job{UID: penstock.UID(fmt.Sprint(i)), Ref: penstock.Ref{Kind: penstock.KindJob, Project: p.project}}
			running.Running = append(running.Running, Running{Job: job, Pool: p.pool, Tasks: p.tasks})
		}
		if diff := cmp.Diff(look(tried, v), look(running, running.View())); diff != "" {
			t.Errorf("(-tried +running):\n%s", diff)
		}
	})
}

func TestWhatATaskTakes(t *testing.T) {
	for _, c := range []struct {
		name    string
		task    v1.PlacedTask
		devices map[string]penstock.Amount // what h0, h1 and a0 have left
		free    penstock.Resources
	}{
		{"a whole device", v1.PlacedTask{Resources: penstock.Resources{"h100": 1000}, Devices: []string{"h1"}},
			map[string]penstock.Amount{"h0": 1000, "h1": 0, "a0": 1000}, penstock.Resources{"cpu": 8000, "h100": 1000, "a100": 1000}},
		{"a fraction", v1.PlacedTask{Resources: penstock.Resources{"cpu": 500, "h100": 300}, Devices: []string{"h0"}},
			map[string]penstock.Amount{"h0": 700, "h1": 1000, "a0": 1000}, penstock.Resources{"cpu": 7500, "h100": 1700, "a100": 1000}},
		{"each type on its own device", v1.PlacedTask{Resources: penstock.Resources{"a100": 500, "h100": 2000}, Devices: []string{"a0", "h0", "h1"}},
			map[string]penstock.Amount{"h0": 0, "h1": 0, "a0": 500}, penstock.Resources{"cpu": 8000, "a100": 500}},
		{"a vanished device counts for the node alone", v1.PlacedTask{Resources: penstock.Resources{"h100": 2000}, Devices: []string{"h0", "gone"}},
			map[string]penstock.Amount{"h0": 0, "h1": 1000, "a0": 1000}, penstock.Resources{"cpu": 8000, "a100": 1000}},
		{"more than there is stays below 0", v1.PlacedTask{Resources: penstock.Resources{"cpu": 9000}},
			map[string]penstock.Amount{"h0": 1000, "h1": 1000, "a0": 1000}, penstock.Resources{"cpu": -1000, "h100": 2000, "a100": 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.task.Node = "a"
			s := fleet()
			s.Running = []Running{{Job: Job{Ref: penstock.Ref{Project: "p"}}, Pool: "gpu", Tasks: []v1.PlacedTask{c.task}}}
			got := look(s, s.View())
			if diff := cmp.Diff(c.devices, got.Devices[Slot{"gpu", "a"}]); diff != "" {
				t.Errorf("devices (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.free, got.Free[Slot{"gpu", "a"}]); diff != "" {
				t.Errorf("node (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(nonzero(c.task.Resources), got.Using["p"]); diff != "" {
				t.Errorf("project (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(look(fleet(), fleet().View()).Free[Slot{"gpu", "b"}], got.Free[Slot{"gpu", "b"}]); diff != "" {
				t.Errorf("the other node (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatRunsOnAVanishedNodeCountsForTheProject(t *testing.T) {
	s := fleet()
	s.Running = []Running{{
		Job: Job{Ref: penstock.Ref{Project: "p"}}, Pool: "gpu",
		Tasks: []v1.PlacedTask{{Node: "gone", Resources: penstock.Resources{"h100": 1000}, Devices: []string{"h0"}}},
	}}
	want := look(fleet(), fleet().View())
	want.Using["p"] = penstock.Resources{"h100": 1000}
	if diff := cmp.Diff(want, look(s, s.View())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	v := s.View()
	if v.Free(Slot{"gpu", "gone"}) != nil || v.DeviceFree(Slot{"gpu", "gone"}, "h0") != 0 || v.DeviceFree(Slot{"gpu", "a"}, "gone") != 0 {
		t.Error("something is free on what is unknown")
	}
}

func TestANodeWithoutCapacityTakesWhatRunsThere(t *testing.T) {
	s := &State{Pools: []Pool{{"gpu", []v1.Node{{Name: "a"}}}}}
	v := s.View()
	v.Place("p", "gpu", []v1.PlacedTask{{Node: "a", Resources: penstock.Resources{"cpu": 1}}})
	if got := v.Free(Slot{"gpu", "a"})["cpu"]; got != -1 {
		t.Errorf("%d free, want -1", got)
	}
}

func TestAnEditedCloneLeavesTheStateAlone(t *testing.T) {
	s := fleet()
	s.Now = time.Unix(1, 0)
	s.Queue = []Job{{UID: "a", Sets: []Set{{"w", 2, penstock.Resources{"cpu": 1}}}}}
	s.Running = []Running{{Pool: "gpu"}}
	s.Projects = map[string]Project{"p": {Quota: v1.Quota{Nominal: penstock.Resources{"cpu": 1}}}}
	before := fmt.Sprintf("%v", s)
	c := s.Clone()
	c.Queue[0].Priority, c.Queue[0].Sets = 7, nil
	c.Running[0].Pool = "other"
	c.Pools[0].Name = "other"
	c.Projects["q"] = Project{}
	c.Projects["p"] = Project{}
	if after := fmt.Sprintf("%v", s); after != before {
		t.Errorf("the state is now\n%s, was\n%s", after, before)
	}
}

func TestTotalIsTheWholeGang(t *testing.T) {
	j := Job{Sets: []Set{{"ps", 1, penstock.Resources{"cpu": 500}}, {"worker", 3, penstock.Resources{"cpu": 1000, "h100": 250}}}}
	if diff := cmp.Diff(penstock.Resources{"cpu": 3500, "h100": 750}, j.Total()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
