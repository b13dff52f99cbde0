package place

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// TestNothingHoldsMoreThanItHas counts anew, from the tasks alone, what every
// node and every device carries after a plan.
func TestNothingHoldsMoreThanItHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		apply(s, Plan(s))
		for _, p := range s.Pools {
			for _, n := range p.Nodes {
				tasks := tasksOn(s, p.Name, n.Name)
				sum := penstock.Resources{}
				for _, task := range tasks {
					sum = sum.Plus(task.Resources)
				}
				if short, ok := sum.Fits(n.Capacity); !ok {
					t.Errorf("%s/%s holds %v of %v: too much %s", p.Name, n.Name, sum, n.Capacity, short)
				}
				checkDevices(t, n, tasks)
			}
		}
	})
}

func tasksOn(s *snapshot.State, pool, node string) []v1.PlacedTask {
	var tasks []v1.PlacedTask
	for _, r := range s.Running {
		for _, task := range r.Tasks {
			if r.Pool == pool && task.Node == node {
				tasks = append(tasks, task)
			}
		}
	}
	return tasks
}

// checkDevices wants that a task has just the devices for what it takes of each
// type: as many as it takes whole ones, or one for a fraction.
func checkDevices(t *rapid.T, n v1.Node, tasks []v1.PlacedTask) {
	kind, load := map[string]penstock.Resource{}, map[string]penstock.Amount{}
	for _, d := range n.Devices {
		kind[d.ID] = d.Type
	}
	for _, task := range tasks {
		of := map[penstock.Resource][]string{}
		for _, id := range task.Devices {
			of[kind[id]] = append(of[kind[id]], id)
		}
		for name, amount := range task.Resources {
			if want := int((amount + 999) / 1000); name.Accelerator() && len(of[name]) != want {
				t.Errorf("%s of %s are on %v, want %d devices", name.Format(amount), name, of[name], want)
			}
			for _, id := range of[name] {
				load[id] += min(amount, 1000)
			}
			delete(of, name)
		}
		if len(of) > 0 {
			t.Errorf("a task that takes %v has also %v", task.Resources, of)
		}
	}
	for id, a := range load {
		if a > 1000 {
			t.Errorf("device %s of %s carries %d thousandths", id, n.Name, a)
		}
	}
}

func TestEveryStartedGangIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, d := range Plan(states().Draw(t, "state")) {
			if d.Start == nil {
				continue
			}
			var want []v1.PlacedTask
			for _, set := range d.Job.Sets {
				for i := range set.Count {
					want = append(want, v1.PlacedTask{Set: set.Name, Index: i, Rank: len(want), Resources: set.Each})
				}
			}
			got := slices.Clone(d.Start.Tasks)
			for i := range got {
				if got[i].Node == "" {
					t.Errorf("task %d is nowhere", i)
				}
				got[i].Node, got[i].Devices = "", nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("gang (-want +got):\n%s", diff)
			}
			if d.Job.Pool != "" && d.Job.Pool != d.Start.Pool {
				t.Errorf("wanted %s, is on %s", d.Job.Pool, d.Start.Pool)
			}
			if len(d.Job.Held) > 0 {
				t.Errorf("started although %s", penstock.Join(d.Job.Held))
			}
		}
	})
}

func TestPlanPassesNoQuota(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		apply(s, Plan(s))
		for name, p := range s.Projects {
			using := penstock.Resources{}
			for _, r := range s.Running {
				if r.Job.Ref.Project == name {
					using = using.Plus(r.Job.Total())
				}
			}
			for r, nominal := range p.Quota.Nominal {
				if limit := nominal + p.Quota.Borrow[r]; using[r] > limit {
					t.Errorf("project %s uses %d of %d %s", name, using[r], limit, r)
				}
			}
		}
	})
}

// TestBorrowersComeAfterAllNominalWork: where a job starts that takes its
// project beyond nominal, no job that stays within it comes later.
func TestBorrowersComeAfterAllNominalWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		using, borrowed := map[string]penstock.Resources{}, ""
		for _, r := range s.Running {
			using[r.Job.Ref.Project] = using[r.Job.Ref.Project].Plus(r.Job.Total())
		}
		for _, d := range Plan(s) {
			if d.Start == nil {
				continue
			}
			project := d.Job.Ref.Project
			using[project] = using[project].Plus(d.Job.Total())
			over := ""
			for r, nominal := range s.Projects[project].Quota.Nominal {
				if d.Job.Total()[r] > 0 && using[project][r] > nominal {
					over = d.Job.Ref.Name
				}
			}
			if over == "" && borrowed != "" {
				t.Errorf("%s, within its quota, was taken up after %s, which borrows", d.Job.Ref.Name, borrowed)
			}
			borrowed += over
		}
	})
}

func TestPlanDependsOnNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		other := shuffled(s, rapid.Uint64().Draw(t, "seed"))
		if diff := cmp.Diff(Plan(s), Plan(other)); diff != "" {
			t.Errorf("another order (-one +other):\n%s", diff)
		}
		for _, job := range s.Queue {
			if diff := cmp.Diff(Holders(s, job), Holders(other, job)); diff != "" {
				t.Errorf("holders in another order (-one +other):\n%s", diff)
			}
			if diff := cmp.Diff(Fixes(s, job.UID), Fixes(other, job.UID)); diff != "" {
				t.Errorf("fixes in another order (-one +other):\n%s", diff)
			}
		}
	})
}

func TestPlanLeavesTheSnapshotAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		before := fmt.Sprintf("%v", s)
		for _, d := range Plan(s) {
			Fixes(s, d.Job.UID)
		}
		if diff := cmp.Diff(before, fmt.Sprintf("%v", s)); diff != "" {
			t.Errorf("changed (-before +after):\n%s", diff)
		}
	})
}

// TestEveryQueuedJobIsAnswered once, and a no always says why.
func TestEveryQueuedJobIsAnswered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		var asked, answered []penstock.UID
		for _, j := range s.Queue {
			asked = append(asked, j.UID)
		}
		for _, d := range Plan(s) {
			answered = append(answered, d.Job.UID)
			if (d.Start == nil) == (len(d.Reasons) == 0) {
				t.Errorf("%s: start %v and reasons %v", d.Job.Ref, d.Start, d.Reasons)
			}
			for _, r := range d.Reasons {
				if r.Message == "" || r.Code == "" || r.Class == "" {
					t.Errorf("%s: reason %+v", d.Job.Ref, r)
				}
			}
		}
		slices.Sort(asked)
		slices.Sort(answered)
		if diff := cmp.Diff(asked, answered); diff != "" {
			t.Errorf("answers (-asked +answered):\n%s", diff)
		}
	})
}

// TestRememberedAnswersAreTrue plans once more and forgets all answers on the way.
func TestRememberedAnswersAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		var forgetful []Decision
		p := newPlanner(s)
		for d := range p.decisions() {
			forgetful = append(forgetful, d)
			clear(p.now.answers)
			clear(p.lasting.answers)
			clear(p.empty.answers)
		}
		if diff := cmp.Diff(forgetful, Plan(s), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-forgetful +remembering):\n%s", diff)
		}
	})
}

// TestNobodyPassesWhoWaitedLong: what a gang that could start once all finite
// work has ended waits for isn't given to anybody who is taken up after it.
func TestNobodyPassesWhoWaitedLong(t *testing.T) {
	held := 0
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		plan := Plan(s)
		endless := slices.DeleteFunc(slices.Clone(s.Running), func(r snapshot.Running) bool { return !r.Job.Endless })
		for i, d := range plan {
			if d.Start != nil && d.Job.Endless {
				endless = append(endless, snapshot.Running{Job: d.Job, Pool: d.Start.Pool, Tasks: d.Start.Tasks})
			}
			if d.Start != nil || s.Now.Sub(d.Job.QueuedAt) < HoldAfter || !full(d.Reasons) {
				continue
			}
			for _, later := range plan[i+1:] {
				if later.Start == nil || !overlap(d.Job, later.Job) {
					continue
				}
				alone := &snapshot.State{Pools: s.Pools, Running: endless, Queue: []snapshot.Job{d.Job}}
				alone.Queue[0].Pool = later.Start.Pool
				if starts(alone, d.Job.UID) && (d.Job.Pool == "" || d.Job.Pool == later.Start.Pool) {
					t.Errorf("%s has waited for %s, and %s passes it", d.Job.Ref, later.Start.Pool, later.Job.Ref)
				}
			}
			held++
		}
	})
	if held == 0 {
		t.Error("nobody had waited long")
	}
}

func full(reasons []penstock.Reason) bool {
	return slices.ContainsFunc(reasons, func(r penstock.Reason) bool { return r.Code == penstock.NoCapacity })
}

func overlap(a, b snapshot.Job) bool {
	for name, amount := range a.Total() {
		if amount > 0 && b.Total()[name] > 0 {
			return true
		}
	}
	return false
}

// TestNeverFitsIsTrue compares with what the job gets alone on the empty fleet:
// it starts there exactly if some pool didn't say NeverFits.
func TestNeverFitsIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		for _, d := range Plan(s) {
			if d.Start == nil && d.Reasons[0].Code != penstock.NeverFits && d.Reasons[0].Code != penstock.NoCapacity && d.Reasons[0].Code != penstock.BehindOthers {
				continue
			}
			never := len(d.Reasons) > 0
			for _, r := range d.Reasons {
				never = never && r.Code == penstock.NeverFits
			}
			alone := &snapshot.State{Now: s.Now, Pools: s.Pools, Queue: []snapshot.Job{d.Job}}
			if started := starts(alone, d.Job.UID); started == never {
				t.Errorf("%s: alone it starts: %v, and beside others: %v", d.Job.Ref, started, d.Reasons)
			}
		}
	})
}

// TestOneSetIsFittedExactly counts by arithmetic how many like tasks an empty
// fleet can carry: as many start, and not one more.
func TestOneSetIsFittedExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		each := tasks(t)
		for _, p := range s.Pools {
			room := 0
			for _, n := range p.Nodes {
				room += roomFor(n, each)
			}
			for _, count := range []int{room, room + 1} {
				job := snapshot.Job{UID: "j", Sets: []snapshot.Set{{Name: "w", Count: count, Each: each}}}
				alone := &snapshot.State{Pools: []snapshot.Pool{p}, Queue: []snapshot.Job{job}}
				if got, want := starts(alone, "j"), count == room; count > 0 && got != want {
					t.Errorf("%d tasks of %v on %s, which has room for %d: starts %v", count, each, p.Name, room, got)
				}
			}
		}
	})
}

func roomFor(n v1.Node, each penstock.Resources) int {
	room := 1 << 30
	for name, want := range each {
		has := n.Capacity[name]
		switch {
		case want == 0:
		case !name.Accelerator():
			room = min(room, int(has/want))
		case want >= 1000 && want%1000 != 0:
			return 0
		case want >= 1000:
			room = min(room, int(has/want))
		default:
			room = min(room, int(has/1000)*int(1000/want))
		}
	}
	return room
}

// TestFixesWork does what each fix says, as a person would, and plans again.
func TestFixesWork(t *testing.T) {
	fixes := 0
	rapid.Check(t, func(t *rapid.T) {
		s := states().Draw(t, "state")
		for _, d := range Plan(s) {
			for _, fix := range Fixes(s, d.Job.UID) {
				if d.Start != nil {
					continue // it starts anyway: explain doesn't ask
				}
				edited := s.Clone()
				follow(t, edited, fix.Command)
				fixes++
				if !slices.ContainsFunc(Plan(edited), func(n Decision) bool { return n.Job.UID == d.Job.UID && n.Start != nil }) {
					t.Errorf("%s doesn't start after %q", d.Job.Ref, fix.Command)
				}
			}
		}
	})
	if fixes == 0 {
		t.Error("no fix was tried")
	}
}

// follow does to the state what a command line would.
func follow(t *rapid.T, s *snapshot.State, command string) {
	w := strings.Fields(command)
	if w[1] == "stop" {
		s.Running = slices.DeleteFunc(s.Running, func(r snapshot.Running) bool {
			return r.Job.Ref.Name == w[2] && r.Job.Ref.Project == w[4]
		})
		return
	}
	if w[2] == "project" {
		p := s.Projects[w[3]]
		p.Quota.Nominal = p.Quota.Nominal.Plus(nil)
		for change := range strings.SplitSeq(w[5], ",") {
			name, text, _ := strings.Cut(change, "=")
			a, err := penstock.ParseAmount(penstock.Resource(name), text)
			if err != nil {
				t.Fatal(err)
			}
			p.Quota.Nominal[penstock.Resource(name)] = a
		}
		s.Projects[w[3]] = p
		return
	}
	job := &s.Queue[slices.IndexFunc(s.Queue, called(w[5]+"/"+w[3]))]
	_, value, sized := strings.Cut(w[7], "=")
	if !sized {
		value = w[7]
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(err)
	}
	if sized {
		job.Sets = slices.Clone(job.Sets)
		job.Sets[0].Count = n
	} else {
		job.Priority = n
	}
}
