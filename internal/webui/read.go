package webui

import (
	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// get reads one typed object that the reader may see; others are NotFound.
func get[S, T any](v visit, tx store.Tx, ref penstock.Ref) (v1.Resource[S, T], error) {
	if err := auth.Allow(v.who, auth.Get, ref.Kind, ref.Project); err != nil {
		return v1.Resource[S, T]{}, err
	}
	return store.Load[S, T](tx, ref)
}

// list reads the typed objects that q chooses and the reader may see, in order
// of creation.
func list[S, T any](v visit, tx store.Tx, q store.Query) ([]v1.Resource[S, T], error) {
	if !q.Kind.Global() && q.Project == "" {
		q.Project = v.who.Project // a token of one project sees that one
	}
	if err := auth.Allow(v.who, auth.List, q.Kind, q.Project); err != nil {
		return nil, err
	}
	return store.LoadAll[S, T](tx, q)
}

// livePhases are those in which an attempt holds its devices.
func livePhases() []penstock.Phase {
	return []penstock.Phase{penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping}
}
