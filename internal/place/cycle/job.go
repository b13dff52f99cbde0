package cycle

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
)

// Job is a gang that is submitted to a queue.
type Job struct {
	ID       penstock.UID
	Ref      penstock.Ref // for people
	Queue    string
	Priority int // higher goes first
	QueuedAt time.Time
	Pools    []string // the pools allowed, best first; empty is any
	Sets     []Set
	Together fleet.Topology // for all sets
	// Limit is after what time it ends, or is ended, at the latest; 0 is unknown.
	Limit time.Duration
	// Endless work gives its devices back only when told to.
	Endless bool
	// Keeps is work that never gives way to others.
	Keeps bool
	// Restart is what it costs to start it again, beside lost work; 0 is the policy's.
	Restart time.Duration
}

// Set is a number of like tasks.
type Set struct {
	Name     string
	Count    int
	Each     penstock.Resources
	Topology fleet.Topology
}

// phase is where a job stands.
type phase int

const (
	pending  phase = iota
	promised       // a place is being freed for it
	running
	stopping // it was told to give way, and holds what it has until it has gone
)

// job is a Job with where it stands.
type job struct {
	spec   Job
	shape  *shape
	line   *line
	phase  phase
	aged   bool
	bucket *bucket // pending
	index  int     // in the bucket's heap; promised: in that of the State
	timer  *timer
	retry  time.Time // when somebody may give way for it who may not yet; zero is never

	desk      *desk
	tasks     []fleet.Task
	since     time.Time // running: from when; promised: since when
	saved     time.Time // when its work was last safe
	slot      int       // in desk.running
	lineSlot  int       // in line.running
	giveWayTo *job      // stopping
	owed      int       // how many were told to go for it, and haven't yet
}

// before is the order of turn within a tier: those that waited too long,
// priority, age, name.
func (j *job) before(o *job) bool {
	if j.aged != o.aged {
		return j.aged
	}
	if j.spec.Priority != o.spec.Priority && !j.aged {
		return j.spec.Priority > o.spec.Priority
	}
	if c := j.spec.QueuedAt.Compare(o.spec.QueuedAt); c != 0 {
		return c < 0
	}
	return j.spec.ID < o.spec.ID
}

// until is when a running job has ended at the latest; not ok is unknown.
func (j *job) until() (end time.Time, ok bool) {
	return j.since.Add(j.spec.Limit), j.spec.Limit > 0 && !j.spec.Endless
}

// shape is what placing a job depends on. Jobs of one shape share every answer.
type shape struct {
	key     string
	jobs    int // that have it
	pools   []string
	desks   []*desk // of those that are known
	known   int     // how many there were when desks was made
	gang    fleet.Gang
	heft    penstock.Amount // what it weighs when it must give way
	each    []penstock.Resources
	foreign penstock.Resource // a resource that nobody has; empty if there is none
	memos   []memo
}

// memo is what was last answered for a shape on a pool.
type memo struct {
	desk        *desk
	short, long uint64 // no room since that many releases, for either face; 0 is unknown
	holds       uint64 // for the long face: beside that hold
	cycle       uint64 // when short was found: the figures of lack are of that time
	lack        fleet.Shortage
	never       bool
	checked     uint64 // the pool's version for never, plus one
	neverLack   fleet.Shortage
}

func (s *shape) memo(d *desk) *memo {
	for i := range s.memos {
		if s.memos[i].desk == d {
			return &s.memos[i]
		}
	}
	s.memos = append(s.memos, memo{desk: d})
	return &s.memos[len(s.memos)-1]
}

// mostTasks is the largest gang; one beyond it is a slip of the pen.
const mostTasks = 1 << 20

func (j *Job) check() error {
	invalid := func(format string, args ...any) error {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("job %s: %s", j.ID, fmt.Sprintf(format, args...))}
	}
	tasks := 0
	for i, set := range j.Sets {
		if set.Count < 1 || set.Count > mostTasks {
			return invalid("set %s has %d tasks; it takes 1 to %d", set.Name, set.Count, mostTasks)
		}
		if slices.ContainsFunc(j.Sets[:i], func(o Set) bool { return o.Name == set.Name }) {
			return invalid("set %s is there twice", set.Name)
		}
		tasks += set.Count
	}
	switch {
	case j.ID == "":
		return invalid("it has no ID")
	case tasks == 0 || tasks > mostTasks:
		return invalid("it has %d tasks; a gang has 1 to %d", tasks, mostTasks)
	case j.Limit < 0 || j.Restart < 0:
		return invalid("a time of it is below 0: limit %s, restart %s", j.Limit, j.Restart)
	}
	return nil
}

// key is equal for jobs that no fleet can tell apart.
func (j *Job) key() string {
	b := make([]byte, 0, 128)
	word := func(s string) { b = append(strconv.AppendInt(b, int64(len(s)), 10), ':'); b = append(b, s...) }
	figure := func(n int64) { b = append(strconv.AppendInt(b, n, 10), ' ') }
	near := func(t fleet.Topology) { word(t.Level); figure(int64(t.Mode)) }
	for _, p := range j.Pools {
		word(p)
	}
	near(j.Together)
	for _, set := range j.Sets {
		b = append(b, ';')
		word(set.Name)
		figure(int64(set.Count))
		near(set.Topology)
		for _, r := range set.Each.Names() {
			word(string(r))
			figure(int64(set.Each[r]))
		}
	}
	return string(b)
}

// shapeOf finds the job's shape, or makes it.
func (s *State) shapeOf(j *Job) (*shape, error) {
	key := j.key()
	if known := s.shapes[key]; known != nil {
		return known, nil
	}
	sh := &shape{key: key, pools: slices.Clone(j.Pools), gang: fleet.Gang{Together: j.Together}}
	sets := slices.Clone(j.Sets)
	slices.SortStableFunc(sets, func(a, b Set) int { return cmp.Compare(weight(b), weight(a)) })
	for _, set := range sets {
		sh.gang.Sets = append(sh.gang.Sets, fleet.Set{Name: set.Name, Count: set.Count, Topology: set.Topology})
		sh.gang.Size += set.Count
		sh.each = append(sh.each, set.Each)
	}
	if err := s.compile(sh); err != nil {
		return nil, err
	}
	s.shapes[key] = sh
	if sh.foreign != "" {
		s.foreign = append(s.foreign, sh)
	}
	return sh, nil
}

// compile reads what the sets ask for in the numbers of the fleet.
func (s *State) compile(sh *shape) error {
	sh.foreign, sh.memos = "", nil
	total := penstock.Resources{}
	for i := range sh.gang.Sets {
		set := &sh.gang.Sets[i]
		want, foreign, err := s.fleet.Compile(sh.each[i])
		if err != nil {
			return err
		}
		if foreign != "" && sh.foreign == "" {
			sh.foreign = foreign
		}
		set.Want = want
		total = total.Plus(sh.each[i].Times(set.Count))
	}
	sh.gang.Total, _ = s.table.Sum(total)
	sh.heft = s.heft(sh.gang.Total)
	return nil
}

// weight orders sets for placing: a task with many devices, and then one with
// much CPU, has fewer places to go to.
func weight(s Set) int64 {
	var devices penstock.Amount
	for name, a := range s.Each {
		if name.Accelerator() {
			devices = devices.Add(max(0, a))
		}
	}
	return int64(min(devices, math.MaxInt32))<<31 + int64(min(max(0, s.Each[penstock.CPU]), math.MaxInt32))
}

// drop forgets a shape that nobody has any more.
func (s *State) drop(sh *shape) {
	if sh.jobs--; sh.jobs > 0 {
		return
	}
	delete(s.shapes, sh.key)
	if sh.foreign != "" {
		s.foreign = slices.DeleteFunc(s.foreign, func(o *shape) bool { return o == sh })
	}
}
