package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/store"
)

// noProject stands in paths for the project of the global kinds.
const noProject = "-"

// ObjectPath names an object in a path. It is exported because huma fills in only
// exported embedded fields. The global kinds have the project "-".
type ObjectPath struct {
	Project string `path:"project" doc:"the project, or - for projects and pools"`
	Name    string `path:"name"`
}

func (n ObjectPath) ref(k penstock.Kind) penstock.Ref {
	project := n.Project
	if k.Global() && project == noProject {
		project = ""
	}
	return penstock.Ref{Kind: k, Project: project, Name: n.Name}
}

// tagged is an answer with its revision as ETag.
type tagged[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// kind adds the routes of one kind: list and get, and for what people declare
// put and delete.
func kind[S, T any](s *Server, k penstock.Kind, plural string) {
	one := "/" + plural + "/{project}/{name}"
	huma.Register(s.api, s.op("list-"+plural, http.MethodGet, "/"+plural, "List "+plural, plural),
		func(ctx context.Context, in *pageInput) (*body[v1.List[S, T]], error) {
			page, err := listKind[S, T](ctx, s, k, in)
			return answer(s, page, err)
		})
	huma.Register(s.api, s.op("get-"+singular(k), http.MethodGet, one, "Get "+article(k), plural),
		func(ctx context.Context, in *ObjectPath) (*tagged[v1.Resource[S, T]], error) {
			o, err := s.read(ctx, in.ref(k))
			return tag[S, T](s, o, err)
		})
	if k.Declarable() {
		putKind[S, T](s, k, plural, one)
		deleteKind(s, k, plural, one)
	}
}

func singular(k penstock.Kind) string { return strings.ToLower(string(k)) }

func article(k penstock.Kind) string {
	if strings.ContainsRune("AEIO", rune(k[0])) {
		return "an " + string(k)
	}
	return "a " + string(k)
}

func putKind[S, T any](s *Server, k penstock.Kind, plural, path string) {
	type input struct {
		ObjectPath
		IfMatch string `header:"If-Match" doc:"the ETag that must still hold"`
		Body    document[v1.Resource[S, T]]
	}
	put := s.op("put-"+singular(k), http.MethodPut, path, "Create or change "+article(k), plural)
	put.SkipValidateBody = true // readNamed is stricter, and says where and what to do
	huma.Register(s.api, put, func(ctx context.Context, in *input) (*tagged[v1.Resource[S, T]], error) {
		ref := in.ref(k)
		if err := s.allow(ctx, auth.Create, ref); err != nil {
			return nil, s.fail(err)
		}
		o, err := readNamed(in.Body.raw, ref)
		if err == nil && in.IfMatch != "" {
			o.Metadata.Revision, err = parseETag(in.IfMatch)
		}
		if err != nil {
			return nil, s.fail(err)
		}
		results, err := s.apply(ctx, []v1.Object{o}, control.Commit)
		if err != nil {
			return nil, s.fail(err)
		}
		return tag[S, T](s, results[0].Object, nil)
	})
}

func deleteKind(s *Server, k penstock.Kind, plural, path string) {
	type input struct {
		ObjectPath
		IfMatch string `header:"If-Match" doc:"the ETag that must still hold"`
	}
	huma.Register(s.api, s.op("delete-"+singular(k), http.MethodDelete, path, "Retire "+article(k), plural),
		func(ctx context.Context, in *input) (*body[v1.Retirement], error) {
			ref := in.ref(k)
			if in.IfMatch != "" {
				revision, err := parseETag(in.IfMatch)
				if err == nil {
					err = s.unchanged(ctx, ref, revision)
				}
				if err != nil {
					return nil, s.fail(err)
				}
			}
			gone, err := s.retire(ctx, []penstock.Ref{ref}, control.Commit)
			if err != nil {
				return nil, s.fail(err)
			}
			return &body[v1.Retirement]{gone[0]}, nil
		})
}

func tag[S, T any](s *Server, o v1.Object, err error) (*tagged[v1.Resource[S, T]], error) {
	if err != nil {
		return nil, s.fail(err)
	}
	r, err := v1.As[S, T](withoutSealed(o))
	if err != nil {
		return nil, s.fail(err)
	}
	return &tagged[v1.Resource[S, T]]{strconv.Quote(strconv.FormatInt(o.Metadata.Revision, 10)), r}, nil
}

// withoutSealed leaves a secret's ciphertext in the store.
func withoutSealed(o v1.Object) v1.Object {
	if o.Kind != penstock.KindSecret {
		return o
	}
	secret, err := v1.As[v1.SecretSpec, v1.SecretStatus](o)
	secret.Status.Sealed = nil
	bare, errBare := secret.Object()
	if err != nil || errBare != nil {
		o.Status = nil
		return o
	}
	return bare
}

// parseETag reads If-Match.
func parseETag(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.Trim(s, `"`), 10, 64)
	if err != nil || n <= 0 {
		return 0, invalid("If-Match", "send the ETag of an answer", "%.40q is not an ETag of this API", s)
	}
	return n, nil
}

// pageInput chooses a page of a list.
type pageInput struct {
	Project string       `query:"project" doc:"only of this project"`
	Phase   []string     `query:"phase,explode" doc:"only in these phases"`
	Label   []string     `query:"label,explode" doc:"only with these labels, as key=value"`
	Owner   penstock.UID `query:"owner" doc:"only what belongs to this object"`
	After   penstock.UID `query:"after" doc:"the Next of the page before"`
	Limit   int          `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (in pageInput) query(k penstock.Kind) (store.Query, error) {
	q := store.Query{Kind: k, Project: in.Project, Owner: in.Owner, After: in.After, Limit: in.Limit, Labels: map[string]string{}}
	for _, p := range in.Phase {
		if !slices.Contains(penstock.Phases(), penstock.Phase(p)) {
			return q, invalid("phase", fmt.Sprintf("phases: %v", penstock.Phases()), "%.80q is not a phase", p)
		}
		q.Phases = append(q.Phases, penstock.Phase(p))
	}
	for _, l := range in.Label {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return q, invalid("label", "write key=value", "%.80q has no =", l)
		}
		q.Labels[key] = value
	}
	return q, nil
}

func listKind[S, T any](ctx context.Context, s *Server, k penstock.Kind, in *pageInput) (v1.List[S, T], error) {
	page := v1.List[S, T]{Items: []v1.Resource[S, T]{}}
	q, err := in.query(k)
	if err != nil {
		return page, err
	}
	p := principal(ctx)
	if p.Project != "" && !k.Global() {
		if q.Project == "" {
			q.Project = p.Project // a token of one project sees that one
		}
	}
	if err := auth.Allow(p, auth.List, k, scope(p, k, q.Project)); err != nil {
		return page, err
	}
	err = s.Store.View(ctx, func(tx store.Tx) error {
		objects, err := s.listFor(tx, p, q)
		if err != nil {
			return err
		}
		if page.Revision, err = tx.Revision(); err != nil {
			return err
		}
		for _, o := range objects {
			r, err := v1.As[S, T](withoutSealed(o))
			if err != nil {
				return err
			}
			page.Items = append(page.Items, r)
		}
		if len(objects) == in.Limit {
			page.Next = objects[len(objects)-1].Metadata.UID
		}
		return nil
	})
	return page, err
}

// listFor gives a page of objects. A project's token sees of the projects its
// own alone.
func (s *Server) listFor(tx store.Tx, p auth.Principal, q store.Query) ([]v1.Object, error) {
	if q.Kind != penstock.KindProject || p.Project == "" {
		return tx.List(q)
	}
	q.Limit = 0
	all, err := tx.List(q)
	return slices.DeleteFunc(all, func(o v1.Object) bool { return o.Metadata.Name != p.Project }), err
}

// scope is the project that a list asks about: for projects, the token's own.
func scope(p auth.Principal, k penstock.Kind, project string) string {
	if k == penstock.KindProject && p.Project != "" {
		return p.Project
	}
	return project
}

// read gets an object that the caller may see.
func (s *Server) read(ctx context.Context, ref penstock.Ref) (v1.Object, error) {
	var o v1.Object
	if err := s.allow(ctx, auth.Get, ref); err != nil {
		return o, err
	}
	err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		o, err = tx.Get(ref)
		return err
	})
	return o, err
}

// allow checks the caller's right to do verb to ref. Projects are their own
// project.
func (s *Server) allow(ctx context.Context, verb auth.Verb, ref penstock.Ref) error {
	project := ref.Project
	if ref.Kind == penstock.KindProject {
		project = ref.Name
	}
	return auth.Allow(principal(ctx), verb, ref.Kind, project)
}

func (s *Server) unchanged(ctx context.Context, ref penstock.Ref, revision int64) error {
	o, err := s.read(ctx, ref)
	if err != nil {
		return err
	}
	if o.Metadata.Revision != revision {
		return &penstock.Error{Code: penstock.Conflict, Where: ref.String(), Msg: fmt.Sprintf("it is at revision %d, not %d", o.Metadata.Revision, revision)}
	}
	return nil
}

func (s *Server) apply(ctx context.Context, objects []v1.Object, mode control.ApplyMode) ([]v1.ApplyResult, error) {
	refs := make([]penstock.Ref, len(objects))
	for i, o := range objects {
		refs[i] = o.Ref()
	}
	if err := s.allowSet(ctx, auth.Create, refs); err != nil {
		return nil, err
	}
	if err := s.guardGates(ctx, objects); err != nil {
		return nil, err
	}
	results, err := s.Control.Apply(ctx, principal(ctx).Subject, objects, mode)
	for i := range results {
		results[i].Object = withoutSealed(results[i].Object)
	}
	return results, err
}

func (s *Server) retire(ctx context.Context, refs []penstock.Ref, mode control.ApplyMode) ([]v1.Retirement, error) {
	if err := s.allowSet(ctx, auth.Delete, refs); err != nil {
		return nil, err
	}
	if err := s.keepGates(ctx, refs); err != nil {
		return nil, err
	}
	return s.Control.Delete(ctx, principal(ctx).Subject, refs, mode)
}

// allowSet bounds a set and checks the caller's right to each of it.
func (s *Server) allowSet(ctx context.Context, verb auth.Verb, refs []penstock.Ref) error {
	for _, ref := range refs[:min(len(refs), maxNoted)] {
		remark(ctx, ref.String())
	}
	if len(refs) == 0 {
		return invalid("", "", "no object was named")
	}
	if len(refs) > s.MaxObjects {
		return &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("%d objects were named; at most %d are allowed", len(refs), s.MaxObjects)}
	}
	for _, ref := range refs {
		if err := s.allow(ctx, verb, ref); err != nil {
			return err
		}
	}
	return nil
}

func modeOf(dryRun bool) control.ApplyMode {
	if dryRun {
		return control.DryRun
	}
	return control.Commit
}

func (s *Server) applyRoutes() {
	apply := s.op("apply", http.MethodPost, "/apply", "Make a set of objects so, all or none", "sets")
	apply.SkipValidateBody = true
	huma.Register(s.api, apply, func(ctx context.Context, in *struct{ Body document[v1.ApplyRequest] }) (*body[v1.ApplyAnswer], error) {
		objects, dryRun, err := readApply(in.Body.raw)
		if err != nil {
			return nil, s.fail(err)
		}
		results, err := s.apply(ctx, objects, modeOf(dryRun))
		return answer(s, v1.ApplyAnswer{Results: results}, err)
	})
	huma.Register(s.api, s.op("delete", http.MethodPost, "/delete", "Retire a set of objects", "sets"),
		func(ctx context.Context, in *struct{ Body v1.DeleteRequest }) (*body[v1.DeleteAnswer], error) {
			gone, err := s.retire(ctx, in.Body.Refs, modeOf(in.Body.DryRun))
			return answer(s, v1.DeleteAnswer{Retirements: gone}, err)
		})
	huma.Register(s.api, s.op("explain", http.MethodGet, "/explain/{kind}/{project}/{name}", "Say why an object is where it is", "sets"),
		func(ctx context.Context, in *struct {
			Kind penstock.Kind `path:"kind" doc:"as in a manifest, such as Job"`
			ObjectPath
		}) (*body[v1.Explanation], error) {
			ref := in.ref(in.Kind)
			if err := s.allow(ctx, auth.Get, ref); err != nil {
				return nil, s.fail(err)
			}
			x, err := s.Control.Explain(ctx, ref)
			return answer(s, discreet(x, principal(ctx).Project), err)
		})
}

// discreet leaves the jobs of other projects out of an explanation for one.
func discreet(x v1.Explanation, project string) v1.Explanation {
	if project == "" {
		return x
	}
	holders := slices.Clone(x.Holders)
	for i, h := range holders {
		if h.Job.Project != project {
			holders[i].Job = penstock.Ref{Kind: h.Job.Kind, Name: "of-another-project"}
		}
	}
	x.Holders = holders
	return x
}
