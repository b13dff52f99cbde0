package sqldb

import (
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Revision implements store.Objects. It is 0 before the first change.
func (t *Tx) Revision() (int64, error) {
	if t.newest > 0 {
		return t.newest, nil
	}
	_, err := t.row("read the revision", "SELECT COALESCE(MAX(revision), 0) FROM changes", nil, &t.newest)
	return t.newest, err
}

// nextRevision is the revision that the next change will have. The log is never
// empty once something was written, so its newest entry is the counter.
func (t *Tx) nextRevision() (int64, error) {
	newest, err := t.Revision()
	return newest + 1, err
}

// logChange appends o, as it is after op, to the change log.
func (t *Tx) logChange(op store.Op, o v1.Object, labels string) error {
	what := "log the change of " + o.Ref().String()
	if _, err := t.exec(what, "INSERT INTO changes (op, "+objectColumns+") VALUES (?, "+objectMarks+")",
		append([]any{op}, objectValues(o, labels)...)...); err != nil {
		return err
	}
	t.newest, t.changed = o.Metadata.Revision, true
	if t.newest%(t.keep/100+1) != 0 {
		return nil
	}
	_, err := t.exec("trim the change log", "DELETE FROM changes WHERE revision <= ?", t.newest-t.keep)
	return err
}

// Changes implements store.Objects. A revision that is still to come is
// Conflict too: whoever has it knows another history, such as the one before a
// backup was put back, and would miss changes by waiting for it.
func (t *Tx) Changes(after int64, limit int) ([]store.Change, error) {
	var oldest, newest int64
	if _, err := t.row("read the change log", `SELECT (SELECT COALESCE(MIN(revision), 1) FROM changes),
		(SELECT COALESCE(MAX(revision), 0) FROM changes)`, nil, &oldest, &newest); err != nil {
		return nil, err
	}
	if after < oldest-1 || after > newest {
		return nil, &penstock.Error{
			Code: penstock.Conflict,
			Msg:  fmt.Sprintf("the change log goes from revision %d to %d; it can't go on after %d", oldest, newest, after),
			Hint: "list the objects again and go on from there",
		}
	}
	return rows(t, "read the change log", scanChange,
		"SELECT op, "+objectColumns+" FROM changes WHERE revision > ? ORDER BY revision LIMIT ?", after, atMost(limit))
}

func scanChange(s scanner) (c store.Change, err error) {
	c.Object, err = scanObjectAfter(s, &c.Op)
	c.Revision = c.Object.Metadata.Revision
	return c, err
}
