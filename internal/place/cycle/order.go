package cycle

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// line is a queue with who stands in it.
type line struct {
	queue  *quota.Queue
	parent *line
	strict Passing

	buckets map[standing]*bucket // found by key, never listed
	awake   heap[*bucket]        // to be taken up
	later   heap[*bucket]        // to be taken up after all who stay within their nominal quota
	kids    heap[*line]          // lines below with somebody in later, by share
	readyAt int                  // in State.ready, or -1

	kidAt    int // in parent.kids, or -1
	borrowAt int // in State.borrowers, or -1
	share    int64

	running  []*job
	census   census
	members  []*line   // of a root: all of its tree, by name
	freed    trigger   // of a root: quota came back
	loose    bool      // of a root: it did, since the last cycle
	unparked trigger   // the head of a strict line moved on
	blocked  []*bucket // of a strict line: those that were parked for want of room
	tokens   tokens
	right    right  // of the job for which victims are sought, on this line
	searched uint64 // in which search that was found
}

// Passing is whether jobs of a queue may pass those before them.
type Passing int

// Backfill lets whoever fits start. Strict lets nobody of the queue start on a
// pool on which one before them waits for room.
const (
	Backfill Passing = iota
	Strict
)

// standing is what the jobs of a bucket have in common: all that decides
// whether they can start, but for their place in the order.
type standing struct {
	shape    *shape
	priority int
	aged     bool
	limit    time.Duration
	endless  bool
}

// bucket is pending jobs of one line that are alike. Its first speaks for all.
type bucket struct {
	standing
	line *line
	jobs heap[*job]
	at   int // in line.awake or line.later, or -1
	in   where
	why  block // why the first waits, once it was taken up
	on   []listing
}

type where int

const (
	parked where = iota
	inAwake
	inLater
)

// listing is a trigger on which a bucket waits, and its place in that list.
type listing struct {
	t  *trigger
	at int
}

func newLine(q *quota.Queue) *line {
	l := &line{queue: q, buckets: map[standing]*bucket{}, readyAt: -1, kidAt: -1, borrowAt: -1}
	byHead := func(a, b *bucket) bool { return a.head().before(b.head()) }
	l.awake = heap[*bucket]{less: byHead, place: func(b *bucket, at int) { b.at = at }}
	l.later = heap[*bucket]{less: byHead, place: func(b *bucket, at int) { b.at = at }}
	l.kids = heap[*line]{less: func(a, b *line) bool { return a.turn(b) }, place: func(k *line, at int) { k.kidAt = at }}
	return l
}

func (b *bucket) head() *job { return b.jobs.top() }

// turn is the order of siblings who would borrow: those with somebody who waited
// too long, then the smaller share, then the order of their first jobs.
func (l *line) turn(o *line) bool {
	a, b := l.first(), o.first()
	if a.aged != b.aged {
		return a.aged
	}
	if l.share != o.share {
		return l.share < o.share
	}
	return a.before(b)
}

// first is who of the line, or below it, would borrow first: its own jobs go
// before those of the lines below.
func (l *line) first() *job {
	if !l.later.empty() {
		return l.later.top().head()
	}
	return l.kids.top().first()
}

func (l *line) root() *line {
	for l.parent != nil {
		l = l.parent
	}
	return l
}

// join puts a pending job into its bucket, which it wakes if it is now the first.
func (s *State) join(j *job) {
	key := standing{j.shape, j.spec.Priority, j.aged, j.spec.Limit, j.spec.Endless}
	if j.aged {
		key.priority = math.MaxInt
	}
	b := j.line.buckets[key]
	if b == nil {
		b = &bucket{standing: key, line: j.line, at: -1}
		b.jobs = heap[*job]{less: (*job).before, place: func(j *job, at int) { j.index = at }}
		j.line.buckets[key] = b
	}
	j.phase, j.bucket = pending, b
	b.jobs.push(j)
	if j.index == 0 {
		s.wake(b)
		s.moved(b)
	}
}

// leave takes a pending job out of its bucket.
func (s *State) leave(j *job) {
	b, first := j.bucket, j.index == 0
	j.bucket = nil
	s.forgo(j)
	if last := len(b.jobs.items) == 1; last {
		s.setAside(b)
		b.unlist()
		b.line.blocked = slices.DeleteFunc(b.line.blocked, func(o *bucket) bool { return o == b })
		delete(b.line.buckets, b.standing)
	}
	b.jobs.remove(j.index)
	if first && !b.jobs.empty() {
		s.moved(b)
		if !s.cycling {
			s.wake(b) // the next one waits since another time
		}
	}
	if first {
		s.fire(&b.line.unparked)
	}
}

// moved restores the order after the bucket got another first job.
func (s *State) moved(b *bucket) {
	switch b.in {
	case inAwake:
		b.line.awake.fix(b.at)
		s.ready.fix(b.line.readyAt)
	case inLater:
		b.line.later.fix(b.at)
		s.climb(b.line)
	}
}

// wake lets a bucket be taken up in this cycle, or the next.
func (s *State) wake(b *bucket) {
	if b.in == inLater {
		s.setAside(b)
	}
	if b.in == inAwake {
		return
	}
	if !s.cycling {
		for _, d := range s.allowed(b.shape) {
			d.dirty = true
		}
	}
	l := b.line
	b.in = inAwake
	l.awake.push(b)
	if l.readyAt < 0 {
		s.ready.push(l)
	} else {
		s.ready.fix(l.readyAt)
	}
}

// setAside takes a bucket out of whatever it stands in.
func (s *State) setAside(b *bucket) {
	l := b.line
	switch b.in {
	case inAwake:
		l.awakeRemove(s, b)
	case inLater:
		l.later.remove(b.at)
		s.climb(l)
	}
	b.in = parked
}

func (l *line) awakeRemove(s *State, b *bucket) {
	l.awake.remove(b.at)
	if l.awake.empty() {
		s.ready.remove(l.readyAt)
	} else {
		s.ready.fix(l.readyAt)
	}
}

// postpone lets a bucket be taken up after all who stay within their nominal quota.
func (s *State) postpone(b *bucket) {
	s.setAside(b)
	b.in = inLater
	b.line.later.push(b)
	s.climb(b.line)
}

// climb restores the order of all lines above one whose jobs or share changed.
func (s *State) climb(l *line) {
	for ; l.parent != nil; l = l.parent {
		l.share = l.queue.Share()
		h := &l.parent.kids
		switch idle := l.later.empty() && l.kids.empty(); {
		case idle && l.kidAt >= 0:
			h.remove(l.kidAt)
		case !idle && l.kidAt < 0:
			h.push(l)
		case !idle:
			h.fix(l.kidAt)
		}
	}
	switch idle := l.later.empty() && l.kids.empty(); {
	case idle && l.borrowAt >= 0:
		s.borrowers.remove(l.borrowAt)
	case !idle && l.borrowAt < 0:
		s.borrowers.push(l)
	case !idle:
		s.borrowers.fix(l.borrowAt)
	}
}

// next is whose turn it is: of all who stay within the nominal quota the first,
// then of those who would borrow the first of the queue with the least share.
func (s *State) next() *bucket {
	if !s.ready.empty() {
		return s.ready.top().awake.top()
	}
	if s.borrowers.empty() {
		return nil
	}
	l := s.borrowers.top()
	for l.later.empty() {
		l = l.kids.top()
	}
	return l.later.top()
}

// park lets a bucket wait for any of the triggers.
func (s *State) park(b *bucket, on ...*trigger) {
	s.setAside(b)
	for _, t := range on {
		if slices.ContainsFunc(b.on, func(l listing) bool { return l.t == t }) {
			continue
		}
		b.on = append(b.on, listing{t, len(t.waiting)})
		t.waiting = append(t.waiting, b)
	}
}

// fire wakes all who wait for the trigger.
func (s *State) fire(t *trigger) {
	woken := t.waiting
	t.waiting = nil
	for _, b := range woken {
		b.on = slices.DeleteFunc(b.on, func(l listing) bool { return l.t == t })
		s.wake(b)
	}
}

// fireIf is fire for those to whom it may matter.
func (s *State) fireIf(t *trigger, matters func(*bucket) bool) {
	kept := t.waiting[:0]
	for _, b := range t.waiting {
		i := slices.IndexFunc(b.on, func(l listing) bool { return l.t == t })
		if b.in == parked && !matters(b) {
			b.on[i].at = len(kept)
			kept = append(kept, b)
			continue
		}
		b.on = slices.Delete(b.on, i, i+1)
		s.wake(b)
	}
	clear(t.waiting[len(kept):])
	t.waiting = kept
}

// unlist takes a bucket off all triggers.
func (b *bucket) unlist() {
	for _, l := range b.on {
		last := len(l.t.waiting) - 1
		moved := l.t.waiting[last]
		l.t.waiting[l.at] = moved
		l.t.waiting[last] = nil
		l.t.waiting = l.t.waiting[:last]
		for i := range moved.on {
			if moved.on[i].t == l.t {
				moved.on[i].at = l.at
			}
		}
	}
	b.on = nil
}

// allowed is the desks of the pools that a shape may use, best first.
func (s *State) allowed(sh *shape) []*desk {
	if len(sh.pools) == 0 {
		return s.desks
	}
	if sh.known == len(s.desks) {
		return sh.desks // pools are never taken away
	}
	sh.desks, sh.known = nil, len(s.desks)
	for _, name := range sh.pools {
		if i, ok := slices.BinarySearchFunc(s.desks, name, byPool); ok {
			sh.desks = append(sh.desks, s.desks[i])
		}
	}
	return sh.desks
}

func byPool(d *desk, name string) int { return strings.Compare(d.pool.Name(), name) }
