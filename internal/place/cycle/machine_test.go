package cycle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// machine drives a State with events at random, and holds it to its invariants
// after each.
type machine struct {
	s         *State
	now       time.Time
	nodes     map[string]fleet.Spec
	jobs      map[penstock.UID]Job
	made      int
	quotaKept bool
	told      map[[2]penstock.UID]bool // victim and for whom, until that one starts, or loses its place
	owed      map[penstock.UID]bool    // promised, and everybody has gone since
	log       []string
}

var levels = []string{"block", "rack"}

func newMachine(t *rapid.T) *machine {
	p := Defaults()
	p.Preemption.MinRuntime = time.Duration(rapid.IntRange(0, 2).Draw(t, "minimum")) * time.Minute
	p.Preemption.Most = rapid.SampledFrom([]int{0, 1000, 4000, 100_000}).Draw(t, "most")
	p.Preemption.Evictions = rapid.IntRange(0, 2).Draw(t, "evictions")
	p.HalfLife, p.Age = time.Hour, 2*time.Hour
	m := &machine{
		s: New(p), now: time.Unix(1_700_000_000, 0), nodes: map[string]fleet.Spec{}, jobs: map[penstock.UID]Job{},
		quotaKept: true, told: map[[2]penstock.UID]bool{}, owed: map[penstock.UID]bool{},
	}
	m.must(t, m.s.SetPool("p", levels...))
	m.must(t, m.s.SetPool("other"))
	for _, q := range trees() {
		m.must(t, m.s.SetQueue(q, rapid.SampledFrom([]Passing{Backfill, Strict}).Draw(t, "passing")))
	}
	for range rapid.IntRange(1, 4).Draw(t, "nodes") {
		m.addNode(t)
	}
	return m
}

// trees is a forest with all that quotas can say.
func trees() []quota.Spec {
	r := func(n penstock.Amount) penstock.Resources { return penstock.Resources{"h100": n * 1000} }
	return []quota.Spec{
		{Name: "org", Nominal: r(2)},
		{Name: "dept", Parent: "org"},
		{Name: "a", Parent: "dept", Nominal: r(2), Borrow: r(4)},
		{Name: "b", Parent: "dept", Nominal: r(3), Borrow: r(2), Lend: r(1)},
		{Name: "c", Parent: "org", Nominal: r(1), Borrow: penstock.Resources{"h100": quota.Unlimited}, Weight: 2000},
		{Name: "d", Parent: "org", Weight: 500},
		{Name: "free"},
	}
}

func (m *machine) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) addNode(t *rapid.T) {
	spec := fleet.Spec{
		Name:     fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "node")),
		Topology: []string{rapid.SampledFrom([]string{"b1", "b2"}).Draw(t, "block"), rapid.SampledFrom([]string{"r1", "r2", ""}).Draw(t, "rack")},
		Capacity: penstock.Resources{"cpu": penstock.Amount(rapid.IntRange(0, 8).Draw(t, "cpu") * 1000), "h100": penstock.Amount(rapid.IntRange(0, 4).Draw(t, "h100") * 1000)},
	}
	if rapid.IntRange(0, 9).Draw(t, "closed") == 0 {
		spec.Closed = "cordoned"
	}
	m.nodes[spec.Name] = spec
	m.owed = map[penstock.UID]bool{} // what was promised there may have to be sought again
	m.must(t, m.s.SetNode("p", spec))
}

func (m *machine) removeNode(t *rapid.T) {
	name := pickKey(t, m.nodes)
	if name == "" {
		return
	}
	delete(m.nodes, name)
	m.owed = map[penstock.UID]bool{}
	m.must(t, m.s.RemoveNode("p", name))
}

func pickKey[K ~string, V any](t *rapid.T, from map[K]V) K {
	var keys []K
	for k := range from {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return rapid.SampledFrom(keys).Draw(t, "which")
}

func (m *machine) submit(t *rapid.T) {
	m.made++
	j := drawJob(t, penstock.UID(fmt.Sprintf("j%03d", m.made)), m.now)
	m.jobs[j.ID] = j
	m.must(t, m.s.Submit(j))
}

func drawJob(t *rapid.T, id penstock.UID, now time.Time) Job {
	j := Job{
		ID: id, Queue: rapid.SampledFrom([]string{"a", "b", "c", "d", "free", "dept"}).Draw(t, "queue"),
		Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
		QueuedAt: now.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "waited")) * time.Minute),
		Limit:    time.Duration(rapid.IntRange(0, 3).Draw(t, "limit")) * 10 * time.Minute,
		Endless:  rapid.IntRange(0, 9).Draw(t, "endless") == 0,
		Keeps:    rapid.IntRange(0, 9).Draw(t, "keeps") == 0,
		Pools:    rapid.SampledFrom([][]string{nil, {"p"}, {"other", "p"}, {"nowhere"}}).Draw(t, "pools"),
		Together: drawTopology(t),
	}
	for i := range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "sets") {
		j.Sets = append(j.Sets, Set{
			Name: fmt.Sprintf("s%d", i), Count: rapid.IntRange(1, 3).Draw(t, "count"), Topology: drawTopology(t),
			Each: penstock.Resources{
				"cpu":  penstock.Amount(rapid.IntRange(0, 2).Draw(t, "cpus") * 1000),
				"h100": penstock.Amount(rapid.SampledFrom([]int{0, 300, 500, 1000, 1000, 2000, 4000}).Draw(t, "h100s")),
			},
		})
	}
	return j
}

func drawTopology(t *rapid.T) fleet.Topology {
	return rapid.SampledFrom([]fleet.Topology{
		{}, {}, {}, {Level: "rack", Mode: fleet.Required}, {Level: "rack", Mode: fleet.Preferred}, {Level: "block", Mode: fleet.Required},
		{Level: "node", Mode: fleet.Required}, {Level: "zone", Mode: fleet.Preferred},
	}).Draw(t, "topology")
}

func (m *machine) finish(t *rapid.T) {
	if id := pickKey(t, m.jobs); id != "" {
		delete(m.jobs, id)
		delete(m.owed, id)
		m.must(t, m.s.Finished(id))
	}
}

func (m *machine) requeue(t *rapid.T) {
	if id := pickKey(t, m.jobs); id != "" {
		if j := m.s.jobs[id]; j.phase == running || j.phase == stopping {
			m.must(t, m.s.Requeued(id))
		}
	}
}

func (m *machine) changeQuota(t *rapid.T) {
	q := rapid.SampledFrom(trees()).Draw(t, "queue")
	if n := rapid.IntRange(0, 4).Draw(t, "nominal"); q.Name != "free" && q.Name != "d" && q.Name != "dept" {
		q.Nominal = penstock.Resources{"h100": penstock.Amount(n) * 1000}
	}
	m.quotaKept = false // what runs may be beyond the new one
	m.owed = map[penstock.UID]bool{}
	m.must(t, m.s.SetQueue(q, Backfill))
}

func (m *machine) pass(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(-1, 60).Draw(t, "minutes")) * time.Minute)
}

// cycle decides, and holds the decisions to what they must be together.
func (m *machine) cycle(t *rapid.T) {
	owed := m.owed
	m.owed = map[penstock.UID]bool{}
	promised, evicted := map[penstock.UID]bool{}, map[penstock.UID]penstock.UID{}
	for _, d := range m.s.Cycle(m.now) {
		m.log = append(m.log, fmt.Sprint(d.Verdict, d.Job, d.For))
		switch d.Verdict {
		case Start:
			delete(owed, d.Job)
			maps.DeleteFunc(m.told, func(pair [2]penstock.UID, _ bool) bool { return pair[1] == d.Job })
			m.checkPlacement(t, d)
		case Promise:
			promised[d.Job] = true
			m.checkPlacement(t, d)
		case Evict:
			evicted[d.Job] = d.For
			if m.told[[2]penstock.UID{d.Job, d.For}] {
				t.Fatalf("I6: %s gives way to %s again, which hasn't started since", d.Job, d.For)
			}
			m.told[[2]penstock.UID{d.Job, d.For}] = true
		case Wait:
			if r := d.Reason(); r.Code == "" || r.Message == "" || strings.Contains(r.Message, "%!") {
				t.Fatalf("%s waits without a proper reason: %+v", d.Job, r)
			}
		}
	}
	for v, p := range evicted {
		if !promised[p] {
			t.Fatalf("I7: %s gives way to %s, which is promised nothing", v, p)
		}
	}
	for id := range owed {
		t.Fatalf("I7: everybody gave way to %s, and it didn't start", id)
	}
	maps.DeleteFunc(m.told, func(pair [2]penstock.UID, _ bool) bool {
		j := m.s.jobs[pair[1]]
		return j == nil || j.phase == pending // its node is gone, or they took too long to go
	})
	m.letGo(t, evicted)
}

// letGo has, now and then, all who were told to go, gone at once: those for whom
// they went must then start in the next cycle.
func (m *machine) letGo(t *rapid.T, evicted map[penstock.UID]penstock.UID) {
	if len(evicted) == 0 || rapid.Bool().Draw(t, "slow") {
		return
	}
	for _, id := range sortedJobs(m.s) {
		if m.s.jobs[id].phase == stopping {
			m.must(t, m.s.Requeued(id))
		}
	}
	for _, id := range sortedJobs(m.s) {
		if j := m.s.jobs[id]; j.phase == promised && m.quotaKept && !slices.ContainsFunc(j.tasks, func(t fleet.Task) bool { return t.Node.Gone() || m.nodes[t.Node.Name()].Closed != "" }) {
			m.owed[id] = true
		}
	}
}

func (m *machine) checkPlacement(t *rapid.T, d Decision) {
	path := func(node string) []string { return m.nodes[node].Topology }
	if !together(m.jobs[d.Job], d.Placement, path, levels) {
		t.Fatalf("I11: %s isn't where it must be together: %+v", d.Job, d.Placement)
	}
	for _, task := range d.Placement.Tasks {
		if spec := m.nodes[task.Node]; spec.Closed != "" && d.Verdict == Promise {
			t.Fatalf("%s is placed on %s, which is closed", d.Job, task.Node)
		}
	}
}

// TestInvariantsHoldWhateverHappens is the state machine of I1 to I7 and I11.
func TestInvariantsHoldWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"submit": m.submit, "submit again": m.submit, "submit more": m.submit, "finish": m.finish, "requeue": m.requeue,
			"node": m.addNode, "node gone": m.removeNode, "quota": m.changeQuota, "time": m.pass, "cycle": m.cycle, "cycle again": m.cycle,
			"": func(t *rapid.T) {
				if found := faults(m.s, m.quotaKept); len(found) > 0 {
					t.Fatalf("after %s:\n%s", strings.Join(m.log, ", "), strings.Join(found, "\n"))
				}
			},
		})
	})
}
