package sqldb

import (
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Lease implements store.Leases.
func (t *Tx) Lease(name string) (store.Lease, error) {
	l, err := t.holder(name)
	if err != nil || l.Token == 0 {
		return l, err
	}
	_, err = t.row("read the beat of lease "+name, "SELECT beat FROM beats WHERE name = ?", []any{name}, &l.Beat)
	return l, err
}

// holder reads a lease without its beat.
func (t *Tx) holder(name string) (store.Lease, error) {
	l := store.Lease{Name: name}
	_, err := t.row("read lease "+name, "SELECT holder, token, since FROM leases WHERE name = ?", []any{name},
		&l.Holder, &l.Token, (*micros)(&l.Since))
	return l, err
}

// TakeLease implements store.Leases.
func (t *Tx) TakeLease(seen store.Lease, holder string, at time.Time) (store.Lease, error) {
	what := "take lease " + seen.Name
	now, err := t.Lease(seen.Name)
	if err != nil {
		return store.Lease{}, err
	}
	if now.Holder != seen.Holder || now.Token != seen.Token || now.Beat != seen.Beat {
		return store.Lease{}, &penstock.Error{
			Code: penstock.Conflict,
			Msg:  fmt.Sprintf("lease %s is at token %d and beat %d, no longer at %d and %d", seen.Name, now.Token, now.Beat, seen.Token, seen.Beat),
			Hint: "its holder lives, or another one was faster",
		}
	}
	now.Holder, now.Token, now.Since = holder, now.Token+1, stored(at)
	_, err = t.exec(what, `INSERT INTO leases (name, holder, token, since) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token, since = excluded.since`,
		now.Name, now.Holder, now.Token, micros(now.Since))
	return now, err
}

// CheckLease implements store.Leases. It reads nothing that beats write, so that
// no beat makes the database repeat a fenced transaction.
func (t *Tx) CheckLease(held store.Lease) error {
	now, err := t.holder(held.Name)
	if err != nil || now.Token == held.Token && now.Holder == held.Holder && held.Holder != "" {
		return err
	}
	by := "held by " + now.Holder
	if now.Holder == "" {
		by = "free"
	}
	return &penstock.Error{
		Code: penstock.Fenced,
		Msg:  fmt.Sprintf("lease %s is %s with token %d, no longer held by %s with token %d", held.Name, by, now.Token, held.Holder, held.Token),
	}
}

// BeatLease implements store.Leases.
func (t *Tx) BeatLease(held store.Lease) (store.Lease, error) {
	if err := t.CheckLease(held); err != nil {
		return store.Lease{}, err
	}
	_, err := t.row("beat for lease "+held.Name, `INSERT INTO beats (name, beat) VALUES (?, 1)
		ON CONFLICT (name) DO UPDATE SET beat = beats.beat + 1 RETURNING beat`, []any{held.Name}, &held.Beat)
	return held, err
}

// ReturnLease implements store.Leases.
func (t *Tx) ReturnLease(held store.Lease) error {
	if err := t.CheckLease(held); err != nil {
		return err
	}
	_, err := t.exec("return lease "+held.Name, "UPDATE leases SET holder = '' WHERE name = ?", held.Name)
	return err
}

// DropLease implements store.Leases.
func (t *Tx) DropLease(held store.Lease) error {
	if err := t.CheckLease(held); err != nil {
		return err
	}
	_, err := t.exec("drop lease "+held.Name, "DELETE FROM leases WHERE name = ?", held.Name)
	return err
}
