package sqldb

import (
	"github.com/penstock/penstock/internal/store"
)

// AppendAudit implements store.Facts. The first entry has Seq 1, and
// store.Genesis for Prev.
func (t *Tx) AppendAudit(e store.AuditEntry) (store.AuditEntry, error) {
	const what = "append to the audit log"
	e.Seq, e.Prev = 0, store.Genesis
	if _, err := t.row(what, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", nil, &e.Seq, &e.Prev); err != nil {
		return store.AuditEntry{}, err
	}
	e.Seq++
	e.At = stored(e.At)
	for _, text := range []*string{&e.Actor, &e.Role, &e.Verb, &e.Target, &e.Outcome, &e.Detail} {
		*text = legible(*text)
	}
	e.Hash = e.Sum()
	_, err := t.exec(what, `INSERT INTO audit (seq, at, actor, role, verb, target, outcome, detail, prev, hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Seq, micros(e.At), e.Actor, e.Role, e.Verb, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash)
	return e, err
}

// Audit implements store.Facts.
func (t *Tx) Audit(after int64, limit int) ([]store.AuditEntry, error) {
	return rows(t, "read the audit log", scanAudit, `SELECT seq, at, actor, role, verb, target, outcome, detail, prev, hash
		FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`, after, atMost(limit))
}

func scanAudit(s scanner) (e store.AuditEntry, err error) {
	return e, s.Scan(&e.Seq, (*micros)(&e.At), &e.Actor, &e.Role, &e.Verb, &e.Target, &e.Outcome, &e.Detail, &e.Prev, &e.Hash)
}
