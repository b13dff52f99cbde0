package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// each gives every object of a kind that isn't retiring its own transaction. One
// that fails is named, and the others wait for the next pass.
func (c *Control) each(ctx context.Context, k penstock.Kind, do func(store.Tx, penstock.Ref) error) error {
	var all []v1.Object
	if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		all, err = tx.List(store.Query{Kind: k})
		return err
	}); err != nil {
		return err
	}
	var errs []error
	for _, o := range all {
		err := retry(func() error {
			return c.Store.Update(ctx, func(tx store.Tx) error {
				fresh, err := tx.ByUID(o.Metadata.UID)
				if err != nil || !fresh.Metadata.DeletedAt.IsZero() {
					return ignoreMissing(err) // somebody deleted it since it was listed
				}
				return do(tx, fresh.Ref())
			})
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.Ref(), err))
		}
	}
	return errors.Join(errs...)
}

// save writes r back and takes over its new revision.
func save[S, T any](tx store.Tx, r *v1.Resource[S, T]) error {
	o, err := r.Object()
	if err != nil {
		return err
	}
	o.Metadata.UpdatedAt = now()
	o, err = tx.Update(o)
	if err != nil {
		return err
	}
	r.Metadata = o.Metadata
	return nil
}

// create writes a new object in its first phase.
func create[S, T any](tx store.Tx, r *v1.Resource[S, T], first penstock.Phase) error {
	if err := checkMove(r.Ref(), "", first); err != nil {
		return err
	}
	uid, err := newUID()
	if err != nil {
		return err
	}
	r.Metadata.UID, r.Metadata.Phase = uid, first
	r.Metadata.CreatedAt = now()
	r.Metadata.UpdatedAt = r.Metadata.CreatedAt
	o, err := r.Object()
	if err != nil {
		return err
	}
	o, err = tx.Create(o)
	if err != nil {
		return err
	}
	r.Metadata = o.Metadata
	return nil
}

// move changes the phase and says so in an event: the only way a phase changes.
func move[S, T any](tx store.Tx, r *v1.Resource[S, T], to penstock.Phase, reason, message string) error {
	if err := checkMove(r.Ref(), r.Metadata.Phase, to); err != nil {
		return err
	}
	r.Metadata.Phase = to
	if err := save(tx, r); err != nil {
		return err
	}
	return event(tx, r.Kind, r.Metadata, reason, message)
}

func checkMove(ref penstock.Ref, from, to penstock.Phase) error {
	if ref.Kind.Next(from, to) {
		return nil
	}
	return &penstock.Error{Code: penstock.Internal, Where: ref.String(), Msg: fmt.Sprintf("phase can't go from %q to %q", from, to)}
}

func event(tx store.Tx, kind penstock.Kind, m v1.Metadata, reason, message string) error {
	return tx.AppendEvent(store.Event{
		At: now(), Project: m.Project, Kind: kind, UID: m.UID, Name: m.Name, Reason: reason, Message: message,
	})
}

// condition sets one condition and keeps Since while the status stays.
func condition(have []v1.Condition, kind string, status holds, reason, message string) []v1.Condition {
	next := v1.Condition{Type: kind, Status: status == so, Reason: reason, Message: message, Since: now()}
	for i, c := range have {
		if c.Type != kind {
			continue
		}
		if c.Status == next.Status {
			next.Since = c.Since
		}
		have[i] = next
		return have
	}
	return append(have, next)
}

// holds is whether a condition's statement is so.
type holds int

const (
	notSo holds = iota
	so
)

// after reports whether t is set and not later than at.
func after(at, t time.Time) bool { return !t.IsZero() && !at.Before(t) }
