package cycle

import (
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// Resume makes known a job that runs already: a State that is built anew from a
// store begins with what runs, and what was decided about it. Nothing is
// decided, and no quota asked; but a place that is taken, or isn't there, is an
// error and changes nothing.
func (s *State) Resume(spec Job, at Placement, since, saved time.Time) error {
	d, err := s.desk(at.Pool)
	if err != nil {
		return fmt.Errorf("resume job %s: %w", spec.ID, err)
	}
	if err := s.Submit(spec); err != nil {
		return err
	}
	j := s.jobs[spec.ID]
	tasks, err := s.occupy(j, d, at)
	if err != nil {
		return fmt.Errorf("resume job %s: %w", spec.ID, cleared(s, spec.ID, err))
	}
	out, now := s.out, s.now
	s.start(j, d, tasks)
	s.out, s.now = out, now
	j.since, j.saved = since, saved
	j.line.census.stale = true
	return nil
}

// cleared takes back a job that couldn't be resumed.
func cleared(s *State, id penstock.UID, err error) error {
	if again := s.Finished(id); again != nil {
		return again
	}
	return err
}

// occupy takes the room of every task, or of none.
func (s *State) occupy(j *job, d *desk, at Placement) (tasks []fleet.Task, err error) {
	defer func() {
		if err != nil {
			for i := range tasks {
				tasks[i].Give(fleet.Short)
			}
		}
	}()
	gang := &j.shape.gang
	for _, placed := range at.Tasks {
		set := slices.IndexFunc(gang.Sets, func(set fleet.Set) bool { return set.Name == placed.Set })
		if set < 0 || j.shape.foreign != "" {
			return tasks, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("it has no set %q, or wants what no node has", placed.Set)}
		}
		t, err := d.pool.Locate(gang, set, placed.Index, placed.Node, placed.Devices)
		if err != nil {
			return tasks, err
		}
		if !t.Fits() {
			return tasks, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("task %s.%d is said to run on node %s, which has no room for it", placed.Set, placed.Index, placed.Node)}
		}
		t.Take(fleet.Short)
		tasks = append(tasks, t)
	}
	if len(tasks) != gang.Size {
		return tasks, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("%d of its %d tasks are said to run", len(tasks), gang.Size)}
	}
	return tasks, nil
}
