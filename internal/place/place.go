// Package place decides where and when queued jobs start. Plan is a pure
// function of a snapshot: production, the simulator and explain call the same.
//
// A gang is placed whole or not at all. Jobs within their project's nominal
// quota go before jobs that borrow, then higher priority, then longer waiting.
// A job that can't start doesn't hold up others, until it has waited for
// HoldAfter: from then on what it needs is kept for it, so that a stream of
// small jobs can't starve a big gang.
//
// Gangs are fitted largest task first, each on the node that it fills most.
// That is exact for gangs of one task set. A gang of several sets that only a
// cleverer arrangement would fit is refused.
package place

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/admit"
	"github.com/penstock/penstock/internal/snapshot"
)

// HoldAfter is how long a job waits before others may no longer pass it on the
// pools and resources that it waits for.
const HoldAfter = 2 * time.Minute

// Decision is what Plan says of one queued job: start it there, or Reasons.
type Decision struct {
	Job     snapshot.Job
	Start   *Start
	Reasons []penstock.Reason // why not, when Start is nil; one at least
}

// Start is a placement of a whole gang.
type Start struct {
	Pool  string
	Tasks []v1.PlacedTask // by rank
	Why   string
}

// Plan decides for every queued job, in the order in which they were taken up.
// It depends on what is in the snapshot, and not on the order of its lists.
func Plan(s *snapshot.State) []Decision {
	return slices.AppendSeq(make([]Decision, 0, len(s.Queue)), newPlanner(s).decisions())
}

type planner struct {
	state   *snapshot.State
	pools   []snapshot.Pool       // by name, and their nodes too
	now     *fleet                // beside what runs, and what this plan starts
	lasting *fleet                // beside what doesn't end by itself
	empty   *fleet                // beside nothing
	kept    map[hold]penstock.Ref // who keeps a pool's resource for itself
}

type hold struct {
	pool     string
	resource penstock.Resource
}

func newPlanner(s *snapshot.State) *planner {
	lasting := *s
	lasting.Running = slices.DeleteFunc(slices.Clone(s.Running), func(r snapshot.Running) bool { return !r.Job.Endless })
	nothing := &snapshot.State{Pools: s.Pools}
	return &planner{
		state: s, pools: inOrder(s.Pools), kept: map[hold]penstock.Ref{},
		now: newFleet(s.View(), noCapacity), lasting: newFleet(lasting.View(), noCapacity), empty: newFleet(nothing.View(), neverFits),
	}
}

// inOrder sorts copies of the pools and their nodes by name.
func inOrder(pools []snapshot.Pool) []snapshot.Pool {
	sorted := slices.Clone(pools)
	slices.SortFunc(sorted, func(a, b snapshot.Pool) int { return strings.Compare(a.Name, b.Name) })
	for i := range sorted {
		sorted[i].Nodes = slices.Clone(sorted[i].Nodes)
		slices.SortFunc(sorted[i].Nodes, func(a, b v1.Node) int { return strings.Compare(a.Name, b.Name) })
	}
	return sorted
}

// decisions takes the queue up in turn. Whoever would borrow, beside what was
// started already, comes after everybody who stays within the nominal quota.
func (p *planner) decisions() iter.Seq[Decision] {
	return func(yield func(Decision) bool) {
		var borrowers []snapshot.Job
		for _, job := range inTurn(p.state.Queue) {
			tier, reasons := p.admit(job)
			if tier == admit.Borrowed {
				borrowers = append(borrowers, job)
				continue
			}
			if !yield(p.decide(job, reasons)) {
				return
			}
		}
		for _, job := range borrowers {
			_, reasons := p.admit(job)
			if !yield(p.decide(job, reasons)) {
				return
			}
		}
	}
}

// inTurn sorts a copy of the queue: priority, age, UID.
func inTurn(queue []snapshot.Job) []snapshot.Job {
	return slices.SortedFunc(slices.Values(queue), func(a, b snapshot.Job) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.QueuedAt.Compare(b.QueuedAt), cmp.Compare(a.UID, b.UID))
	})
}

// admit asks what the job itself waits for, and whether it may run.
func (p *planner) admit(job snapshot.Job) (admit.Tier, []penstock.Reason) {
	if len(job.Held) > 0 {
		return admit.Nominal, job.Held
	}
	return admit.Check(p.state.Projects[job.Ref.Project], p.now.view.Using(job.Ref.Project), job)
}

// decide places an admitted job, or says why there is no place.
func (p *planner) decide(job snapshot.Job, reasons []penstock.Reason) Decision {
	if len(reasons) > 0 {
		return Decision{Job: job, Reasons: reasons}
	}
	gang := newGang(job)
	pools := p.allowed(job)
	if len(pools) == 0 {
		return Decision{Job: job, Reasons: []penstock.Reason{noPool(job, p.pools)}}
	}
	for _, pool := range pools {
		a := p.tryPool(gang, pool)
		if a.tasks != nil {
			p.start(job, pool, a.tasks)
			return Decision{Job: job, Start: &Start{Pool: pool.Name, Tasks: a.tasks, Why: whyThere(pool, a.tasks)}}
		}
		reasons = append(reasons, a.reason)
	}
	if p.state.Now.Sub(job.QueuedAt) >= HoldAfter {
		p.keep(gang, pools)
	}
	return Decision{Job: job, Reasons: reasons}
}

func (p *planner) allowed(job snapshot.Job) []snapshot.Pool {
	if job.Pool == "" {
		return p.pools
	}
	for i, pool := range p.pools {
		if pool.Name == job.Pool {
			return p.pools[i : i+1]
		}
	}
	return nil
}

func (p *planner) tryPool(g gang, pool snapshot.Pool) answer {
	if a := p.empty.fit(g, pool); a.tasks == nil {
		return a
	}
	for _, name := range g.wants {
		if first, taken := p.kept[hold{pool.Name, name}]; taken {
			return answer{reason: behind(g.job, pool.Name, name, first)}
		}
	}
	return p.now.fit(g, pool)
}

func (p *planner) start(job snapshot.Job, pool snapshot.Pool, tasks []v1.PlacedTask) {
	p.now.place(job, pool, tasks)
	if job.Endless {
		p.lasting.place(job, pool, tasks)
	}
}

// keep keeps a pool's resources for a gang that has waited long, where it would
// fit once the work that ends by itself has ended. Who came first keeps first.
func (p *planner) keep(g gang, pools []snapshot.Pool) {
	for _, pool := range pools {
		open := slices.DeleteFunc(slices.Clone(g.wants), func(name penstock.Resource) bool {
			_, taken := p.kept[hold{pool.Name, name}]
			return taken
		})
		if len(open) == 0 {
			continue
		}
		if p.lasting.fit(g, pool).tasks == nil {
			continue
		}
		for _, name := range open {
			p.kept[hold{pool.Name, name}] = g.job.Ref
		}
	}
}
