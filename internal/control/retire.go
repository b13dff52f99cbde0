package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
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
	return r, retire(tx, o, &r)
}

// retireObjects goes on with what was asked to be deleted, one transaction for
// each object.
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

// forgetEvery is how often executors are held against the store: what is kept of
// attempts that were removed takes room only, and a look asks for each of them.
const forgetEvery = 15 * time.Second

// forgetAttempts lets the executors forget the attempts that the store doesn't
// know, whoever removed them, and when. An attempt is in the store before it
// starts and goes from there after it has ended, so one that runs is none of this
// store's: it was started after the backup that the store was restored from, say.
func (c *Control) forgetAttempts(ctx context.Context) error {
	if time.Since(c.swept) < forgetEvery {
		return nil
	}
	c.swept = time.Now()
	var errs []error
	for name, executor := range c.Executors {
		if err := c.forgetIn(ctx, executor); err != nil {
			errs = append(errs, fmt.Errorf("executor %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Control) forgetIn(ctx context.Context, executor run.Executor) error {
	seen, err := executor.Observe(ctx)
	if penstock.CodeOf(err) == penstock.Unavailable {
		return nil // its pool tells; what it keeps can wait
	} else if err != nil {
		return err
	}
	strays := map[penstock.UID]bool{}
	if err := c.Store.View(ctx, func(tx store.Tx) error {
		clear(strays)
		for _, o := range seen {
			if _, err := tx.ByUID(o.Attempt); penstock.CodeOf(err) == penstock.NotFound {
				strays[o.Attempt] = true
			} else if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	var errs []error
	for uid := range strays {
		err := executor.Forget(ctx, uid)
		if penstock.CodeOf(err) == penstock.Busy {
			c.Log.Warn("an attempt that this store doesn't know is stopped", "attempt", uid)
			err = executor.Stop(ctx, uid, defaultGrace)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("forget attempt %s: %w", uid, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Control) retireOne(ctx context.Context, uid penstock.UID) error {
	return c.Store.Update(ctx, func(tx store.Tx) error {
		o, err := tx.ByUID(uid)
		if err != nil {
			return ignoreMissing(err)
		}
		return retire(tx, o, &v1.Retirement{Ref: o.Ref()})
	})
}

// retire does what can be done now: it retires what o owns, and removes o when
// nothing is left that needs it.
func retire(tx store.Tx, o v1.Object, r *v1.Retirement) error {
	if waiting, err := waitsForWork(tx, o, r); waiting || err != nil {
		return err
	}
	owned, err := ownedBy(tx, o)
	if err != nil {
		return err
	}
	for _, child := range owned {
		if err := retire(tx, child, r); err != nil {
			return err
		}
	}
	why, err := whyKept(tx, o, r)
	if err != nil {
		return err
	}
	if why != "" {
		r.Kept = append(r.Kept, v1.Kept{Ref: o.Ref(), Why: why})
		return keepRetired(tx, o, why)
	}
	if len(r.Waiting) > 0 && len(owned) > 0 {
		return nil
	}
	fresh, err := tx.ByUID(o.Metadata.UID)
	if err != nil {
		return err
	}
	if err := event(tx, o.Kind, o.Metadata, "Retired", "removed"); err != nil {
		return err
	}
	r.Deleted = append(r.Deleted, o.Ref())
	return tx.Delete(fresh.Metadata.UID, fresh.Metadata.Revision)
}

// waitsForWork reports whether work must end before o can go. A job's is stopped;
// what runs on a pool ends in its own time, and nothing new comes there.
func waitsForWork(tx store.Tx, o v1.Object, r *v1.Retirement) (bool, error) {
	switch o.Kind {
	case penstock.KindJob:
		return stopForRetire(tx, o, r)
	case penstock.KindPool:
		live, err := listLive(tx)
		busy := slices.ContainsFunc(live, func(a v1.Attempt) bool { return a.Spec.Pool == o.Metadata.Name })
		if busy {
			r.Waiting = append(r.Waiting, o.Ref())
		}
		return busy, err
	}
	return false, nil
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
