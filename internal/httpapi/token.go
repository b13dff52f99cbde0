package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

func (s *Server) tokenRoutes() {
	huma.Register(s.api, s.op("whoami", http.MethodGet, "/whoami", "Who the token belongs to", "tokens"),
		func(ctx context.Context, _ *struct{}) (*body[v1.Whoami], error) {
			p := principal(ctx)
			return &body[v1.Whoami]{v1.Whoami{Subject: p.Subject, Role: p.Role, Project: p.Project, Version: s.Version}}, nil
		})
	huma.Register(s.api, s.op("create-token", http.MethodPost, "/tokens", "Make a token or a gateway key; it is shown this once", "tokens"),
		func(ctx context.Context, in *struct{ Body v1.TokenRequest }) (*body[v1.TokenInfo], error) {
			info, err := s.createToken(ctx, in.Body)
			return answer(s, info, err)
		})
	huma.Register(s.api, s.op("list-tokens", http.MethodGet, "/tokens", "List tokens and keys, without their secrets", "tokens"),
		func(ctx context.Context, in *struct {
			Project string `query:"project"`
		}) (*body[[]v1.TokenInfo], error) {
			infos, err := s.listTokens(ctx, in.Project)
			return answer(s, infos, err)
		})
	huma.Register(s.api, s.op("revoke-token", http.MethodDelete, "/tokens/{id}", "Revoke a token or key, at once", "tokens"),
		func(ctx context.Context, in *struct {
			ID string `path:"id"`
		}) (*body[struct{}], error) {
			return answer(s, struct{}{}, s.revokeToken(ctx, in.ID))
		})
	huma.Register(s.api, s.op("audit", http.MethodGet, "/audit", "Audit entries, oldest first", "audit"),
		func(ctx context.Context, in *struct {
			After int64 `query:"after"`
			Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"200"`
		}) (*body[[]v1.AuditEntry], error) {
			entries, err := s.auditEntries(ctx, in.After, in.Limit)
			return answer(s, entries, err)
		})
	huma.Register(s.api, s.op("verify-audit", http.MethodGet, "/audit/verify", "Check that no audit entry was changed, added or lost", "audit"),
		func(ctx context.Context, _ *struct{}) (*body[v1.AuditReport], error) {
			report, err := s.verifyAudit(ctx)
			return answer(s, report, err)
		})
}

// createToken issues what the caller may give: admins make access tokens, and
// developers gateway keys of their project. Nobody gives more than they have.
func (s *Server) createToken(ctx context.Context, in v1.TokenRequest) (v1.TokenInfo, error) {
	kind, request := auth.KindToken, auth.Request{Use: store.Access, Subject: in.Subject, Project: in.Project, Role: in.Role, Expires: in.Expires}
	if in.Key != nil {
		kind, request.Use, request.Role = auth.KindKey, store.Gateway, ""
		request.Endpoints, request.Limit, request.Rate = in.Key.Endpoints, in.Key.Tokens, in.Key.PerMinute
	}
	if err := auth.Allow(principal(ctx), auth.Create, kind, in.Project); err != nil {
		return v1.TokenInfo{}, err
	}
	if in.Key != nil || in.Project != "" {
		if _, err := s.read(ctx, penstock.Ref{Kind: penstock.KindProject, Name: in.Project}); err != nil {
			return v1.TokenInfo{}, err
		}
	}
	token, credential, err := auth.Issue(request, time.Now().UTC().Truncate(time.Microsecond))
	if err != nil {
		return v1.TokenInfo{}, err
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error { return tx.PutCredential(credential) }); err != nil {
		return v1.TokenInfo{}, err
	}
	info := tokenInfo(credential)
	remark(ctx, "made "+info.Use+" token "+info.ID+" for "+info.Subject)
	info.Token = token.Reveal()
	return info, nil
}

func tokenInfo(c store.Credential) v1.TokenInfo {
	info := v1.TokenInfo{
		ID: c.ID, Use: string(c.Use), Subject: c.Subject, Project: c.Project, Role: c.Role,
		Created: c.Created, Expires: c.Expires, Revoked: c.Revoked,
	}
	if c.Use == store.Gateway {
		info.Key = &v1.KeyLimits{Endpoints: c.Endpoints, Tokens: c.Limit, PerMinute: c.Rate}
	}
	return info
}

func (s *Server) listTokens(ctx context.Context, project string) ([]v1.TokenInfo, error) {
	infos := []v1.TokenInfo{}
	if err := auth.Allow(principal(ctx), auth.List, auth.KindKey, project); err != nil {
		return nil, err
	}
	err := s.Store.View(ctx, func(tx store.Tx) error {
		all, err := tx.ListCredentials(project)
		for _, c := range all {
			if c.Use == store.Gateway || c.Use == store.Access && auth.Allow(principal(ctx), auth.List, auth.KindToken, project) == nil {
				infos = append(infos, tokenInfo(c))
			}
		}
		return err
	})
	return infos, err
}

func (s *Server) revokeToken(ctx context.Context, id string) error {
	p := principal(ctx)
	var mine []store.Credential
	if err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		mine, err = tx.ListCredentials(p.Project)
		return err
	}); err != nil {
		return err
	}
	i := slices.IndexFunc(mine, func(c store.Credential) bool { return c.ID == id && c.Use != store.Agent })
	if i < 0 {
		return &penstock.Error{Code: penstock.NotFound, Msg: "there is no token " + id}
	}
	kind := auth.KindToken
	if mine[i].Use == store.Gateway {
		kind = auth.KindKey
	}
	if err := auth.Allow(p, auth.Delete, kind, mine[i].Project); err != nil {
		return err
	}
	return s.verifier.Revoke(ctx, id)
}

func (s *Server) auditEntries(ctx context.Context, after int64, limit int) ([]v1.AuditEntry, error) {
	if err := auth.Allow(principal(ctx), auth.List, auth.KindAudit, ""); err != nil {
		return nil, err
	}
	entries := []v1.AuditEntry{}
	err := s.Store.View(ctx, func(tx store.Tx) error {
		page, err := tx.Audit(after, limit)
		for _, e := range page {
			entries = append(entries, v1.AuditEntry(e))
		}
		return err
	})
	return entries, err
}

func (s *Server) verifyAudit(ctx context.Context) (v1.AuditReport, error) {
	if err := auth.Allow(principal(ctx), auth.List, auth.KindAudit, ""); err != nil {
		return v1.AuditReport{}, err
	}
	report, err := audit.Verify(ctx, s.Store)
	out := v1.AuditReport{Entries: report.Entries, Whole: report.Broken == nil, Head: report.Head.Hash}
	if report.Broken != nil {
		out.Broken, out.Detail = report.Broken.Seq, report.Broken.Why
	}
	return out, err
}
