package store

import (
	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Load reads one object as the type of its kind.
func Load[S, T any](tx Objects, ref penstock.Ref) (v1.Resource[S, T], error) {
	o, err := tx.Get(ref)
	if err != nil {
		return v1.Resource[S, T]{}, err
	}
	return v1.As[S, T](o)
}

// LoadUID reads one object by its UID as the type of its kind.
func LoadUID[S, T any](tx Objects, uid penstock.UID) (v1.Resource[S, T], error) {
	o, err := tx.ByUID(uid)
	if err != nil {
		return v1.Resource[S, T]{}, err
	}
	return v1.As[S, T](o)
}

// LoadAll reads the objects that q chooses, which are all of one kind, as the
// type of that kind.
func LoadAll[S, T any](tx Objects, q Query) ([]v1.Resource[S, T], error) {
	objects, err := tx.List(q)
	if err != nil {
		return nil, err
	}
	typed := make([]v1.Resource[S, T], len(objects))
	for i, o := range objects {
		if typed[i], err = v1.As[S, T](o); err != nil {
			return nil, err
		}
	}
	return typed, nil
}
