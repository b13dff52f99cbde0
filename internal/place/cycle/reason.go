package cycle

import (
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// gate is where a job was held back.
type gate int

const (
	open gate = iota
	overQuota
	noPool
	foreign  // it wants what nobody has
	tooLarge // it would not fit if nothing else ran
	noRoom
	behindHold // there is room, but it is kept
	passed     // its queue lets nobody pass, and one before it waits
	freeing    // its place is promised, and others still have to go
)

// capacity says whether it was room that was missing.
func (g gate) capacity() bool { return g == noRoom || g == behindHold || g == passed }

// block is why a job didn't start, in numbers. It's worded only for who asks.
type block struct {
	gate  gate
	desk  *desk
	queue *quota.Queue // overQuota: whose limit it is
	id    int          // overQuota: of which resource

	want, have, limit, short penstock.Amount
	lack                     fleet.Shortage
	of                       penstock.UID // who is before it
	at                       time.Time    // behindHold: when that one starts, if known
	known                    bool
	never                    bool // overQuota: even if nobody else held anything
}

// closer says whether the answer of one pool is nearer to a yes than another.
func (b block) closer(than block) bool {
	if b.gate != than.gate {
		return b.gate > than.gate && than.gate == tooLarge
	}
	return b.gate == noRoom && b.lack.Placed > than.lack.Placed
}

// Why is why a job doesn't run, as the last Cycle found it; nil for one that
// runs, and for one that no Cycle has taken up yet.
func (s *State) Why(id penstock.UID) *penstock.Reason {
	j := s.jobs[id]
	switch {
	case j == nil || j.phase == running || j.phase == stopping:
		return nil
	case j.phase == promised:
		r := s.reason(j, block{gate: freeing, desk: j.desk})
		return &r
	case j.bucket.why.gate == open:
		return nil
	}
	r := s.reason(j, j.bucket.why)
	return &r
}

// reason words why a job waits.
func (s *State) reason(j *job, b block) penstock.Reason {
	switch b.gate {
	case overQuota:
		return s.quotaReason(j, b)
	case noPool:
		return penstock.Because(penstock.NoPool, penstock.Change, "none of the pools %v exists", j.shape.pools)
	case foreign:
		return penstock.Because(penstock.NeverFits, penstock.Change, "no node has any %s", j.shape.foreign)
	case tooLarge, noRoom:
		return s.roomReason(j, b)
	case behindHold:
		when := "as soon as there is enough of it"
		if b.known {
			when = "at " + b.at.UTC().Format(time.RFC3339)
		}
		return penstock.Because(penstock.BehindOthers, penstock.Wait, "room in pool %s is kept for %s, which starts %s", b.desk.pool.Name(), s.who(j, b.of), when)
	case passed:
		return penstock.Because(penstock.BehindOthers, penstock.Wait, "queue %s lets nobody pass, and %s waits for room in pool %s",
			j.spec.Queue, s.who(j, b.of), b.desk.pool.Name())
	}
	return penstock.Because(penstock.NoCapacity, penstock.Wait, "its place in pool %s is kept for it; %d jobs that give way still hold some of it", b.desk.pool.Name(), j.owed).
		With("jobs", int64(j.owed))
}

func (s *State) quotaReason(j *job, b block) penstock.Reason {
	name, class := s.table.Name(b.id), penstock.Wait
	if b.never {
		class = penstock.Ask // no waiting makes it fit
	}
	return penstock.Because(penstock.QuotaExhausted, class, "queue %s: %s of %s %s is taken; the job wants %s, %s more than is left",
		b.queue.Name(), name.Short(b.have), name.Short(b.limit), name, name.Short(b.want), name.Short(b.short)).
		With("want", int64(b.want)).With("using", int64(b.have)).With("limit", int64(b.limit)).With("short", int64(b.short))
}

func (s *State) roomReason(j *job, b block) penstock.Reason {
	gang, pool := &j.shape.gang, b.desk.pool.Name()
	code, class, when := penstock.NoCapacity, penstock.Wait, "now"
	if b.gate == tooLarge {
		code, class, when = penstock.NeverFits, penstock.Change, "when nothing else runs"
	}
	set := &gang.Sets[b.lack.Set]
	var text string
	switch {
	case b.lack.Level != "":
		text = fmt.Sprintf("no %s of it has room for %d %s tasks together %s: at most for %d", b.lack.Level, set.Count, set.Name, when, b.lack.Widest)
	case b.lack.Total:
		name := s.table.Name(b.lack.Resource)
		text = fmt.Sprintf("%s %s wanted, %s free in all", name.Short(b.lack.Want), name, name.Short(b.lack.Free))
	default:
		text = fmt.Sprintf("room for %d of the gang's %d tasks %s", b.lack.Placed, gang.Size, when)
		if b.lack.Want > 0 {
			name := s.table.Name(b.lack.Resource)
			text += fmt.Sprintf("; the next %s task wants %s %s, at most %s is left on one node (%s in all)", set.Name, name.Short(b.lack.Want), name, name.Short(b.lack.Most), name.Short(b.lack.Free))
		}
	}
	return penstock.Because(code, class, "pool %s: %s", pool, text).
		With("fit", int64(b.lack.Placed)).With("want", int64(gang.Size))
}

// who names another job, unless it's of another queue: that is nobody's business.
func (s *State) who(j *job, id penstock.UID) string {
	o := s.jobs[id]
	switch {
	case o == nil:
		return "a job that is gone"
	case o.spec.Queue != j.spec.Queue:
		return "a job of another queue"
	}
	return string(id)
}

func amountOf(sum vector.Sum, id int) penstock.Amount {
	for _, t := range sum {
		if t.ID == id {
			return t.Amount
		}
	}
	return 0
}
