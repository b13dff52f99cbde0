package cycle

import (
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// Submit lets a job queue. What is nonsense in it is an error; what just can't
// start now, or ever, is said by the next Cycle.
func (s *State) Submit(spec Job) error {
	if err := spec.check(); err != nil {
		return err
	}
	l := s.lines[spec.Queue]
	switch {
	case l == nil:
		return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("job %s: there is no queue %q", spec.ID, spec.Queue)}
	case s.jobs[spec.ID] != nil:
		return &penstock.Error{Code: penstock.Exists, Msg: fmt.Sprintf("job %s was submitted before", spec.ID)}
	}
	sh, err := s.shapeOf(&spec)
	if err != nil {
		return fmt.Errorf("submit job %s: %w", spec.ID, err)
	}
	sh.jobs++
	j := &job{spec: spec, shape: sh, line: l}
	s.jobs[spec.ID] = j
	s.join(j)
	return nil
}

// Finished forgets a job, wherever it stands: it ended, or was taken back.
func (s *State) Finished(id penstock.UID) error {
	j := s.jobs[id]
	if j == nil {
		return unknownJob(id)
	}
	s.vacate(j)
	delete(s.jobs, id)
	s.drop(j.shape)
	j.unset(s)
	return nil
}

// Requeued lets a job that ran queue again, in its old place in the order: it
// gave way, its node was lost, or it couldn't be started.
func (s *State) Requeued(id penstock.UID) error {
	j := s.jobs[id]
	switch {
	case j == nil:
		return unknownJob(id)
	case j.phase != running && j.phase != stopping:
		return &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("job %s doesn't run", id)}
	}
	s.vacate(j)
	s.join(j)
	return nil
}

// Saved tells that a running job's work up to a time is safe: less is lost if it
// gives way.
func (s *State) Saved(id penstock.UID, at time.Time) error {
	j := s.jobs[id]
	if j == nil {
		return unknownJob(id)
	}
	if at.After(j.saved) {
		j.saved = at
	}
	return nil
}

func unknownJob(id penstock.UID) error {
	return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no job %s", id)}
}

// SetQueue declares a queue, or changes its quota or place in the tree.
func (s *State) SetQueue(spec quota.Spec, passing Passing) error {
	numbers := s.table.Len()
	q, err := s.tree.Set(spec)
	if err != nil {
		return err
	}
	l := s.lines[spec.Name]
	if l == nil {
		l = newLine(q)
		s.lines[spec.Name] = l
		i, _ := slices.BinarySearchFunc(s.order, spec.Name, func(l *line, n string) int { return compare(l.queue.Name(), n) })
		s.order = slices.Insert(s.order, i, l)
	}
	l.strict = passing
	var above *line
	if q.Parent() != nil {
		above = s.lines[q.Parent().Name()]
	}
	if l.parent != above {
		s.uproot(l)
		l.parent = above
	}
	s.regroup()
	s.learned(numbers)
	for _, other := range s.order { // of this tree and of the one that it came from
		s.fire(&other.freed)
		s.fire(&other.unparked)
	}
	return nil
}

// regroup lists the lines of every tree at its root.
func (s *State) regroup() {
	for _, l := range s.order {
		l.members = nil
	}
	for _, l := range s.order {
		root := l.root()
		root.members = append(root.members, l)
	}
}

// uproot takes what would borrow of a line, and below, out of its old tree; all
// of that is taken up again.
func (s *State) uproot(l *line) {
	for !l.later.empty() {
		s.wake(l.later.top())
	}
	for !l.kids.empty() {
		s.uproot(l.kids.top())
	}
	s.climb(l)
}

// RemoveQueue forgets a queue that no job is in and no queue below.
func (s *State) RemoveQueue(name string) error {
	l := s.lines[name]
	if l != nil && (len(l.buckets) > 0 || len(l.running) > 0 || slices.ContainsFunc(s.granted.items, func(j *job) bool { return j.line == l })) {
		return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("queue %s still has jobs", name), Hint: "let them end, or take them back"}
	}
	if err := s.tree.Remove(name); err != nil {
		return err
	}
	delete(s.lines, name)
	s.order = slices.DeleteFunc(s.order, func(o *line) bool { return o == l })
	s.regroup()
	for _, other := range s.order {
		s.fire(&other.freed)
	}
	return nil
}

// SetPool declares a pool and its levels of topology, widest first.
func (s *State) SetPool(name string, levels ...string) error {
	p, err := s.fleet.SetPool(name, levels)
	if err != nil {
		return err
	}
	i, known := slices.BinarySearchFunc(s.desks, name, byPool)
	if !known {
		s.desks = slices.Insert(s.desks, i, &desk{pool: p, rooms: 1, holds: 1})
		s.fire(&s.unknown)
		for _, d := range s.desks {
			s.fire(&d.changed) // any pool will do for who waits for those
		}
	}
	return nil
}

// SetNode adds a node to a pool, or changes it. What runs there goes on.
func (s *State) SetNode(pool string, spec fleet.Spec) error {
	d, err := s.desk(pool)
	if err != nil {
		return err
	}
	numbers := s.table.Len()
	if err := d.pool.SetNode(spec); err != nil {
		return err
	}
	for len(s.guests) < s.fleet.Numbers() {
		s.guests = append(s.guests, nil)
	}
	s.learned(numbers)
	s.release(d)
	s.fire(&d.changed)
	return nil
}

// RemoveNode forgets a node. Jobs that had tasks there run on until somebody
// says what became of them.
func (s *State) RemoveNode(pool, name string) error {
	d, err := s.desk(pool)
	if err != nil {
		return err
	}
	if err := d.pool.RemoveNode(name); err != nil {
		return err
	}
	s.release(d) // what was kept there must be sought elsewhere
	s.fire(&d.changed)
	return nil
}

func (s *State) desk(pool string) (*desk, error) {
	i, known := slices.BinarySearchFunc(s.desks, pool, byPool)
	if !known {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no pool %q", pool)}
	}
	return s.desks[i], nil
}

// learned reads shapes again that named a resource which nobody had.
func (s *State) learned(before int) {
	if s.table.Len() == before {
		return
	}
	again := s.foreign
	s.foreign = nil
	for _, sh := range again {
		if err := s.compile(sh); err != nil || sh.foreign != "" {
			s.foreign = append(s.foreign, sh)
		}
	}
	s.fire(&s.unknown)
}

// release notes that a pool has, or may have, more room than before.
func (s *State) release(d *desk) {
	d.rooms++
	d.dirty, d.loose = true, true
}
