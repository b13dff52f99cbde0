package place

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

const (
	// highestPriority is the most that a manifest may say.
	highestPriority = 1000
	// maxHolders is how many holders Fixes tries to do without: each is a plan.
	maxHolders = 8
)

// Holders lists the running jobs that hold some of what a queued job wants:
// who holds most of its accelerators first, then of its CPU and memory.
func Holders(s *snapshot.State, job snapshot.Job) []v1.Holder {
	var holders []v1.Holder
	for _, r := range holding(s, job) {
		holders = append(holders, v1.Holder{Job: r.Job.Ref, Holds: held(r, job), Since: r.Since, Until: r.Job.Until})
	}
	return holders
}

// holding is who Holders lists, with all that is known of each.
func holding(s *snapshot.State, job snapshot.Job) []snapshot.Running {
	var found []snapshot.Running
	most := map[penstock.UID][3]penstock.Amount{}
	for _, r := range s.Running {
		holds := held(r, job)
		if len(holds) == 0 || job.Pool != "" && r.Pool != job.Pool {
			continue
		}
		found, most[r.Job.UID] = append(found, r), leftover(holds, nil)
	}
	slices.SortFunc(found, func(a, b snapshot.Running) int {
		larger, smaller := most[b.Job.UID], most[a.Job.UID]
		return cmp.Or(slices.Compare(larger[:], smaller[:]), cmp.Compare(a.Job.UID, b.Job.UID))
	})
	return found
}

// held is what r holds of the resources that job wants.
func held(r snapshot.Running, job snapshot.Job) penstock.Resources {
	total, holds := job.Total(), penstock.Resources{}
	for _, t := range r.Tasks {
		for name, amount := range t.Resources {
			if total[name] > 0 && amount > 0 {
				holds[name] = holds[name].Add(amount)
			}
		}
	}
	return holds
}

// Fixes tries changes on copies of the state and returns those after which Plan
// starts the job: nothing is proposed that wasn't proved.
func Fixes(s *snapshot.State, uid penstock.UID) []v1.Fix {
	i := slices.IndexFunc(s.Queue, func(j snapshot.Job) bool { return j.UID == uid })
	if i < 0 {
		return nil
	}
	var fixes []v1.Fix
	for _, edit := range []func(*snapshot.State, int) (v1.Fix, bool){shrink, raiseQuota, raisePriority, stopHolder} {
		trial := s.Clone()
		if fix, ok := edit(trial, i); ok && starts(trial, uid) {
			fixes = append(fixes, fix)
		}
	}
	return fixes
}

func starts(s *snapshot.State, uid penstock.UID) bool {
	for d := range newPlanner(s).decisions() {
		if d.Job.UID == uid {
			return d.Start != nil
		}
	}
	return false
}

// shrink finds the largest gang of one task set that would start. Where one
// size starts every smaller one does: it takes less and is taken up no later.
func shrink(s *snapshot.State, i int) (v1.Fix, bool) {
	job := s.Queue[i]
	if len(job.Sets) != 1 {
		return v1.Fix{}, false
	}
	set := job.Sets[0]
	try := func(n int) bool {
		set.Count = n
		s.Queue[i].Sets = []snapshot.Set{set}
		return starts(s, job.UID)
	}
	n := sort.Search(job.Sets[0].Count-1, func(k int) bool { return !try(k + 1) })
	return v1.Fix{
		Command: fmt.Sprintf("penstock edit job %s --project %s --replicas %s=%d", job.Ref.Name, job.Ref.Project, set.Name, n),
		Effect:  fmt.Sprintf("starts now with %d of %d tasks", n, job.Sets[0].Count),
	}, n > 0 && try(n)
}

// raiseQuota makes the nominal quota as large as what the project would hold.
func raiseQuota(s *snapshot.State, i int) (v1.Fix, bool) {
	job := s.Queue[i]
	project, using, total := s.Projects[job.Ref.Project], s.View().Using(job.Ref.Project), job.Total()
	raised, changes := maps.Clone(project.Quota.Nominal), []string{}
	for _, name := range total.Names() {
		nominal, limited := raised[name]
		if need := using[name].Add(total[name]); limited && need > nominal.Add(project.Quota.Borrow[name]) {
			raised[name] = need
			changes = append(changes, string(name)+"="+name.Format(need))
		}
	}
	if len(changes) == 0 {
		return v1.Fix{}, false
	}
	project.Quota.Nominal = raised
	s.Projects[job.Ref.Project] = project
	return v1.Fix{
		Command: fmt.Sprintf("penstock edit project %s --quota %s", job.Ref.Project, strings.Join(changes, ",")),
		Effect:  "starts now; needs an admin",
	}, true
}

// raisePriority puts the job in front of those that are in its way in the queue.
func raisePriority(s *snapshot.State, i int) (v1.Fix, bool) {
	job, top := s.Queue[i], s.Queue[i].Priority
	for _, other := range s.Queue {
		top = max(top, other.Priority)
	}
	s.Queue[i].Priority = top + 1
	return v1.Fix{
		Command: fmt.Sprintf("penstock edit job %s --project %s --priority %d", job.Ref.Name, job.Ref.Project, top+1),
		Effect:  "starts now, before the others that wait",
	}, top < highestPriority
}

// stopHolder finds one running job without which it starts: of lower priority,
// or of the same project. A served model isn't one: its endpoint starts another.
func stopHolder(s *snapshot.State, i int) (v1.Fix, bool) {
	job, running := s.Queue[i], s.Running
	candidates := slices.DeleteFunc(holding(s, job), func(r snapshot.Running) bool {
		return r.Job.Endless || r.Job.Priority >= job.Priority && r.Job.Ref.Project != job.Ref.Project
	})
	for _, r := range candidates[:min(len(candidates), maxHolders)] {
		s.Running = slices.DeleteFunc(slices.Clone(running), func(o snapshot.Running) bool { return o.Job.UID == r.Job.UID })
		if starts(s, job.UID) {
			return v1.Fix{
				Command: fmt.Sprintf("penstock stop %s --project %s", r.Job.Ref.Name, r.Job.Ref.Project),
				Effect:  fmt.Sprintf("starts when %s has ended", r.Job.Ref),
			}, true
		}
	}
	return v1.Fix{}, false
}
