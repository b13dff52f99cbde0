package sqldb

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// objectColumns are in both objects and changes, so that one scan reads both
// and the log gives back the very bytes that the object had.
const objectColumns = `uid, kind, project, name, labels, owner, generation, revision, phase, created_by,
	created_at, updated_at, deleted_at, spec, status`

const objectMarks = `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`

// objectValues are the values of objectColumns.
func objectValues(o v1.Object, labels string) []any {
	m := o.Metadata
	return []any{
		m.UID, o.Kind, m.Project, m.Name, labels, m.Owner, m.Generation, m.Revision, m.Phase, m.CreatedBy,
		micros(m.CreatedAt), micros(m.UpdatedAt), micros(m.DeletedAt), string(o.Spec), string(o.Status),
	}
}

func scanObject(s scanner) (v1.Object, error) { return scanObjectAfter(s) }

// scanObjectAfter reads objectColumns that follow other columns.
func scanObjectAfter(s scanner, first ...any) (v1.Object, error) {
	o := v1.Object{APIVersion: v1.Version}
	m := &o.Metadata
	err := s.Scan(append(first,
		&m.UID, &o.Kind, &m.Project, &m.Name, column{&m.Labels}, &m.Owner, &m.Generation, &m.Revision, &m.Phase, &m.CreatedBy,
		(*micros)(&m.CreatedAt), (*micros)(&m.UpdatedAt), (*micros)(&m.DeletedAt), (*[]byte)(&o.Spec), (*[]byte)(&o.Status))...)
	if len(o.Spec) == 0 {
		o.Spec = nil
	}
	if len(o.Status) == 0 {
		o.Status = nil
	}
	return o, err
}

// object reads the one object that a condition chooses.
func (t *Tx) object(name, where string, args ...any) (v1.Object, error) {
	found, err := rows(t, "read "+name, scanObject, "SELECT "+objectColumns+" FROM objects WHERE "+where, args...)
	if err != nil {
		return v1.Object{}, err
	}
	if len(found) == 0 {
		return v1.Object{}, &penstock.Error{Code: penstock.NotFound, Msg: "there is no " + name}
	}
	return found[0], nil
}

// Get implements store.Objects.
func (t *Tx) Get(ref penstock.Ref) (v1.Object, error) {
	return t.object(ref.String(), "kind = ? AND project = ? AND name = ?", ref.Kind, ref.Project, ref.Name)
}

// ByUID implements store.Objects.
func (t *Tx) ByUID(uid penstock.UID) (v1.Object, error) {
	return t.object(fmt.Sprintf("object with uid %q", uid), "uid = ?", uid)
}

// List implements store.Objects. Each phase is a query of its own, with the limit,
// which an index answers in order, and the database merges a page of each. With
// "phase IN" SQLite would rather walk through all of the kind, where most objects
// are over, and PostgreSQL sort all that are in one of the phases.
func (t *Tx) List(q store.Query) ([]v1.Object, error) {
	query, args := chooses(q)
	phases := slices.Compact(slices.Sorted(slices.Values(q.Phases)))
	if len(phases) > 0 {
		one, common := "SELECT * FROM ("+query+" AND objects.phase = ? ORDER BY 1 LIMIT ?) AS one", args
		query, args = one+strings.Repeat(" UNION ALL "+one, len(phases)-1), nil
		for _, p := range phases {
			args = append(append(args, common...), p, atMost(q.Limit))
		}
	}
	return rows(t, "list objects", scanObject, query+" ORDER BY 1 LIMIT ?", append(args, atMost(q.Limit))...)
}

// chooses is the query of all that q says but the phases and the limit. A label
// is a join, so that the database may begin with it. SQLite, which doesn't know
// how few objects have it, wouldn't: where nothing but the kind narrows the list
// besides, CROSS JOIN makes it, which to PostgreSQL says nothing.
func chooses(q store.Query) (query string, args []any) {
	from, join := "objects", ", "
	if q.Project == "" && q.Owner == "" && len(q.Phases) == 0 {
		join = " CROSS JOIN "
	}
	where, args := "objects.uid > ?", []any{q.After}
	keys := slices.Sorted(maps.Keys(q.Labels))
	for i, key := range slices.Backward(keys) {
		l := "l" + strconv.Itoa(i)
		from = "labels " + l + join + from
		where += " AND " + l + ".key = ? AND " + l + ".value = ?"
		args = append(args, key, q.Labels[key])
		if i > 0 {
			where += " AND " + l + ".uid = l0.uid"
		}
	}
	if len(keys) > 0 {
		where, args = where+" AND l0.uid = objects.uid AND l0.uid > ?", append(args, q.After)
	}
	for _, c := range []struct{ column, value string }{{"kind", string(q.Kind)}, {"project", q.Project}, {"owner", string(q.Owner)}} {
		if c.value != "" {
			where, args = where+" AND objects."+c.column+" = ?", append(args, c.value)
		}
	}
	if q.Retiring {
		where += " AND objects.deleted_at IS NOT NULL"
	}
	columns := "objects." + strings.Join(strings.Fields(objectColumns), " objects.")
	return "SELECT " + columns + " FROM " + from + " WHERE " + where, args
}

// Create implements store.Objects.
func (t *Tx) Create(o v1.Object) (v1.Object, error) {
	what := "create " + o.Ref().String()
	labels, err := t.encode(what, o.Metadata.Labels)
	if err != nil {
		return v1.Object{}, err
	}
	revision, err := t.nextRevision()
	if err != nil {
		return v1.Object{}, err
	}
	o = settle(o)
	o.Metadata.Generation, o.Metadata.Revision = 1, revision
	n, err := t.exec(what, "INSERT INTO objects ("+objectColumns+") VALUES ("+objectMarks+") ON CONFLICT DO NOTHING",
		objectValues(o, labels)...)
	if err != nil {
		return v1.Object{}, err
	}
	if n == 0 {
		return v1.Object{}, t.taken(o)
	}
	if err := t.addLabels(what, o); err != nil {
		return v1.Object{}, err
	}
	return o, t.logChange(store.Created, o, labels)
}

// taken says whether it is the name or the UID of o that is in use.
func (t *Tx) taken(o v1.Object) error {
	if _, err := t.Get(o.Ref()); penstock.CodeOf(err) == penstock.NotFound {
		return &penstock.Error{Code: penstock.Exists, Msg: fmt.Sprintf("the uid %s of %s is taken", o.Metadata.UID, o.Ref())}
	}
	return &penstock.Error{
		Code: penstock.Exists, Msg: o.Ref().String() + " exists already",
		Hint: "choose another name, or delete the one that is there",
	}
}

// settle gives o the form in which it comes back from the database.
func settle(o v1.Object) v1.Object {
	o.APIVersion = v1.Version
	o.Metadata.CreatedAt = stored(o.Metadata.CreatedAt)
	o.Metadata.UpdatedAt = stored(o.Metadata.UpdatedAt)
	o.Metadata.DeletedAt = stored(o.Metadata.DeletedAt)
	o.Metadata.Labels = maps.Clone(o.Metadata.Labels)
	o.Spec, o.Status = bytes.Clone(o.Spec), bytes.Clone(o.Status)
	if len(o.Spec) == 0 {
		o.Spec = nil
	}
	if len(o.Status) == 0 {
		o.Status = nil
	}
	return o
}

// Update implements store.Objects. An object that is gone is NotFound.
func (t *Tx) Update(o v1.Object) (v1.Object, error) {
	old, err := t.at(o.Metadata.UID, o.Metadata.Revision)
	if err != nil {
		return v1.Object{}, err
	}
	what := "update " + old.Ref().String()
	labels, err := t.encode(what, o.Metadata.Labels)
	if err != nil {
		return v1.Object{}, err
	}
	revision, err := t.nextRevision()
	if err != nil {
		return v1.Object{}, err
	}
	changed := o
	changed.Kind, changed.Metadata = old.Kind, old.Metadata
	changed.Metadata.Labels, changed.Metadata.Phase = o.Metadata.Labels, o.Metadata.Phase
	changed.Metadata.CreatedAt = o.Metadata.CreatedAt
	changed.Metadata.UpdatedAt, changed.Metadata.DeletedAt = o.Metadata.UpdatedAt, o.Metadata.DeletedAt
	changed.Metadata.Revision = revision
	if !bytes.Equal(o.Spec, old.Spec) {
		changed.Metadata.Generation++
	}
	changed = settle(changed)
	m := changed.Metadata
	if _, err := t.exec(what, `UPDATE objects SET labels = ?, phase = ?, created_at = ?, updated_at = ?, deleted_at = ?,
		generation = ?, revision = ?, spec = ?, status = ? WHERE uid = ?`,
		labels, m.Phase, micros(m.CreatedAt), micros(m.UpdatedAt), micros(m.DeletedAt),
		m.Generation, m.Revision, string(changed.Spec), string(changed.Status), m.UID); err != nil {
		return v1.Object{}, err
	}
	if !maps.Equal(m.Labels, old.Metadata.Labels) {
		if err := t.setLabels(what, changed); err != nil {
			return v1.Object{}, err
		}
	}
	return changed, t.logChange(store.Updated, changed, labels)
}

// at reads an object and checks that it is still at a revision.
func (t *Tx) at(uid penstock.UID, revision int64) (v1.Object, error) {
	o, err := t.ByUID(uid)
	if err == nil && o.Metadata.Revision != revision {
		err = &penstock.Error{
			Code: penstock.Conflict,
			Msg:  fmt.Sprintf("%s is at revision %d, no longer at %d", o.Ref(), o.Metadata.Revision, revision),
			Hint: "read it again and repeat the change on what is there now",
		}
	}
	return o, err
}

// addLabels writes the searched copy of an object's labels, in one statement.
func (t *Tx) addLabels(what string, o v1.Object) error {
	var args []any
	for key, value := range o.Metadata.Labels {
		args = append(args, o.Metadata.UID, key, value)
	}
	if len(args) == 0 {
		return nil
	}
	_, err := t.exec(what, "INSERT INTO labels (uid, key, value) VALUES (?, ?, ?)"+strings.Repeat(", (?, ?, ?)", len(args)/3-1), args...)
	return err
}

// setLabels replaces the searched copy of an object's labels.
func (t *Tx) setLabels(what string, o v1.Object) error {
	if _, err := t.exec(what, "DELETE FROM labels WHERE uid = ?", o.Metadata.UID); err != nil {
		return err
	}
	return t.addLabels(what, o)
}

// Delete implements store.Objects. An object that is gone is NotFound.
func (t *Tx) Delete(uid penstock.UID, revision int64) error {
	o, err := t.at(uid, revision)
	if err != nil {
		return err
	}
	what := "delete " + o.Ref().String()
	if err := t.unused(what, o); err != nil {
		return err
	}
	if o.Metadata.Revision, err = t.nextRevision(); err != nil {
		return err
	}
	labels, err := t.encode(what, o.Metadata.Labels)
	if err != nil {
		return err
	}
	if _, err := t.exec(what, "DELETE FROM objects WHERE uid = ?", uid); err != nil {
		return err
	}
	return t.logChange(store.Deleted, o, labels)
}
