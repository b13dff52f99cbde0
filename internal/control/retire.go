package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Delete asks for objects to be retired: their work is stopped, what nothing
// refers to is removed, and evidence is kept. It answers with what that means
// now; the rest happens by itself. The order is that of use: what uses others
// goes first.
func (c *Control) Delete(ctx context.Context, by string, refs []penstock.Ref, mode ApplyMode) ([]v1.Retirement, error) {
	order := penstock.Kinds()
	refs = slices.Clone(refs)
	slices.SortStableFunc(refs, func(a, b penstock.Ref) int { return slices.Index(order, b.Kind) - slices.Index(order, a.Kind) })
	var out []v1.Retirement
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		out = out[:0]
		for _, ref := range refs {
			r, err := beginRetire(tx, by, ref)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		if mode == DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return out, nil
}

func beginRetire(tx store.Tx, by string, ref penstock.Ref) (v1.Retirement, error) {
	o, err := tx.Get(ref)
	if err != nil {
		return v1.Retirement{}, err
	}
	if !ref.Kind.Declarable() && ref.Kind != penstock.KindModelVersion && ref.Kind != penstock.KindDatasetVersion {
		return v1.Retirement{}, &penstock.Error{Code: penstock.Invalid, Where: ref.String(), Msg: "it goes with its job", Hint: "delete the job"}
	}
	if o.Metadata.DeletedAt.IsZero() {
		o.Metadata.DeletedAt = now()
		if err := save(tx, &o); err != nil {
			return v1.Retirement{}, err
		}
		if err := event(tx, o.Kind, o.Metadata, "Retiring", "asked for by "+by); err != nil {
			return v1.Retirement{}, err
		}
	}
	r := v1.Retirement{Ref: ref}
	_, err = retire(tx, o, &r)
	return r, err
}

// retireObjects goes on with what was asked to be deleted, one transaction for
// each object, and lets the executor forget attempts whose job is gone.
func (c *Control) retireObjects(ctx context.Context) error {
	order := penstock.Kinds()
	for i := len(order) - 1; i >= 0; i-- {
		var retiring []v1.Object
		if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
			retiring, err = tx.List(store.Query{Kind: order[i], Retiring: true})
			return err
		}); err != nil {
			return err
		}
		for _, o := range retiring {
			if err := c.retireOne(ctx, o.Metadata.UID); err != nil {
				return fmt.Errorf("retire %s: %w", o.Ref(), err)
			}
		}
	}
	return nil
}

func (c *Control) retireOne(ctx context.Context, uid penstock.UID) error {
	var forget []v1.Attempt
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		o, err := tx.ByUID(uid)
		if err != nil {
			return ignoreMissing(err)
		}
		r := v1.Retirement{Ref: o.Ref()}
		forget, err = retire(tx, o, &r)
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range forget {
		executor, err := c.executorOf(ctx, a)
		if err != nil {
			return err
		}
		if err := executor.Forget(ctx, a.Metadata.UID); err != nil {
			return fmt.Errorf("forget %s: %w", a.Ref(), err)
		}
	}
	return nil
}

// retire does what can be done now: it retires what o owns, and removes o when
// nothing is left that needs it. It gives the attempts that were removed, for
// the executor to forget.
func retire(tx store.Tx, o v1.Object, r *v1.Retirement) ([]v1.Attempt, error) {
	if o.Kind == penstock.KindJob {
		if waiting, err := stopForRetire(tx, o, r); waiting || err != nil {
			return nil, err
		}
	}
	var forget []v1.Attempt
	owned, err := ownedBy(tx, o)
	if err != nil {
		return nil, err
	}
	for _, child := range owned {
		more, err := retire(tx, child, r)
		if err != nil {
			return nil, err
		}
		forget = append(forget, more...)
	}
	why, err := whyKept(tx, o, r)
	if err != nil {
		return nil, err
	}
	if why != "" {
		r.Kept = append(r.Kept, v1.Kept{Ref: o.Ref(), Why: why})
		return forget, keepRetired(tx, o, why)
	}
	if len(r.Waiting) > 0 && len(owned) > 0 {
		return forget, nil
	}
	fresh, err := tx.ByUID(o.Metadata.UID)
	if err != nil {
		return nil, err
	}
	if err := event(tx, o.Kind, o.Metadata, "Retired", "removed"); err != nil {
		return nil, err
	}
	if err := tx.Delete(fresh.Metadata.UID, fresh.Metadata.Revision); err != nil {
		return nil, err
	}
	r.Deleted = append(r.Deleted, o.Ref())
	if o.Kind == penstock.KindAttempt {
		a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
		return append(forget, a), err
	}
	return forget, nil
}

// stopForRetire ends a job's work first.
func stopForRetire(tx store.Tx, o v1.Object, r *v1.Retirement) (waiting bool, err error) {
	job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
	if err != nil || job.Metadata.Phase.Final() {
		return false, err
	}
	if err := stopJob(tx, job, penstock.Because(penstock.StoppedByUser, penstock.Change, "the job was deleted")); err != nil {
		return false, err
	}
	again, err := tx.ByUID(o.Metadata.UID)
	if err != nil || again.Metadata.Phase.Final() {
		return false, err
	}
	r.Waiting = append(r.Waiting, o.Ref())
	return true, nil
}

// ownedBy lists what goes with o: what was made for it, and everything of a
// project.
func ownedBy(tx store.Tx, o v1.Object) ([]v1.Object, error) {
	if o.Kind != penstock.KindProject {
		return tx.List(store.Query{Owner: o.Metadata.UID})
	}
	all, err := tx.List(store.Query{Project: o.Metadata.Name})
	if err != nil {
		return nil, err
	}
	roots := slices.DeleteFunc(all, func(child v1.Object) bool { return child.Metadata.Owner != "" })
	order := penstock.Kinds()
	slices.SortStableFunc(roots, func(a, b v1.Object) int { return slices.Index(order, b.Kind) - slices.Index(order, a.Kind) })
	return roots, nil
}

// whyKept is why o must outlive its deletion, or "".
func whyKept(tx store.Tx, o v1.Object, r *v1.Retirement) (string, error) {
	if o.Kind == penstock.KindModelVersion {
		v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
		if err != nil {
			return "", err
		}
		moves, err := tx.AliasMoves(o.Metadata.Project, v.Spec.Model)
		if err != nil {
			return "", err
		}
		for _, m := range moves {
			if m.To == v.Spec.Digest {
				return fmt.Sprintf("it was %s from %s on", m.Alias, m.At.Format("2006-01-02 15:04 MST")), nil
			}
		}
	}
	links, err := tx.Links(o.Metadata.UID)
	if err != nil {
		return "", err
	}
	for _, e := range links {
		if e.To != o.Metadata.UID {
			continue
		}
		from, err := tx.ByUID(e.From)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s came from it (%s)", from.Ref(), e.Relation), nil
	}
	for _, k := range r.Kept {
		kept, err := tx.Get(k.Ref)
		if err != nil {
			return "", err
		}
		if kept.Metadata.Owner == o.Metadata.UID || o.Kind == penstock.KindProject && k.Ref.Project == o.Metadata.Name {
			return fmt.Sprintf("%s, which belongs to it, is kept", k.Ref), nil
		}
	}
	return "", nil
}

// keepRetired marks an object as kept, once.
func keepRetired(tx store.Tx, o v1.Object, why string) error {
	fresh, err := tx.ByUID(o.Metadata.UID)
	if err != nil || fresh.Metadata.Labels["retired"] != "" {
		return err
	}
	fresh.Metadata.Labels = withLabel(fresh.Metadata.Labels, "retired", "kept")
	if fresh.Metadata.DeletedAt.IsZero() {
		fresh.Metadata.DeletedAt = now()
	}
	if err := save(tx, &fresh); err != nil {
		return err
	}
	return event(tx, o.Kind, fresh.Metadata, "Kept", why)
}
