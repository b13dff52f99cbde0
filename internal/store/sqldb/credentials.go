package sqldb

import (
	"fmt"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

const credentialColumns = `id, hash, use, subject, project, role, attempt, endpoints, token_limit, rate, created, expires, revoked`

// PutCredential implements store.Credentials. It replaces the credential that
// has the ID; a hash that another one has is Exists.
func (t *Tx) PutCredential(c store.Credential) error {
	what := "put credential " + c.ID
	endpoints, err := t.encode(what, c.Endpoints)
	if err != nil {
		return err
	}
	var other string
	taken, err := t.row(what, "SELECT id FROM credentials WHERE hash = ? AND id <> ?", []any{c.Hash, c.ID}, &other)
	if err != nil {
		return err
	}
	if taken {
		return &penstock.Error{Code: penstock.Exists, Msg: fmt.Sprintf("credential %s has the same token as %s", other, c.ID), Hint: "make a new token"}
	}
	_, err = t.exec(what, "INSERT INTO credentials ("+credentialColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, use = excluded.use, subject = excluded.subject, project = excluded.project,
			role = excluded.role, attempt = excluded.attempt, endpoints = excluded.endpoints, token_limit = excluded.token_limit,
			rate = excluded.rate, created = excluded.created, expires = excluded.expires, revoked = excluded.revoked`,
		c.ID, c.Hash, c.Use, c.Subject, c.Project, c.Role, c.Attempt, endpoints, c.Limit, c.Rate,
		micros(c.Created), micros(c.Expires), micros(c.Revoked))
	return err
}

// CredentialByHash implements store.Credentials.
func (t *Tx) CredentialByHash(hash string) (store.Credential, error) {
	found, err := rows(t, "read a credential", scanCredential, "SELECT "+credentialColumns+" FROM credentials WHERE hash = ?", hash)
	if err != nil {
		return store.Credential{}, err
	}
	if len(found) == 0 {
		return store.Credential{}, &penstock.Error{Code: penstock.NotFound, Msg: "there is no credential for this token"}
	}
	return found[0], nil
}

// ListCredentials implements store.Credentials, in order of ID.
func (t *Tx) ListCredentials(project string) ([]store.Credential, error) {
	where, args := "", []any{}
	if project != "" {
		where, args = " WHERE project = ?", []any{project}
	}
	return rows(t, "list credentials", scanCredential, "SELECT "+credentialColumns+" FROM credentials"+where+" ORDER BY id", args...)
}

func scanCredential(s scanner) (c store.Credential, err error) {
	return c, s.Scan(&c.ID, &c.Hash, &c.Use, &c.Subject, &c.Project, &c.Role, &c.Attempt, column{&c.Endpoints}, &c.Limit, &c.Rate,
		(*micros)(&c.Created), (*micros)(&c.Expires), (*micros)(&c.Revoked))
}

// RevokeCredential implements store.Credentials. A credential that was revoked
// from an earlier time on stays so.
func (t *Tx) RevokeCredential(id string, at time.Time) error {
	what := "revoke credential " + id
	n, err := t.exec(what, "UPDATE credentials SET revoked = CASE WHEN revoked < ? THEN revoked ELSE ? END WHERE id = ?",
		micros(at), micros(at), id)
	if err == nil && n == 0 {
		err = &penstock.Error{Code: penstock.NotFound, Msg: "there is no credential " + id}
	}
	return err
}
