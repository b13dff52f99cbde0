package httpapi

import (
	"context"
	"reflect"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// guardGates lets nobody change the gates of a model who couldn't approve its
// versions: else a developer could open the gate instead of passing it. Where
// the gates stay, the object is pinned to the revision that was looked at, so
// that an old copy of the gates can't slip over newer ones.
func (s *Server) guardGates(ctx context.Context, objects []v1.Object) error {
	for i, o := range objects {
		if o.Kind != penstock.KindModel || s.mayApprove(ctx, o.Ref()) == nil {
			continue
		}
		stored, err := s.model(ctx, o.Ref())
		if penstock.CodeOf(err) == penstock.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		next, err := v1.As[v1.ModelSpec, v1.ModelStatus](o)
		if err != nil {
			return invalid("spec", "", "is not that of a Model")
		}
		if len(stored.Spec.Gates)+len(next.Spec.Gates) > 0 && !reflect.DeepEqual(stored.Spec.Gates, next.Spec.Gates) {
			return gateDenied(o.Ref(), s.mayApprove(ctx, o.Ref()))
		}
		if o.Metadata.Revision == 0 {
			objects[i].Metadata.Revision = stored.Metadata.Revision
		}
	}
	return nil
}

// keepGates lets nobody delete a model with gates who couldn't change them:
// made anew, it would have none.
func (s *Server) keepGates(ctx context.Context, refs []penstock.Ref) error {
	for _, ref := range refs {
		if ref.Kind != penstock.KindModel || s.mayApprove(ctx, ref) == nil {
			continue
		}
		stored, err := s.model(ctx, ref)
		if err == nil && len(stored.Spec.Gates) > 0 {
			return gateDenied(ref, s.mayApprove(ctx, ref))
		}
		if err != nil && penstock.CodeOf(err) != penstock.NotFound {
			return err
		}
	}
	return nil
}

func (s *Server) mayApprove(ctx context.Context, model penstock.Ref) error {
	return auth.Allow(principal(ctx), auth.Approve, penstock.KindModelVersion, model.Project)
}

func gateDenied(ref penstock.Ref, err error) error {
	return &penstock.Error{
		Code: penstock.CodeOf(err), Where: ref.String() + " spec.gates", Msg: "only an approver changes the gates of a model that exists, or deletes it",
		Hint: "ask somebody with the role approver", Err: err,
	}
}

func (s *Server) model(ctx context.Context, ref penstock.Ref) (v1.Model, error) {
	var m v1.Model
	err := s.Store.View(ctx, func(tx store.Tx) error {
		o, err := tx.Get(ref)
		if err != nil {
			return err
		}
		m, err = v1.As[v1.ModelSpec, v1.ModelStatus](o)
		return err
	})
	return m, err
}
