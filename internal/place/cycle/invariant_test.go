package cycle

import (
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// faults is what is wrong with a state: nothing, after any event. The numbers
// are those of the invariants that the package keeps:
//
//	I1  no device gives more than it has, to jobs that hold or were promised it
//	I2  nothing of a node is below 0, and what it has used is what its jobs hold
//	I3  a gang runs whole, or not at all
//	I4  what a queue uses is what the jobs in it and below hold, at every level
//	I5  no queue holds more than its quota and its borrowing limit
//	I11 a gang that must stand together does
//	    and the books of who waits are in order
func faults(s *State, quotaKept bool) []string {
	f := &finder{s: s, held: map[*fleet.Node]penstock.Resources{}, now: map[*quota.Queue]penstock.Resources{}, soon: map[*quota.Queue]penstock.Resources{}}
	for _, id := range sortedJobs(s) {
		f.job(s.jobs[id])
	}
	for _, d := range s.desks {
		for _, n := range d.pool.Nodes() {
			f.node(n)
		}
	}
	for _, l := range s.order {
		f.queue(l, quotaKept)
	}
	if err := f.books(); err != "" {
		f.say("%s", err)
	}
	return f.found
}

func sortedJobs(s *State) []penstock.UID {
	var ids []penstock.UID
	for id := range s.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

type finder struct {
	s         *State
	found     []string
	held      map[*fleet.Node]penstock.Resources
	now, soon map[*quota.Queue]penstock.Resources
}

func (f *finder) say(format string, args ...any) {
	f.found = append(f.found, fmt.Sprintf(format, args...))
}

func (f *finder) job(j *job) {
	total := penstock.Resources{}
	for _, set := range j.spec.Sets {
		total = total.Plus(set.Each.Times(set.Count))
	}
	for q := j.line.queue; q != nil; q = q.Parent() {
		if j.phase == running || j.phase == stopping {
			f.now[q] = f.now[q].Plus(total)
		}
		if j.phase == running || j.phase == promised {
			f.soon[q] = f.soon[q].Plus(total)
		}
	}
	if j.phase == pending {
		if len(j.tasks) > 0 {
			f.say("I3: %s waits and holds %d tasks", j.spec.ID, len(j.tasks))
		}
		return
	}
	counts := map[string]int{}
	for _, t := range j.tasks {
		set := j.shape.gang.Sets[t.Set]
		counts[set.Name]++
		if t.Node.Gone() {
			continue
		}
		if j.phase != promised {
			f.held[t.Node] = f.held[t.Node].Plus(f.s.resources(t.Sum()))
		}
	}
	for _, set := range j.spec.Sets {
		if counts[set.Name] != set.Count {
			f.say("I3: %s holds %d of %d tasks of set %s", j.spec.ID, counts[set.Name], set.Count, set.Name)
		}
	}
}

func (f *finder) node(n *fleet.Node) {
	for _, fault := range n.Faults() {
		f.say("I1, I2: node %s: %s", n.Name(), fault)
	}
	for id := range f.s.table.Len() {
		if name := f.s.table.Name(id); !name.Accelerator() && n.Used(id) != f.held[n][name] {
			f.say("I2: node %s has used %d of %s, its jobs hold %d", n.Name(), n.Used(id), name, f.held[n][name])
		}
	}
}

func (f *finder) queue(l *line, quotaKept bool) {
	for id := range f.s.table.Len() {
		name := f.s.table.Name(id)
		if got, want := l.queue.Used(quota.Now, id), f.now[l.queue][name]; got != want {
			f.say("I4: queue %s uses %d of %s now, its jobs hold %d", l.queue.Name(), got, name, want)
		}
		if got, want := l.queue.Used(quota.Soon, id), f.soon[l.queue][name]; got != want {
			f.say("I4: queue %s will use %d of %s, its jobs will hold %d", l.queue.Name(), got, name, want)
		}
		if quotaKept && l.queue.Bounds(id) && (l.queue.Left(quota.Now, id) < 0 || l.queue.Left(quota.Soon, id) < 0) {
			f.say("I5: queue %s holds %d of %s beyond its limit", l.queue.Name(), -l.queue.Left(quota.Now, id), name)
		}
	}
}

// books says what is wrong with who waits where.
func (f *finder) books() string {
	waiting := 0
	for _, l := range f.s.order {
		if !l.awake.empty() != (l.readyAt >= 0) || !l.later.empty() {
			return fmt.Sprintf("queue %s is not where it should be among those to be taken up", l.queue.Name())
		}
		for _, b := range l.buckets {
			waiting += len(b.jobs.items)
			if b.in == parked && len(b.on) == 0 {
				return fmt.Sprintf("%s is parked, and nothing will wake it", b.head().spec.ID)
			}
		}
	}
	if n := f.s.Pending() - len(f.s.granted.items); waiting != n {
		return fmt.Sprintf("%d jobs stand in line, %d wait", waiting, n)
	}
	return ""
}

// together says whether the tasks share what their job requires (I11).
func together(j Job, p *Placement, path func(node string) []string, levels []string) bool {
	share := func(want fleet.Topology, tasks []Placed) bool {
		if want.Mode != fleet.Required || len(tasks) == 0 {
			return true
		}
		if want.Level == fleet.NodeLevel {
			return !slices.ContainsFunc(tasks, func(t Placed) bool { return t.Node != tasks[0].Node })
		}
		depth := slices.Index(levels, want.Level) + 1
		first := path(tasks[0].Node)[:depth]
		return depth > 0 && !slices.ContainsFunc(tasks, func(t Placed) bool { return !slices.Equal(path(t.Node)[:depth], first) })
	}
	for _, set := range j.Sets {
		of := slices.DeleteFunc(slices.Clone(p.Tasks), func(t Placed) bool { return t.Set != set.Name })
		if !share(set.Topology, of) {
			return false
		}
	}
	return share(j.Together, p.Tasks)
}

func (s *State) resources(sum vector.Sum) penstock.Resources {
	r := penstock.Resources{}
	for _, t := range sum {
		r[s.table.Name(t.ID)] = t.Amount
	}
	return r
}
