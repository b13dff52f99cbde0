package place

import (
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// Holders lists the running jobs that hold some of what a queued job wants, the
// largest share of its first scarce resource first.
func Holders(s *snapshot.State, job snapshot.Job) []v1.Holder {
	var holders []v1.Holder
	total := job.Total()
	for _, r := range s.Running {
		if job.Pool != "" && r.Pool != job.Pool {
			continue
		}
		holds := penstock.Resources{}
		for _, t := range r.Tasks {
			for name, amount := range t.Resources {
				if total[name] > 0 {
					holds[name] = holds[name].Add(amount)
				}
			}
		}
		if len(holds) > 0 {
			holders = append(holders, v1.Holder{Job: r.Job.Ref, Holds: holds, Since: r.Since, Until: r.Job.Until})
		}
	}
	slices.SortStableFunc(holders, func(a, b v1.Holder) int {
		for _, name := range total.Names() {
			if d := b.Holds[name] - a.Holds[name]; d != 0 {
				return int(max(-1, min(1, d)))
			}
		}
		return 0
	})
	return holders
}

// Fixes tries changes on copies of the state and returns those after which Plan
// starts the job: nothing is proposed that wasn't proved.
func Fixes(s *snapshot.State, uid penstock.UID) []v1.Fix {
	i := slices.IndexFunc(s.Queue, func(j snapshot.Job) bool { return j.UID == uid })
	if i < 0 {
		return nil
	}
	job := s.Queue[i]
	var fixes []v1.Fix
	for _, edit := range []func(*snapshot.State, int) (v1.Fix, bool){shrink, raiseQuota, raisePriority, stopHolder} {
		trial := s.Clone()
		if fix, ok := edit(trial, i); ok && starts(trial, job.UID) {
			fixes = append(fixes, fix)
		}
	}
	return fixes
}

func starts(s *snapshot.State, uid penstock.UID) bool {
	for _, d := range Plan(s) {
		if d.Job.UID == uid {
			return d.Start != nil
		}
	}
	return false
}

// shrink finds the largest gang of one task set that would start.
func shrink(s *snapshot.State, i int) (v1.Fix, bool) {
	job := s.Queue[i]
	if len(job.Sets) != 1 {
		return v1.Fix{}, false
	}
	set := job.Sets[0]
	for n := set.Count - 1; n > 0; n-- {
		set.Count = n
		s.Queue[i].Sets = []snapshot.Set{set}
		if starts(s, job.UID) {
			return v1.Fix{
				Command: fmt.Sprintf("penstock edit job %s --project %s --replicas %s=%d", job.Ref.Name, job.Ref.Project, set.Name, n),
				Effect:  fmt.Sprintf("starts now with %d of %d tasks", n, job.Sets[0].Count),
			}, true
		}
	}
	return v1.Fix{}, false
}

func raiseQuota(s *snapshot.State, i int) (v1.Fix, bool) {
	job := s.Queue[i]
	project, using := s.Projects[job.Ref.Project], s.View().Using(job.Ref.Project)
	raised, text := penstock.Resources{}, ""
	for name, nominal := range project.Quota.Nominal {
		raised[name] = nominal
	}
	total := job.Total()
	for _, name := range total.Names() {
		nominal, limited := raised[name]
		if need := using[name].Add(total[name]); limited && need > nominal.Add(project.Quota.Borrow[name]) {
			raised[name] = need
			text += fmt.Sprintf(" %s=%s", name, name.Format(need))
		}
	}
	if text == "" {
		return v1.Fix{}, false
	}
	project.Quota.Nominal = raised
	s.Projects[job.Ref.Project] = project
	return v1.Fix{
		Command: fmt.Sprintf("penstock edit project %s --quota%s", job.Ref.Project, text),
		Effect:  "starts now; needs an operator",
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
	}, true
}

// stopHolder finds one running job of lower priority without which it starts.
func stopHolder(s *snapshot.State, i int) (v1.Fix, bool) {
	job, running := s.Queue[i], s.Running
	for k, r := range running {
		if r.Job.Priority >= job.Priority && r.Job.Ref.Project != job.Ref.Project {
			continue
		}
		s.Running = slices.Delete(slices.Clone(running), k, k+1)
		if starts(s, job.UID) {
			return v1.Fix{
				Command: fmt.Sprintf("penstock stop job %s --project %s", r.Job.Ref.Name, r.Job.Ref.Project),
				Effect:  fmt.Sprintf("starts when %s has ended", r.Job.Ref),
			}, true
		}
	}
	return v1.Fix{}, false
}
