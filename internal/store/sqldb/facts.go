package sqldb

import (
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// AppendEvent implements store.Facts.
func (t *Tx) AppendEvent(e store.Event) error {
	_, err := t.exec("append an event", "INSERT INTO events (at, project, kind, uid, name, reason, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
		micros(e.At), e.Project, e.Kind, e.UID, e.Name, legible(e.Reason), legible(e.Message))
	return err
}

// Events implements store.Facts. An empty project is every project; events of
// one moment keep the order in which they were appended.
func (t *Tx) Events(project string, uid penstock.UID, limit int) ([]store.Event, error) {
	where, args := "1 = 1", []any{}
	if uid != "" {
		where, args = where+" AND uid = ?", append(args, uid)
	}
	if project != "" {
		where, args = where+" AND project = ?", append(args, project)
	}
	events, err := rows(t, "read events", scanEvent,
		"SELECT at, project, kind, uid, name, reason, message FROM events WHERE "+where+" ORDER BY at DESC, seq DESC LIMIT ?",
		append(args, atMost(limit))...)
	slices.Reverse(events)
	return events, err
}

func scanEvent(s scanner) (e store.Event, err error) {
	return e, s.Scan((*micros)(&e.At), &e.Project, &e.Kind, &e.UID, &e.Name, &e.Reason, &e.Message)
}

// AppendMetrics implements store.Facts.
func (t *Tx) AppendMetrics(job penstock.UID, attempt int, points []v1.MetricPoint) error {
	const what = "append metrics"
	for _, p := range points {
		values, err := t.encode(what, p.Values)
		if err != nil {
			return err
		}
		if _, err := t.exec(what, "INSERT INTO metrics (job, attempt, at, step, points) VALUES (?, ?, ?, ?, ?)",
			job, attempt, micros(p.At), p.Step, values); err != nil {
			return err
		}
	}
	return nil
}

// Metrics implements store.Facts. Of n points it gives the numbers
// ⌊i·(n-1)/(limit-1)⌋ for i from 0 to limit-1: the first, the last and evenly
// spaced ones between. With a limit of 1 it gives the last.
func (t *Tx) Metrics(job penstock.UID, limit int) ([]v1.MetricPoint, error) {
	const what = "read metrics"
	var n int64
	if _, err := t.row(what, "SELECT COUNT(*) FROM metrics WHERE job = ?", []any{job}, &n); err != nil {
		return nil, err
	}
	switch last := int64(limit) - 1; {
	case limit <= 0 || n <= int64(limit):
		return rows(t, what, scanPoint, "SELECT at, step, points FROM metrics WHERE job = ? ORDER BY at, seq", job)
	case last == 0:
		return rows(t, what, scanPoint, "SELECT at, step, points FROM metrics WHERE job = ? ORDER BY at DESC, seq DESC LIMIT 1", job)
	default:
		// Row r is chosen if it is the row of some i. The only i that can be is
		// the smallest one with i·(n-1) ≥ r·(limit-1).
		return rows(t, what, scanPoint, `SELECT m.at, m.step, m.points FROM (
				SELECT seq, ROW_NUMBER() OVER (ORDER BY at, seq) - 1 AS r FROM metrics WHERE job = ?
			) AS ranked JOIN metrics m ON m.seq = ranked.seq
			WHERE ((ranked.r * ? + ?) / ?) * ? / ? = ranked.r ORDER BY ranked.r`,
			job, last, n-2, n-1, n-1, last)
	}
}

func scanPoint(s scanner) (p v1.MetricPoint, err error) {
	return p, s.Scan((*micros)(&p.At), &p.Step, column{&p.Values})
}

// CommitCheckpoint implements store.Facts.
func (t *Tx) CommitCheckpoint(c v1.Checkpoint) error {
	what := fmt.Sprintf("commit step %d of job %s", c.Step, c.Job)
	files, err := t.encode(what, c.Files)
	if err != nil {
		return err
	}
	_, err = t.exec(what, `INSERT INTO checkpoints (job, step, attempt, digest, files, bytes, committed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (job, step) DO UPDATE SET attempt = excluded.attempt, digest = excluded.digest, files = excluded.files,
			bytes = excluded.bytes, committed_at = excluded.committed_at
		WHERE checkpoints.digest <> excluded.digest`,
		c.Job, c.Step, c.Attempt, c.Digest, files, c.Bytes, micros(c.Committed))
	return err
}

// Checkpoints implements store.Facts.
func (t *Tx) Checkpoints(job penstock.UID) ([]v1.Checkpoint, error) {
	return rows(t, "read checkpoints", scanCheckpoint,
		"SELECT job, step, attempt, digest, files, bytes, committed_at FROM checkpoints WHERE job = ? ORDER BY step DESC", job)
}

func scanCheckpoint(s scanner) (c v1.Checkpoint, err error) {
	return c, s.Scan(&c.Job, &c.Step, &c.Attempt, &c.Digest, column{&c.Files}, &c.Bytes, (*micros)(&c.Committed))
}

// DropCheckpoint implements store.Facts. Dropping what isn't there changes
// nothing.
func (t *Tx) DropCheckpoint(job penstock.UID, step int64) error {
	_, err := t.exec("drop a checkpoint", "DELETE FROM checkpoints WHERE job = ? AND step = ?", job, step)
	return err
}

// AppendAliasMove implements store.Facts.
func (t *Tx) AppendAliasMove(m v1.AliasMove, project string) error {
	_, err := t.exec("append an alias move", `INSERT INTO alias_moves (project, model, alias, from_digest, to_digest, moved_by, at, note)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, project, m.Model, m.Alias, m.From, m.To, m.By, micros(m.At), m.Note)
	return err
}

// AliasMoves implements store.Facts, in the order in which they were appended.
func (t *Tx) AliasMoves(project, model string) ([]v1.AliasMove, error) {
	return rows(t, "read alias moves", scanAliasMove, `SELECT model, alias, from_digest, to_digest, moved_by, at, note FROM alias_moves
		WHERE project = ? AND model = ? ORDER BY seq`, project, model)
}

func scanAliasMove(s scanner) (m v1.AliasMove, err error) {
	return m, s.Scan(&m.Model, &m.Alias, &m.From, &m.To, &m.By, (*micros)(&m.At), &m.Note)
}

// Recall implements store.Facts.
func (t *Tx) Recall(actor, key string) (store.Answer, error) {
	a := store.Answer{Actor: actor, Key: key}
	found, err := t.row("recall an answer", "SELECT request, status, body, at FROM answers WHERE actor = ? AND key = ?",
		[]any{actor, key}, &a.Request, &a.Status, &a.Body, (*micros)(&a.At))
	if err == nil && !found {
		err = &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("no answer is remembered for the idempotency key %.80q", key)}
	}
	if err != nil {
		return store.Answer{}, err
	}
	return a, nil
}

// Remember implements store.Facts. A key of this actor that has an answer
// already is Exists.
func (t *Tx) Remember(a store.Answer) error {
	n, err := t.exec("remember an answer", `INSERT INTO answers (actor, key, request, status, body, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, a.Actor, a.Key, a.Request, a.Status, append([]byte{}, a.Body...), micros(a.At))
	if err == nil && n == 0 {
		err = &penstock.Error{
			Code: penstock.Exists, Msg: fmt.Sprintf("the idempotency key %.80q has an answer already", a.Key),
			Hint: "use a new key for every new call",
		}
	}
	return err
}
