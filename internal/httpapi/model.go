package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

func (s *Server) modelRoutes() {
	huma.Register(s.api, s.op("approve", http.MethodPost, "/modelversions/{project}/{name}/approve", "Say yes to a version for an alias", "modelversions"),
		func(ctx context.Context, in *struct {
			ObjectPath
			Body v1.ApproveRequest
		}) (*body[v1.ModelVersion], error) {
			ref := in.ref(penstock.KindModelVersion)
			remark(ctx, "for "+in.Body.Alias)
			if err := s.allow(ctx, auth.Approve, ref); err != nil {
				return nil, s.fail(err)
			}
			v, err := s.Control.Approve(ctx, principal(ctx).Subject, ref, v1.Approval{Alias: in.Body.Alias, Comment: in.Body.Comment})
			return answer(s, v, err)
		})
	huma.Register(s.api, s.op("promote", http.MethodPost, "/models/{project}/{name}/promote", "Move an alias, if the gate is open", "models"),
		func(ctx context.Context, in *struct {
			ObjectPath
			Body v1.PromoteRequest
		}) (*body[v1.Model], error) {
			ref := in.ref(penstock.KindModel)
			remark(ctx, in.Body.Alias+" to "+string(in.Body.To))
			if err := s.allow(ctx, auth.Promote, ref); err != nil {
				return nil, s.fail(err)
			}
			m, err := s.Control.Promote(ctx, principal(ctx).Subject, ref.Project, v1.AliasMove{
				Model: ref.Name, Alias: in.Body.Alias, From: in.Body.From, To: in.Body.To, Note: in.Body.Note,
			})
			return answer(s, m, err)
		})
	huma.Register(s.api, s.op("alias-history", http.MethodGet, "/models/{project}/{name}/history", "Every move of the model's aliases, oldest first", "models"),
		func(ctx context.Context, in *ObjectPath) (*body[[]v1.AliasMove], error) {
			ref := in.ref(penstock.KindModel)
			if err := s.allow(ctx, auth.Get, ref); err != nil {
				return nil, s.fail(err)
			}
			var moves []v1.AliasMove
			err := s.Store.View(ctx, func(tx store.Tx) (err error) {
				moves, err = tx.AliasMoves(ref.Project, ref.Name)
				return err
			})
			return answers(s, moves, err)
		})
}
