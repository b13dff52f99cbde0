package cycle

import (
	"strings"

	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

func compare(a, b string) int { return strings.Compare(a, b) }

// start lets a job run where its tasks were placed. Their room is taken already.
func (s *State) start(j *job, d *desk, tasks []fleet.Task) {
	if j.phase == pending {
		s.leave(j)
		j.line.queue.Take(quota.Soon, j.shape.gang.Total)
	}
	j.line.queue.Take(quota.Now, j.shape.gang.Total)
	j.phase, j.desk, j.tasks, j.since, j.saved = running, d, tasks, s.now, s.now
	j.unset(s)
	j.slot, j.lineSlot = len(d.running), len(j.line.running)
	d.running = append(d.running, j)
	d.starts++
	j.line.enlist(j)
	for i := range tasks {
		s.visit(j, &tasks[i])
	}
	s.shared(j.line)
	s.out = append(s.out, Decision{Verdict: Start, Job: j.spec.ID, Placement: j.placement()})
}

// visit notes that a job holds something of a node.
func (s *State) visit(j *job, t *fleet.Task) {
	at := &s.guests[t.Node.Number()]
	if last := len(*at) - 1; last < 0 || (*at)[last] != j { // tasks of a node mostly come in a row
		for _, o := range *at {
			if o == j {
				return
			}
		}
		*at = append(*at, j)
	}
}

// shared restores the order of lines after what one holds changed.
func (s *State) shared(l *line) {
	if !s.borrowers.empty() {
		s.climb(l)
	}
}

// vacate takes everything from a job that it holds, waits in or was promised.
func (s *State) vacate(j *job) {
	switch j.phase {
	case pending:
		s.leave(j)
		return
	case promised:
		s.renege(j)
		return
	}
	total, d := j.shape.gang.Total, j.desk
	j.line.queue.Give(quota.Now, total)
	if j.phase == running {
		j.line.queue.Give(quota.Soon, total)
	}
	s.unslot(j)
	for i := range j.tasks {
		t := &j.tasks[i]
		s.unvisit(j, t.Node.Number()) // before a lost node's number is another's
		t.Give(fleet.Short)
		t.Node.Forget()
	}
	if j.giveWayTo != nil {
		j.giveWayTo.owed--
	}
	j.desk, j.tasks, j.giveWayTo = nil, nil, nil
	s.shared(j.line)
	s.release(d)
	j.line.root().loose = true
}

func (s *State) unvisit(j *job, node int) {
	at := s.guests[node]
	for i, o := range at {
		if o == j {
			last := len(at) - 1
			at[i], at[last] = at[last], nil
			s.guests[node] = at[:last]
			return
		}
	}
}

func (s *State) unslot(j *job) {
	r := j.desk.running
	last := len(r) - 1
	r[j.slot] = r[last]
	r[j.slot].slot = j.slot
	r[last] = nil
	j.desk.running = r[:last]

	r = j.line.running
	last = len(r) - 1
	r[j.lineSlot] = r[last]
	r[j.lineSlot].lineSlot = j.lineSlot
	r[last] = nil
	j.line.running = r[:last]
	j.line.census.stale = last > 0
}
