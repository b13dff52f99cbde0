package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
	"github.com/penstock/penstock/internal/store"
)

// ApplyMode says whether an Apply is for real.
type ApplyMode int

// Commit applies; DryRun does everything but the commit.
const (
	Commit ApplyMode = iota
	DryRun
)

// errDryRun takes a dry run's transaction back.
var errDryRun = errors.New("dry run")

// Apply makes the objects so, all or none, in the order of their kinds. What is
// so already stays untouched. A Revision in an object's metadata that isn't the
// stored one is a Conflict.
func (c *Control) Apply(ctx context.Context, by string, objects []v1.Object, mode ApplyMode) ([]v1.ApplyResult, error) {
	checked := make([]v1.Object, len(objects))
	for i, o := range objects {
		var err error
		if checked[i], err = spec.Check(o); err != nil {
			return nil, inObject(o.Ref(), err)
		}
	}
	if err := spec.CheckSet(checked); err != nil {
		return nil, err
	}
	order := penstock.Kinds()
	slices.SortStableFunc(checked, func(a, b v1.Object) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	var results []v1.ApplyResult
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		results = results[:0]
		for _, o := range checked {
			r, err := c.applyOne(tx, by, o)
			if err != nil {
				return inObject(o.Ref(), err)
			}
			results = append(results, r)
		}
		if mode == DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return results, nil
}

// inObject says of which object of a set an error speaks: its Ref is put before
// the path of the field. Of several faults the first one is told.
func inObject(ref penstock.Ref, err error) error {
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code == penstock.Internal {
		return fmt.Errorf("apply %s: %w", ref, err)
	}
	if strings.HasPrefix(e.Where, ref.String()) {
		return err
	}
	located := *e
	located.Where = strings.TrimSpace(ref.String() + " " + e.Where)
	return &located
}

func (c *Control) applyOne(tx store.Tx, by string, o v1.Object) (v1.ApplyResult, error) {
	result := v1.ApplyResult{Ref: o.Ref()}
	if err := prepareApply(tx, &o); err != nil {
		return result, err
	}
	if err := c.checkExecutor(o); err != nil {
		return result, err
	}
	old, err := tx.Get(o.Ref())
	switch {
	case penstock.CodeOf(err) == penstock.NotFound && o.Metadata.Revision != 0:
		return result, &penstock.Error{
			Code: penstock.Conflict, Where: o.Ref().String(), Msg: fmt.Sprintf("it was at revision %d when it was read, and is gone", o.Metadata.Revision),
			Hint: "leave the revision out to make it anew",
		}
	case penstock.CodeOf(err) == penstock.NotFound:
		result.Action, result.Diff = "created", spec.Diff(v1.Object{Kind: o.Kind}, o)
		o.Metadata.CreatedBy = by
		result.Object, err = c.createObject(tx, o)
		return result, err
	case err != nil:
		return result, err
	case o.Metadata.Revision != 0 && o.Metadata.Revision != old.Metadata.Revision:
		return result, &penstock.Error{
			Code: penstock.Conflict, Where: o.Ref().String(), Msg: fmt.Sprintf("it is at revision %d, not %d", old.Metadata.Revision, o.Metadata.Revision),
			Hint: "read it again and repeat the change",
		}
	case !old.Metadata.DeletedAt.IsZero():
		return result, &penstock.Error{Code: penstock.Busy, Where: o.Ref().String(), Msg: "it is being deleted", Hint: "wait until it is gone, or take another name"}
	}
	same, err := c.sameSpec(old, o)
	if err != nil {
		return result, err
	}
	if same && maps.Equal(old.Metadata.Labels, o.Metadata.Labels) {
		result.Action, result.Object = "unchanged", old
		return result, nil
	}
	result.Action, result.Diff = "changed", spec.Diff(old, o)
	result.Object, err = c.changeObject(tx, by, old, o)
	return result, err
}

// checkExecutor refuses a pool whose work nobody would run.
func (c *Control) checkExecutor(o v1.Object) error {
	if o.Kind != penstock.KindPool || len(c.Executors) == 0 {
		return nil
	}
	pool, err := v1.As[v1.PoolSpec, v1.PoolStatus](o)
	if err != nil {
		return err
	}
	if _, ok := c.Executors[pool.Spec.Executor]; ok {
		return nil
	}
	return &penstock.Error{
		Code: penstock.Invalid, Where: "spec.executor", Msg: fmt.Sprintf("this server has no executor %q", pool.Spec.Executor),
		Hint: "it has " + strings.Join(sortedKeys(c.Executors), ", ") + "; others come with executors in its settings (docs/config.md)",
	}
}

// prepareApply checks an object against what is there, and fills in labels.
func prepareApply(tx store.Tx, o *v1.Object) error {
	if !o.Kind.Declarable() {
		return &penstock.Error{Code: penstock.Invalid, Where: o.Ref().String(), Msg: fmt.Sprintf("a %s is made by Penstock and can't be applied", o.Kind)}
	}
	if o.Kind.Global() {
		return nil
	}
	project, err := store.Load[v1.ProjectSpec, v1.ProjectStatus](tx, penstock.Ref{Kind: penstock.KindProject, Name: o.Metadata.Project})
	if penstock.CodeOf(err) == penstock.NotFound {
		return &penstock.Error{
			Code: penstock.NotFound, Where: o.Ref().String(), Msg: fmt.Sprintf("there is no project %q", o.Metadata.Project),
			Hint: "apply a Project first, or name another with --project",
		}
	}
	if err != nil {
		return err
	}
	known, err := knownAccelerators(tx)
	if err != nil {
		return err
	}
	if err := spec.CheckAccelerators(*o, known); err != nil {
		return err
	}
	return fillLabels(o, project.Spec)
}

func knownAccelerators(tx store.Tx) ([]penstock.Resource, error) {
	pools, err := store.LoadAll[v1.PoolSpec, v1.PoolStatus](tx, store.Query{Kind: penstock.KindPool})
	if err != nil {
		return nil, err
	}
	found := map[penstock.Resource]bool{}
	for _, p := range pools {
		for _, n := range append(slices.Clone(p.Spec.Nodes), p.Status.Nodes...) {
			for name := range n.Capacity {
				if name.Accelerator() {
					found[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// createObject stores a new object in its first phase; secrets are sealed first.
func (c *Control) createObject(tx store.Tx, o v1.Object) (v1.Object, error) {
	if err := c.seal(&o); err != nil {
		return o, err
	}
	first := penstock.PhasePending
	if o.Kind == penstock.KindSecret || o.Kind == penstock.KindModel || o.Kind == penstock.KindProject {
		first = penstock.PhaseReady
	}
	if err := create(tx, &o, first); err != nil {
		return o, err
	}
	return o, event(tx, o.Kind, o.Metadata, "Created", "by "+o.Metadata.CreatedBy)
}

func (c *Control) changeObject(tx store.Tx, by string, old, o v1.Object) (v1.Object, error) {
	started := old.Metadata.Phase != penstock.PhasePending && old.Metadata.Phase != penstock.PhaseQueued
	if old.Kind == penstock.KindJob && (started || old.Metadata.Owner != "") {
		return o, &penstock.Error{
			Code: penstock.Conflict, Where: o.Ref().String(), Msg: fmt.Sprintf("the job is %s and can't change any more", old.Metadata.Phase),
			Hint: "apply it under a new name",
		}
	}
	if err := c.seal(&o); err != nil {
		return o, err
	}
	next := old
	next.Spec, next.Metadata.Labels = o.Spec, o.Metadata.Labels
	if o.Kind == penstock.KindSecret {
		next.Status = o.Status
	}
	if err := save(tx, &next); err != nil {
		return o, err
	}
	return next, event(tx, next.Kind, next.Metadata, "Changed", "by "+by)
}

// seal moves a secret's values into its status, encrypted.
func (c *Control) seal(o *v1.Object) error {
	if o.Kind != penstock.KindSecret {
		return nil
	}
	s, err := v1.As[v1.SecretSpec, v1.SecretStatus](*o)
	if err != nil {
		return err
	}
	s.Status.Keys = sortedKeys(s.Spec.Values)
	if s.Status.Sealed, err = c.Sealer.Seal(s.Spec.Values); err != nil {
		return fmt.Errorf("seal %s: %w", o.Ref(), err)
	}
	hidden := make(map[string]string, len(s.Spec.Values))
	for key := range s.Spec.Values {
		hidden[key] = ""
	}
	s.Spec.Values = hidden
	sealed, err := s.Object()
	o.Spec, o.Status = sealed.Spec, sealed.Status
	return err
}

// sameSpec compares what was asked with what is kept.
func (c *Control) sameSpec(old, o v1.Object) (bool, error) {
	if o.Kind != penstock.KindSecret {
		return bytes.Equal(old.Spec, o.Spec), nil
	}
	have, err := v1.As[v1.SecretSpec, v1.SecretStatus](old)
	if err != nil {
		return false, err
	}
	want, err := v1.As[v1.SecretSpec, v1.SecretStatus](o)
	if err != nil {
		return false, err
	}
	values, err := c.Sealer.Open(have.Status.Sealed)
	return err == nil && maps.Equal(values, want.Spec.Values), err
}
