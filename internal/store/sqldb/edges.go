package sqldb

import (
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Link implements store.Objects. An end that isn't there is NotFound; an object
// can't come from itself: Invalid.
func (t *Tx) Link(e store.Edge) error {
	if e.From == e.To {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("the object with uid %q can't come from itself", e.From)}
	}
	for _, uid := range []penstock.UID{e.From, e.To} {
		if _, err := t.ByUID(uid); err != nil {
			return err
		}
	}
	_, err := t.exec("link objects", "INSERT INTO edges (from_uid, to_uid, relation) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		e.From, e.To, e.Relation)
	return err
}

// Links implements store.Objects, in order of From, To and Relation.
func (t *Tx) Links(uid penstock.UID) ([]store.Edge, error) {
	return rows(t, "read links", scanEdge, `SELECT from_uid, to_uid, relation FROM edges WHERE from_uid = ? OR to_uid = ?
		ORDER BY from_uid, to_uid, relation`, uid, uid)
}

func scanEdge(s scanner) (e store.Edge, err error) {
	return e, s.Scan(&e.From, &e.To, &e.Relation)
}

// unused refuses with Busy an object that others point to, and names one.
func (t *Tx) unused(what string, o v1.Object) error {
	users, err := rows(t, what, scanObject, "SELECT "+objectColumns+` FROM objects
		WHERE uid IN (SELECT from_uid FROM edges WHERE to_uid = ?) ORDER BY uid`, o.Metadata.UID)
	if err != nil || len(users) == 0 {
		return err
	}
	return &penstock.Error{
		Code: penstock.Busy,
		Msg:  fmt.Sprintf("%s is used by %d others, the first is %s", o.Ref(), len(users), users[0].Ref()),
		Hint: "delete what was made from it first; lineage is kept whole",
	}
}
