// Package place decides where and when queued jobs start. Plan is a pure
// function of a snapshot: production, the simulator and explain call the same.
//
// A gang is placed whole or not at all. Jobs within their project's nominal
// quota go before jobs that borrow, then higher priority, then longer waiting.
// A job that can't start doesn't hold up others, until it has waited for
// HoldAfter: from then on what it needs is kept for it, so that a stream of
// small jobs can't starve a big gang.
package place

import (
	"cmp"
	"slices"
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
	Reasons []penstock.Reason // why not, when Start is nil
}

// Start is a placement of a whole gang.
type Start struct {
	Pool  string
	Tasks []v1.PlacedTask
	Why   string
}

// Plan decides for every queued job, in the order in which they were taken up.
func Plan(s *snapshot.State) []Decision {
	p := planner{state: s, view: s.View(), held: map[hold]penstock.Ref{}}
	decisions := make([]Decision, 0, len(s.Queue))
	for _, job := range p.order() {
		decisions = append(decisions, p.decide(job))
	}
	return decisions
}

type planner struct {
	state *snapshot.State
	view  *snapshot.View
	held  map[hold]penstock.Ref // who keeps a pool's resource for itself
}

type hold struct {
	pool     string
	resource penstock.Resource
}

// order sorts the queue: nominal before borrowing, priority, age, UID. The tier
// is that of the present usage; decide checks again with what was placed since.
func (p *planner) order() []snapshot.Job {
	queue := slices.Clone(p.state.Queue)
	tier := make(map[penstock.UID]admit.Tier, len(queue))
	for _, job := range queue {
		tier[job.UID], _ = admit.Check(p.project(job), p.view.Using(job.Ref.Project), job)
	}
	slices.SortFunc(queue, func(a, b snapshot.Job) int {
		return cmp.Or(
			cmp.Compare(tier[a.UID], tier[b.UID]),
			cmp.Compare(b.Priority, a.Priority),
			a.QueuedAt.Compare(b.QueuedAt),
			cmp.Compare(a.UID, b.UID),
		)
	})
	return queue
}

func (p *planner) project(job snapshot.Job) snapshot.Project {
	return p.state.Projects[job.Ref.Project]
}

func (p *planner) decide(job snapshot.Job) Decision {
	// 1. What the job itself waits for.
	if len(job.Held) > 0 {
		return Decision{Job: job, Reasons: job.Held}
	}
	// 2. May it run?
	if _, reasons := admit.Check(p.project(job), p.view.Using(job.Ref.Project), job); len(reasons) > 0 {
		return Decision{Job: job, Reasons: reasons}
	}
	// 3. Does it fit somewhere?
	pools := p.pools(job)
	if len(pools) == 0 {
		return Decision{Job: job, Reasons: []penstock.Reason{noPool(job, p.state.Pools)}}
	}
	var reasons []penstock.Reason
	for _, pool := range pools {
		start, why := p.tryPool(job, pool)
		if start != nil {
			p.view.Place(job.Ref.Project, pool.Name, start.Tasks)
			return Decision{Job: job, Start: start}
		}
		reasons = append(reasons, why)
	}
	// 4. After long waiting, keep others from passing.
	if p.state.Now.Sub(job.QueuedAt) >= HoldAfter {
		p.hold(job, pools)
	}
	return Decision{Job: job, Reasons: reasons}
}

func (p *planner) pools(job snapshot.Job) []snapshot.Pool {
	var allowed []snapshot.Pool
	for _, pool := range p.state.Pools {
		if job.Pool == "" || job.Pool == pool.Name {
			allowed = append(allowed, pool)
		}
	}
	return allowed
}

func (p *planner) tryPool(job snapshot.Job, pool snapshot.Pool) (*Start, penstock.Reason) {
	if reason, never := neverFits(job, pool); never {
		return nil, reason
	}
	for _, name := range job.Total().Names() {
		if first, taken := p.held[hold{pool.Name, name}]; taken {
			return nil, behind(pool.Name, name, first)
		}
	}
	mark := p.view.Checkpoint()
	defer p.view.Rollback(mark)
	tasks, short := fitGang(p.view, job, pool)
	if short != nil {
		return nil, noCapacity(job, pool, p.view, *short, len(tasks))
	}
	return &Start{Pool: pool.Name, Tasks: tasks, Why: whyThere(pool, tasks)}, penstock.Reason{}
}

// hold keeps a pool's resources for a job that has waited long, where it would
// fit once the work that ends by itself has ended.
func (p *planner) hold(job snapshot.Job, pools []snapshot.Pool) {
	endless := p.state.Clone()
	endless.Running = slices.DeleteFunc(endless.Running, func(r snapshot.Running) bool { return !r.Job.Endless })
	view := endless.View()
	for _, pool := range pools {
		mark := view.Checkpoint()
		_, short := fitGang(view, job, pool)
		view.Rollback(mark)
		if short != nil {
			continue
		}
		for _, name := range job.Total().Names() {
			p.held[hold{pool.Name, name}] = job.Ref
		}
	}
}
