package sqldb

import (
	"time"

	"github.com/penstock/penstock/internal/store"
)

// AppendUsage implements store.Ledger.
func (t *Tx) AppendUsage(uses ...store.Usage) error {
	for _, u := range uses {
		what := "append usage " + u.ID
		labels, err := t.encode(what, u.Labels)
		if err != nil {
			return err
		}
		if _, err := t.exec(what, `INSERT INTO usage (id, project, job, job_name, attempt, rank, pool, node, resource, amount,
				from_at, to_at, labels, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			u.ID, u.Project, u.Job, u.JobName, u.Attempt, u.Rank, u.Pool, u.Node, u.Resource, u.Amount,
			micros(u.From), micros(u.To), labels, u.Outcome); err != nil {
			return err
		}
	}
	return nil
}

// Usage implements store.Ledger. Uses that begin together are in order of ID.
func (t *Tx) Usage(from, to time.Time) ([]store.Usage, error) {
	return rows(t, "read usage", scanUsage, `SELECT id, project, job, job_name, attempt, rank, pool, node, resource, amount,
			from_at, to_at, labels, outcome FROM usage
		WHERE to_at > ? AND from_at < ? ORDER BY from_at, id`, from.UnixMicro(), to.UnixMicro())
}

func scanUsage(s scanner) (u store.Usage, err error) {
	return u, s.Scan(&u.ID, &u.Project, &u.Job, &u.JobName, &u.Attempt, &u.Rank, &u.Pool, &u.Node, &u.Resource, &u.Amount,
		(*micros)(&u.From), (*micros)(&u.To), column{&u.Labels}, &u.Outcome)
}

// AppendRate implements store.Ledger.
func (t *Tx) AppendRate(r store.Rate) error {
	_, err := t.exec("append a rate", "INSERT INTO rates (pool, resource, price, capacity, from_at) VALUES (?, ?, ?, ?, ?)",
		r.Pool, r.Resource, r.Price, r.Capacity, micros(r.From))
	return err
}

// Rates implements store.Ledger. Of those with the same From, the one that was
// appended last comes last.
func (t *Tx) Rates(to time.Time) ([]store.Rate, error) {
	return rows(t, "read rates", scanRate,
		"SELECT pool, resource, price, capacity, from_at FROM rates WHERE from_at < ? ORDER BY from_at, seq", to.UnixMicro())
}

func scanRate(s scanner) (r store.Rate, err error) {
	return r, s.Scan(&r.Pool, &r.Resource, &r.Price, &r.Capacity, (*micros)(&r.From))
}
