// Package quota is the tree of queues: what each may hold, what it lends and
// borrows, and how much of its fair share it takes.
//
// A queue draws on its own nominal quota first. What it doesn't need, and isn't
// kept back by its lending limit, the queues beside and below its parent may
// draw; what it needs beyond, it draws from there, up to its borrowing limit.
// The rules are those of Kueue's cohort trees (KEP-79, pkg/cache/scheduler
// resource_node.go), for any depth.
//
// A resource that neither a queue nor any queue above it names in its nominal
// quota isn't limited there.
package quota

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/vector"
)

// Most is the largest amount of a quota: sums of several stay exact.
const Most penstock.Amount = 1 << 52

// Unlimited, as a borrowing limit, is whatever others leave idle.
const Unlimited penstock.Amount = math.MaxInt64

// Spec is what is declared of a queue.
type Spec struct {
	Name    string
	Parent  string             // empty at the top of a tree
	Nominal penstock.Resources // its own
	Borrow  penstock.Resources // the most on top of it; one that is missing is 0
	Lend    penstock.Resources // the most of it that others may use; one that is missing is all
	Weight  int                // of its fair share beside its siblings, in thousandths; 0 is 1000
}

// Tree is all queues. It isn't safe for concurrent use.
type Tree struct {
	table  *vector.Table
	queues map[string]*Queue
	all    []*Queue // in the order in which they came
	half   time.Duration
	tick   int64 // of the history: how many grid points have passed
}

// NewTree makes an empty Tree. What a queue borrowed counts half as much after
// halfLife; with 0 it is forgotten at once.
func NewTree(table *vector.Table, halfLife time.Duration) *Tree {
	return &Tree{table: table, queues: map[string]*Queue{}, half: halfLife}
}

// Queue is one queue of a Tree.
type Queue struct {
	spec     Spec
	parent   *Queue
	children []*Queue // by name

	listed  []bool // by resource: the nominal quota names it
	bound   []bool // it, or one above, does; or one below, to whom it lends
	lends   []bool // there is a lending limit
	nominal vector.Vector
	borrow  vector.Vector
	lend    vector.Vector
	quota   vector.Vector // nominal, and what the queues below lend
	kept    vector.Vector // of quota, what nobody else may use

	books   [2]ledger
	history vector.Vector // the decayed mean of what was borrowed
}

// ledger is who holds what, in one view of time.
type ledger struct {
	own   vector.Vector // by work of the queue itself
	used  vector.Vector // and of all queues below
	drawn vector.Vector // on its quota: own, and what the queues below draw beyond what they keep
}

// Book names a ledger.
type Book int

// Now is what is held at this moment. Soon is what will be held once the work
// that was told to stop has stopped, and the work that it stops for has started.
const (
	Now Book = iota
	Soon
)

// Name is the queue's.
func (q *Queue) Name() string { return q.spec.Name }

// Parent is the queue above, or nil.
func (q *Queue) Parent() *Queue { return q.parent }

// Root is the top of the queue's tree.
func (q *Queue) Root() *Queue {
	for q.parent != nil {
		q = q.parent
	}
	return q
}

// Set declares a queue, or changes it. What it holds stays as it is: a quota
// that was lowered below it is worked off, and nothing is below 0.
func (t *Tree) Set(s Spec) (*Queue, error) {
	if err := t.check(s); err != nil {
		return nil, err
	}
	q := t.queues[s.Name]
	if q == nil {
		q = &Queue{}
		t.queues[s.Name] = q
		t.all = append(t.all, q)
	}
	old := q.parent
	if s.Weight == 0 {
		s.Weight = 1000
	}
	q.spec, q.parent = s, t.queues[s.Parent] // no queue is called ""
	if old != q.parent {
		old.drop(q)
		q.parent.adopt(q)
	}
	q.listed, q.lends, q.nominal, q.borrow, q.lend = nil, nil, nil, nil, nil
	for _, term := range t.table.Intern(s.Nominal) {
		mark(&q.listed, term.ID)
		q.nominal.Set(term.ID, term.Amount)
	}
	for _, term := range t.table.Intern(s.Borrow) {
		q.borrow.Set(term.ID, term.Amount)
	}
	for _, term := range t.table.Intern(s.Lend) {
		mark(&q.lends, term.ID)
		q.lend.Set(term.ID, term.Amount)
	}
	t.rebuild(q.Root())
	if old != nil {
		t.rebuild(old.Root())
	}
	return q, nil
}

func (t *Tree) check(s Spec) error {
	invalid := func(hint, format string, args ...any) error {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf(format, args...), Hint: hint}
	}
	if s.Name == "" || s.Weight < 0 || s.Weight > 1_000_000 {
		return invalid("name it, with a weight of 0 to 1000", "queue %q with weight %d thousandths can't be", s.Name, s.Weight)
	}
	for _, amounts := range []penstock.Resources{s.Nominal, s.Borrow, s.Lend} {
		for _, r := range amounts.Names() {
			if a := amounts[r]; a < 0 || a > Most && a != Unlimited {
				return invalid("a quota is at least 0", "queue %s: %d of %s is negative or above %d", s.Name, a, r, Most)
			}
		}
	}
	if s.Parent == "" {
		return nil
	}
	above := t.queues[s.Parent]
	if above == nil {
		return invalid("declare queues from the top", "queue %s is below %s, which doesn't exist", s.Name, s.Parent)
	}
	for ; above != nil; above = above.parent {
		if above.spec.Name == s.Name {
			return invalid("queues are a tree", "queue %s would be below itself", s.Name)
		}
	}
	return nil
}

// Remove forgets a queue that nothing is below and that holds nothing.
func (t *Tree) Remove(name string) error {
	q := t.queues[name]
	switch {
	case q == nil:
		return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no queue %s", name)}
	case len(q.children) > 0:
		return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("%d queues are below %s", len(q.children), name), Hint: "remove those first"}
	case slices.ContainsFunc(q.books[:], func(l ledger) bool { return slices.Max(append(l.own, 0)) > 0 }):
		return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("work of queue %s still runs", name), Hint: "stop it first"}
	}
	q.parent.drop(q)
	delete(t.queues, name)
	t.all = slices.DeleteFunc(t.all, func(o *Queue) bool { return o == q })
	if q.parent != nil {
		t.rebuild(q.Root())
	}
	return nil
}

func (q *Queue) drop(child *Queue) {
	if q != nil {
		q.children = slices.DeleteFunc(q.children, func(c *Queue) bool { return c == child })
	}
}

func (q *Queue) adopt(child *Queue) {
	if q != nil {
		q.children = append(q.children, child)
		slices.SortFunc(q.children, func(a, b *Queue) int { return cmp.Compare(a.spec.Name, b.spec.Name) })
	}
}

func mark(set *[]bool, id int) {
	for len(*set) <= id {
		*set = append(*set, false)
	}
	(*set)[id] = true
}

func has(set []bool, id int) bool { return id < len(set) && set[id] }

// rebuild derives everything below a queue from what was declared and from what
// each queue itself holds: after a change of quota or of the tree's shape.
func (t *Tree) rebuild(q *Queue) {
	q.bound = make([]bool, t.table.Len())
	for id := range q.bound {
		q.bound[id] = has(q.listed, id) || q.parent != nil && has(q.parent.bound, id)
	}
	for _, c := range q.children {
		t.rebuild(c)
		for id, b := range c.bound {
			q.bound[id] = q.bound[id] || b // after the queues below saw what was declared above them
		}
	}
	q.quota, q.kept = nil, nil
	for b := range q.books {
		q.books[b].used, q.books[b].drawn = nil, nil
	}
	for id := range t.table.Len() {
		q.derive(id)
	}
}

func (q *Queue) derive(id int) {
	quota := q.nominal.At(id)
	for _, c := range q.children {
		quota = quota.Add(c.quota.At(id) - c.kept.At(id))
	}
	q.quota.Set(id, quota)
	if has(q.lends, id) {
		q.kept.Set(id, max(0, quota-q.lend.At(id)))
	}
	for b := range q.books {
		l := &q.books[b]
		used := l.own.At(id)
		drawn := used
		for _, c := range q.children {
			used = used.Add(c.books[b].used.At(id))
			if has(c.bound, id) {
				drawn = drawn.Add(max(0, c.books[b].drawn.At(id)-c.kept.At(id)))
			}
		}
		l.used.Set(id, used)
		l.drawn.Set(id, drawn)
	}
}
