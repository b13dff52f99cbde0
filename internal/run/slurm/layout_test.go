package slurm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// written is a layout as Slurm gets it, for comparison.
func written(l layout) string {
	var b strings.Builder
	for i, c := range l.components {
		fmt.Fprintf(&b, "component %d: %s\n", i, strings.Join(c.arguments(), " "))
	}
	for i, s := range l.steps {
		fmt.Fprintf(&b, "step %d: %s\n", i, strings.Join(l.options(i), " "))
		fmt.Fprintf(&b, "  ranks %s; hosts %s\n", strings.Join(strings.Split(strings.TrimSpace(s.ranks()), "\n"), ", "), strings.Join(strings.Fields(s.hosts()), " "))
	}
	return b.String()
}

var (
	worker = demand{cpus: 4, memory: 8000, devices: 2, gres: "gpu:h100"}
	driver = demand{cpus: 1, memory: 1001}
)

// place makes a gang of "node sort" words: w is a worker, d is a driver.
func placed(words ...string) ([]v1.Order, []demand) {
	var orders []v1.Order
	var demands []demand
	local := map[string]int{}
	for rank, word := range words {
		node, sort, _ := strings.Cut(word, " ")
		orders = append(orders, v1.Order{Rank: rank, Node: node, LocalRank: local[node]})
		demands = append(demands, map[string]demand{"w": worker, "d": driver}[sort])
		local[node]++
	}
	return orders, demands
}

func TestAGangOfEqualTasksIsOneJobWithExactNodesInTheOrderOfRanks(t *testing.T) {
	want := `component 0: --nodes=2 --nodelist=n3,n1 --ntasks-per-node=1 --cpus-per-task=8 --mem=16000M --gres=gpu:h100:4
step 0: --ntasks=4 --cpus-per-task=4 --distribution=arbitrary --nodelist=./hosts-0 --gres=gpu:h100:4 --gpu-bind=per_task:2
  ranks 0 0, 1 1, 2 0, 3 1; hosts n3 n3 n1 n1
`
	if diff := cmp.Diff(want, written(planned(placed("n3 w", "n3 w", "n1 w", "n1 w")))); diff != "" {
		t.Error(diff)
	}
}

func TestNodesThatBearDifferentTasksAreComponentsAndTasksOfASortAreSteps(t *testing.T) {
	want := `component 0: --nodes=1 --nodelist=n1 --ntasks-per-node=1 --cpus-per-task=5 --mem=9001M --gres=gpu:h100:2
component 1: --nodes=2 --nodelist=n2,n3 --ntasks-per-node=1 --cpus-per-task=4 --mem=8000M --gres=gpu:h100:2
step 0: --ntasks=1 --cpus-per-task=1 --het-group=0 --distribution=arbitrary --nodelist=./hosts-0 --gres=none
  ranks 0 0; hosts n1
step 1: --ntasks=1 --cpus-per-task=4 --het-group=0 --distribution=arbitrary --nodelist=./hosts-1 --gres=gpu:h100:2 --gpu-bind=per_task:2
  ranks 1 1; hosts n1
step 2: --ntasks=2 --cpus-per-task=4 --het-group=1 --distribution=arbitrary --nodelist=./hosts-2 --gres=gpu:h100:2 --gpu-bind=per_task:2
  ranks 2 0, 3 0; hosts n2 n3
`
	if diff := cmp.Diff(want, written(planned(placed("n1 d", "n1 w", "n2 w", "n3 w")))); diff != "" {
		t.Error(diff)
	}
}

func TestWhereTheSitePlacesEachSortOfTasksIsAComponent(t *testing.T) {
	want := `component 0: --ntasks=1 --cpus-per-task=1 --mem-per-cpu=1001M
component 1: --ntasks=2 --cpus-per-task=4 --mem-per-cpu=2000M --gpus-per-task=h100:2
step 0: --ntasks=1 --cpus-per-task=1 --het-group=0 --gres=none
  ranks 0 -; hosts 
step 1: --ntasks=2 --cpus-per-task=4 --het-group=1 --gpu-bind=per_task:2
  ranks 1 -, 2 -; hosts 
`
	if diff := cmp.Diff(want, written(sited(placed("? d", "? w", "? w")))); diff != "" {
		t.Error(diff)
	}
}

// TestAnyGangGetsWhatItAskedForAndNoMore draws gangs on nodes and adds up.
func TestAnyGangGetsWhatItAskedForAndNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"n1 w", "n1 d", "n2 w", "n2 d", "n3 w", "n4 d"}), 1, 24).Draw(t, "gang")
		orders, demands := placed(words...)
		l := planned(orders, demands)
		asked := map[string]share{}
		for i, o := range orders {
			asked[o.Node] = asked[o.Node].plus(demands[i], 1)
		}
		given := map[string]share{}
		for _, c := range l.components {
			for _, node := range c.nodes {
				if _, twice := given[node]; twice {
					t.Fatalf("%s is in two components, which Slurm refuses", node)
				}
				given[node] = c.each
			}
		}
		if diff := cmp.Diff(asked, given, cmp.AllowUnexported(share{})); diff != "" {
			t.Fatal(diff)
		}
		seen := map[int]bool{}
		for _, s := range l.steps {
			perNode, last := map[string]int{}, -1
			for _, p := range s.places {
				if seen[p.rank] || p.rank <= last || p.node != orders[p.rank].Node || p.local != orders[p.rank].LocalRank || demands[p.rank] != s.task {
					t.Fatalf("rank %d is wrong in %+v", p.rank, s)
				}
				seen[p.rank], last = true, p.rank
				perNode[p.node]++
			}
			for node, n := range perNode {
				if n != s.perNode {
					t.Fatalf("%s has %d tasks of a step that has %d on each node", node, n, s.perNode)
				}
			}
		}
		if len(seen) != len(orders) {
			t.Fatalf("%d of %d ranks have a place", len(seen), len(orders))
		}
	})
}

func TestDemandsAreRoundedUpAndPartsOfDevicesRefused(t *testing.T) {
	gres := func(r penstock.Resource) string { return "gpu:" + string(r) }
	got, err := demandOf(v1.Order{Resources: penstock.Resources{penstock.CPU: 1500, penstock.Memory: 1<<30 + 1, "h100": 2000}}, gres)
	if got != (demand{cpus: 2, memory: 1025, devices: 2, gres: "gpu:h100"}) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []penstock.Resources{{"h100": 500}, {"h100": 1000, "a100": 1000}} {
		if d, err := demandOf(v1.Order{Resources: bad}, gres); penstock.CodeOf(err) != penstock.Unsupported {
			t.Errorf("%v gives %+v, %v", bad, d, err)
		}
	}
}

func TestATimeLimitIsAfterTheDeadlineAndItsGrace(t *testing.T) {
	got := strings.Join(timeLimit(90*time.Minute, 30*time.Second), " ")
	if want := "--time=94 --signal=TERM@90"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
