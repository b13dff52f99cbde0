// Package vector keeps amounts of many resources as dense arrays: each resource
// gets a small number once, and a ledger is a slice indexed by it. That is what
// makes a cycle over hundreds of thousands of jobs cheap, and free of the order
// of maps.
package vector

import (
	"github.com/penstock/penstock"
)

// Table numbers resources. A number is never given twice and never taken back,
// so only what the fleet or a quota names is numbered: what a job asks for may
// be any nonsense.
type Table struct {
	ids   map[penstock.Resource]int
	names []penstock.Resource
}

// The numbers of CPU and memory in every Table.
const (
	CPU = iota
	Memory
)

// NewTable makes a Table of CPU and memory.
func NewTable() *Table {
	return &Table{
		ids:   map[penstock.Resource]int{penstock.CPU: CPU, penstock.Memory: Memory},
		names: []penstock.Resource{penstock.CPU, penstock.Memory},
	}
}

// ID is the number of a resource, a new one if it has none yet.
func (t *Table) ID(name penstock.Resource) int {
	id, known := t.ids[name]
	if !known {
		id = len(t.names)
		t.ids[name] = id
		t.names = append(t.names, name)
	}
	return id
}

// Name is the resource of a number that ID gave.
func (t *Table) Name(id int) penstock.Resource { return t.names[id] }

// Len is how many resources are numbered.
func (t *Table) Len() int { return len(t.names) }

// Sum is r by number. Foreign is the first resource that has none: neither the
// fleet nor a quota has ever named it.
func (t *Table) Sum(r penstock.Resources) (sum Sum, foreign penstock.Resource) {
	for _, name := range r.Names() {
		id, known := t.ids[name]
		switch {
		case r[name] == 0:
		case !known:
			if foreign == "" {
				foreign = name
			}
		default:
			sum = append(sum, Term{id, r[name]})
		}
	}
	return sum, foreign
}

// Intern is Sum for what the fleet or a quota names: all of it gets a number.
func (t *Table) Intern(r penstock.Resources) Sum {
	var sum Sum
	for _, name := range r.Names() {
		sum = append(sum, Term{t.ID(name), r[name]})
	}
	return sum
}

// Term is an amount of one resource.
type Term struct {
	ID     int
	Amount penstock.Amount
}

// Sum is amounts of a few resources, in the order of their names.
type Sum []Term

// Vector is an amount of each resource by its number; what lies beyond its end
// is 0.
type Vector []penstock.Amount

// At is the amount of one resource.
func (v Vector) At(id int) penstock.Amount {
	if id < len(v) {
		return v[id]
	}
	return 0
}

// Set makes the amount of one resource a.
func (v *Vector) Set(id int, a penstock.Amount) {
	for len(*v) <= id {
		*v = append(*v, 0)
	}
	(*v)[id] = a
}

// Add adds a, which may be below 0, to the amount of one resource.
func (v *Vector) Add(id int, a penstock.Amount) { v.Set(id, v.At(id).Add(a)) }
