package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Plural is the path segment of a kind: Job is jobs.
func Plural(k penstock.Kind) string { return strings.ToLower(string(k)) + "s" }

func path(ref penstock.Ref, rest ...string) string {
	project := ref.Project
	if project == "" {
		project = "-"
	}
	p := "/" + Plural(ref.Kind) + "/" + url.PathEscape(project) + "/" + url.PathEscape(ref.Name)
	return strings.Join(append([]string{p}, rest...), "/")
}

// Apply makes the objects so, all or none.
func (c *Client) Apply(ctx context.Context, in v1.ApplyRequest, idempotencyKey string) ([]v1.ApplyResult, error) {
	var out v1.ApplyAnswer
	header := http.Header{}
	if idempotencyKey != "" {
		header.Set("Idempotency-Key", idempotencyKey)
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/apply", body: in, header: header}, &out)
	return out.Results, err
}

// Delete retires objects and gives the record of it.
func (c *Client) Delete(ctx context.Context, in v1.DeleteRequest) ([]v1.Retirement, error) {
	var out v1.DeleteAnswer
	err := c.do(ctx, call{method: http.MethodPost, path: "/delete", body: in}, &out)
	return out.Retirements, err
}

// Get reads one object.
func (c *Client) Get(ctx context.Context, ref penstock.Ref) (v1.Object, error) {
	var o v1.Object
	err := c.do(ctx, call{method: http.MethodGet, path: path(ref)}, &o)
	return o, err
}

// GetAs reads one object of a known type.
func GetAs[S, T any](ctx context.Context, c *Client, ref penstock.Ref) (v1.Resource[S, T], error) {
	o, err := c.Get(ctx, ref)
	if err != nil {
		return v1.Resource[S, T]{}, err
	}
	return v1.As[S, T](o)
}

// ListOptions choose what is listed.
type ListOptions struct {
	Project string
	Phases  []penstock.Phase
	Labels  map[string]string
	Owner   penstock.UID
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if o.Project != "" {
		q.Set("project", o.Project)
	}
	if o.Owner != "" {
		q.Set("owner", string(o.Owner))
	}
	for _, p := range o.Phases {
		q.Add("phase", string(p))
	}
	for k, v := range o.Labels {
		q.Add("label", k+"="+v)
	}
	return q
}

// List reads all objects of a kind, page by page, and the revision from which a
// watch goes on.
func (c *Client) List(ctx context.Context, k penstock.Kind, o ListOptions) ([]v1.Object, int64, error) {
	var all []v1.Object
	var revision int64
	q := o.query()
	q.Set("limit", "1000")
	for {
		var page v1.List[json.RawMessage, json.RawMessage]
		if err := c.do(ctx, call{method: http.MethodGet, path: "/" + Plural(k), query: q}, &page); err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Revision // the oldest: a watch from it misses nothing
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, revision, nil
		}
		q.Set("after", string(page.Next))
	}
}

// Explain asks why an object is where it is.
func (c *Client) Explain(ctx context.Context, ref penstock.Ref) (v1.Explanation, error) {
	var x v1.Explanation
	project := ref.Project
	if project == "" {
		project = "-"
	}
	p := "/explain/" + url.PathEscape(string(ref.Kind)) + "/" + url.PathEscape(project) + "/" + url.PathEscape(ref.Name)
	err := c.do(ctx, call{method: http.MethodGet, path: p}, &x)
	return x, err
}

// Stop asks a job to end.
func (c *Client) Stop(ctx context.Context, job penstock.Ref) error {
	return c.do(ctx, call{method: http.MethodPost, path: path(job, "stop")}, nil)
}

// Reclaim takes a job's devices back, as a spot market does.
func (c *Client) Reclaim(ctx context.Context, job penstock.Ref) error {
	return c.do(ctx, call{method: http.MethodPost, path: path(job, "reclaim")}, nil)
}

// Metrics reads a job's metric points.
func (c *Client) Metrics(ctx context.Context, job penstock.Ref) ([]v1.MetricPoint, error) {
	var points []v1.MetricPoint
	err := c.do(ctx, call{method: http.MethodGet, path: path(job, "metrics")}, &points)
	return points, err
}

// Checkpoints reads a job's committed steps, newest first.
func (c *Client) Checkpoints(ctx context.Context, job penstock.Ref) ([]v1.Checkpoint, error) {
	var steps []v1.Checkpoint
	err := c.do(ctx, call{method: http.MethodGet, path: path(job, "checkpoints")}, &steps)
	return steps, err
}

// Approve says yes to a model version for an alias.
func (c *Client) Approve(ctx context.Context, version penstock.Ref, in v1.ApproveRequest) (v1.ModelVersion, error) {
	var v v1.ModelVersion
	err := c.do(ctx, call{method: http.MethodPost, path: path(version, "approve"), body: in}, &v)
	return v, err
}

// Promote moves an alias of a model.
func (c *Client) Promote(ctx context.Context, model penstock.Ref, in v1.PromoteRequest) (v1.Model, error) {
	var m v1.Model
	err := c.do(ctx, call{method: http.MethodPost, path: path(model, "promote"), body: in}, &m)
	return m, err
}

// History reads every move of a model's aliases, oldest first.
func (c *Client) History(ctx context.Context, model penstock.Ref) ([]v1.AliasMove, error) {
	var moves []v1.AliasMove
	err := c.do(ctx, call{method: http.MethodGet, path: path(model, "history")}, &moves)
	return moves, err
}

// Whoami asks who the token belongs to.
func (c *Client) Whoami(ctx context.Context) (v1.Whoami, error) {
	var w v1.Whoami
	err := c.do(ctx, call{method: http.MethodGet, path: "/whoami"}, &w)
	return w, err
}

// CreateToken makes a token or a gateway key. The answer is the only time that
// its secret is seen.
func (c *Client) CreateToken(ctx context.Context, in v1.TokenRequest) (v1.TokenInfo, error) {
	var t v1.TokenInfo
	err := c.do(ctx, call{method: http.MethodPost, path: "/tokens", body: in}, &t)
	return t, err
}

// Tokens lists tokens and keys; project "" is all that the caller may see.
func (c *Client) Tokens(ctx context.Context, project string) ([]v1.TokenInfo, error) {
	var t []v1.TokenInfo
	q := url.Values{}
	if project != "" {
		q.Set("project", project)
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/tokens", query: q}, &t)
	return t, err
}

// RevokeToken ends a token or key at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tokens/" + url.PathEscape(id)}, nil)
}

// Audit reads a page of audit entries after a Seq.
func (c *Client) Audit(ctx context.Context, after int64) ([]v1.AuditEntry, error) {
	var entries []v1.AuditEntry
	q := url.Values{"after": {strconv.FormatInt(after, 10)}, "limit": {"1000"}}
	err := c.do(ctx, call{method: http.MethodGet, path: "/audit", query: q}, &entries)
	return entries, err
}

// VerifyAudit has the server check its audit chain.
func (c *Client) VerifyAudit(ctx context.Context) (v1.AuditReport, error) {
	var r v1.AuditReport
	err := c.do(ctx, call{method: http.MethodGet, path: "/audit/verify"}, &r)
	return r, err
}
