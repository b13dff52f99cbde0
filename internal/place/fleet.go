package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// fleet is a view of the pools that remembers for which gangs it had no room:
// among thousands of queued jobs most are like another, and get its answer.
type fleet struct {
	view *snapshot.View
	why  refusal
	no   map[trial]penstock.Reason // since the last place
}

// refusal words why a gang didn't fit. The view still holds the tasks that did.
type refusal func(job snapshot.Job, pool snapshot.Pool, view *snapshot.View, short shortage) penstock.Reason

type trial struct{ pool, shape string }

func newFleet(view *snapshot.View, why refusal) *fleet {
	return &fleet{view, why, map[trial]penstock.Reason{}}
}

// fit finds places for a whole gang without taking them, or nil and why not.
func (f *fleet) fit(g gang, pool snapshot.Pool) ([]v1.PlacedTask, penstock.Reason) {
	this := trial{pool.Name, g.shape}
	if reason, known := f.no[this]; known {
		return nil, reason
	}
	mark := f.view.Checkpoint()
	defer f.view.Rollback(mark)
	tasks, short := fitGang(f.view, g.job, pool)
	if short != nil {
		f.no[this] = f.why(g.job, pool, f.view, *short)
		return nil, f.no[this]
	}
	return tasks, penstock.Reason{}
}

func (f *fleet) place(job snapshot.Job, pool snapshot.Pool, tasks []v1.PlacedTask) {
	f.view.Place(job.Ref.Project, pool.Name, tasks)
	clear(f.no)
}

// gang is a job with what every trial of it asks for.
type gang struct {
	job   snapshot.Job
	wants []penstock.Resource // what it takes any of
	shape string              // equal for gangs that no fleet can tell apart
}

func newGang(job snapshot.Job) gang {
	total := job.Total()
	g := gang{job: job, wants: slices.DeleteFunc(total.Names(), func(name penstock.Resource) bool { return total[name] == 0 })}
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
