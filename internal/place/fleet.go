package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// fleet is a view of the pools that remembers what it answered: among thousands
// of queued jobs most are like another, and get its answer.
type fleet struct {
	view    *snapshot.View
	why     refusal
	answers map[trial]answer // since the last place
}

// refusal words why a gang didn't fit. The view still holds the tasks that did.
type refusal func(job snapshot.Job, pool snapshot.Pool, view *snapshot.View, short shortage) penstock.Reason

type trial struct{ pool, shape string }

type answer struct {
	tasks  []v1.PlacedTask // nil is no
	reason penstock.Reason
}

func newFleet(view *snapshot.View, why refusal) *fleet {
	return &fleet{view, why, map[trial]answer{}}
}

// fit finds places for a whole gang without taking them, or says why not.
func (f *fleet) fit(g gang, pool snapshot.Pool) answer {
	this := trial{pool.Name, g.shape}
	a, known := f.answers[this]
	if known {
		return a
	}
	mark := f.view.Checkpoint()
	defer f.view.Rollback(mark)
	tasks, short := fitGang(f.view, g.job, pool)
	a.tasks = tasks
	if short != nil {
		a.reason = f.why(g.job, pool, f.view, *short)
	}
	f.answers[this] = a
	return a
}

func (f *fleet) place(job snapshot.Job, pool snapshot.Pool, tasks []v1.PlacedTask) {
	f.view.Place(job.Ref.Project, pool.Name, tasks)
	clear(f.answers)
}

// gang is a job with what every trial of it asks for.
type gang struct {
	job   snapshot.Job
	wants []penstock.Resource // what it takes any of, accelerators first: they tend to be what is short
	shape string              // equal for gangs that no fleet can tell apart
}

func newGang(job snapshot.Job) gang {
	total := job.Total()
	g := gang{job: job, wants: slices.DeleteFunc(total.Names(), func(name penstock.Resource) bool { return total[name] == 0 })}
	slices.SortStableFunc(g.wants, func(a, b penstock.Resource) int { return rank(a) - rank(b) })
	var shape strings.Builder
	for _, set := range job.Sets {
		fmt.Fprintf(&shape, "%d %s", set.Count, set.Name)
		for _, name := range set.Each.Names() {
			fmt.Fprintf(&shape, " %s=%d", name, set.Each[name])
		}
		shape.WriteByte(';')
	}
	g.shape = shape.String()
	return g
}
