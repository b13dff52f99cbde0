package sqldb

import (
	"fmt"
	"strings"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Reserve implements store.Ledger. An ID that is in the ledger is Exists.
func (t *Tx) Reserve(r store.Request, limit int64) error {
	what := "reserve tokens for request " + r.ID
	var used, held int64
	if _, err := t.row(what, "SELECT used, held FROM balances WHERE credential = ?", []any{r.Key}, &used, &held); err != nil {
		return err
	}
	// Written so that it can't overflow.
	if limit != 0 && r.Reserved > limit-used-held {
		return &penstock.Error{
			Code: penstock.OverLimit,
			Msg: fmt.Sprintf("key %s may have %d tokens: %d are used and %d held by open requests, so %d more are too many",
				r.Key, limit, used, held, r.Reserved),
			Hint: "ask for fewer tokens, wait for open requests to end, or have the key's limit raised",
		}
	}
	n, err := t.exec(what, `INSERT INTO requests (id, credential, project, endpoint, endpoint_name, version, route, started, reserved)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		r.ID, r.Key, r.Project, r.Endpoint, r.EndpointName, r.Version, r.Route, micros(r.Started), r.Reserved)
	if err != nil {
		return err
	}
	if n == 0 {
		return &penstock.Error{Code: penstock.Exists, Msg: fmt.Sprintf("request %s is in the ledger already", r.ID)}
	}
	_, err = t.exec(what, `INSERT INTO balances (credential, used, held) VALUES (?, 0, ?)
		ON CONFLICT (credential) DO UPDATE SET held = balances.held + excluded.held`, r.Key, r.Reserved)
	return err
}

// Settle implements store.Ledger. A request that was never reserved is NotFound.
func (t *Tx) Settle(r store.Request) (first bool, err error) {
	what := "settle request " + r.ID
	var key string
	var reserved int64
	first, err = t.row(what, `UPDATE requests SET ended = ?, prompt_tokens = ?, completion_tokens = ?, ttft = ?, outcome = ?, source = ?, status = ?
		WHERE id = ? AND ended IS NULL RETURNING credential, reserved`,
		[]any{micros(r.Ended), r.PromptTokens, r.CompletionTokens, int64(r.TTFT), r.Outcome, r.Source, r.Status, r.ID}, &key, &reserved)
	if err != nil {
		return false, err
	}
	if !first {
		found, err := t.row(what, "SELECT credential FROM requests WHERE id = ?", []any{r.ID}, &key)
		if err == nil && !found {
			err = &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no request %s in the ledger", r.ID)}
		}
		return false, err
	}
	_, err = t.exec(what, "UPDATE balances SET used = used + ?, held = held - ? WHERE credential = ?",
		r.PromptTokens+r.CompletionTokens, reserved, key)
	return err == nil, err
}

// Requests implements store.Ledger, by Started; of those that started together
// the larger ID comes first.
func (t *Tx) Requests(q store.RequestQuery) ([]store.Request, error) {
	where, args := []string{"1 = 1"}, []any{}
	if q.Endpoint != "" {
		where, args = append(where, "endpoint = ?"), append(args, q.Endpoint)
	}
	if q.Key != "" {
		where, args = append(where, "credential = ?"), append(args, q.Key)
	}
	if q.Open {
		where = append(where, "ended IS NULL")
	}
	return rows(t, "read requests", scanRequest, `SELECT id, credential, project, endpoint, endpoint_name, version, route, started, reserved,
			ended, prompt_tokens, completion_tokens, ttft, outcome, source, status FROM requests
		WHERE `+strings.Join(where, " AND ")+" ORDER BY started DESC, id DESC LIMIT ?", append(args, atMost(q.Limit))...)
}

func scanRequest(s scanner) (r store.Request, err error) {
	return r, s.Scan(&r.ID, &r.Key, &r.Project, &r.Endpoint, &r.EndpointName, &r.Version, &r.Route, (*micros)(&r.Started), &r.Reserved,
		(*micros)(&r.Ended), &r.PromptTokens, &r.CompletionTokens, (*int64)(&r.TTFT), &r.Outcome, &r.Source, &r.Status)
}

// Tally implements store.Ledger. A request belongs to the time at which it
// ended, so the tally of a time that is over doesn't change any more.
func (t *Tx) Tally(from, to time.Time) ([]store.Tally, error) {
	return rows(t, "tally requests", scanTally, `SELECT project, endpoint, endpoint_name, version, COUNT(*),
			SUM(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END),
			CAST(SUM(prompt_tokens) AS BIGINT), CAST(SUM(completion_tokens) AS BIGINT)
		FROM requests WHERE ended >= ? AND ended < ?
		GROUP BY project, endpoint, endpoint_name, version ORDER BY project, endpoint, version, endpoint_name`, from.UnixMicro(), to.UnixMicro())
}

func scanTally(s scanner) (a store.Tally, err error) {
	return a, s.Scan(&a.Project, &a.Endpoint, &a.EndpointName, &a.Version, &a.Requests, &a.Succeeded, &a.PromptTokens, &a.CompletionTokens)
}
