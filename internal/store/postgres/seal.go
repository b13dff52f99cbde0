package postgres

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/penstock/penstock/internal/store/sqldb"
)

const (
	// A token is kept for longer than its transaction is looked for. The clock is
	// the database's.
	keepToken = 5 * time.Minute
	// Of so many commits one removes old tokens.
	sweepOneOf = 512
	// relook is the pause between two looks.
	relook = 50 * time.Millisecond
)

// channel is what is notified of commits that changed objects.
const channel = "penstock_changed"

const now = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"

// seal leaves a random token, which is there if and only if the transaction is
// committed. The transaction's own number wouldn't do: after a crash it may be
// given to another one. A transaction that wrote nothing has no number yet, and
// gets no token.
func (c *connector) seal(ctx context.Context, tx *sql.Tx, w sqldb.Written) (token string, err error) {
	if rand.IntN(sweepOneOf) == 0 {
		if _, err := tx.ExecContext(ctx, "DELETE FROM commits WHERE at < "+now+" - $1", keepToken.Microseconds()); err != nil {
			return "", err
		}
	}
	token = crand.Text()
	if w == sqldb.Changes {
		_, err = tx.ExecContext(ctx, "WITH sealed AS (INSERT INTO commits (token, at) VALUES ($1, "+now+")) SELECT pg_notify('"+channel+"', $2)", token, c.id)
		return token, err
	}
	res, err := tx.ExecContext(ctx, "INSERT INTO commits (token, at) SELECT $1, "+now+" WHERE pg_current_xact_id_if_assigned() IS NOT NULL", token)
	if err != nil {
		return "", err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return "", err
	}
	return token, nil
}

// sealed looks for a token on a new connection, until there is an answer or ctx
// ends. As a writer it comes after the transaction in question, dead or alive:
// that one holds the lock until it has ended.
func (c *connector) sealed(ctx context.Context, token string) (committed bool, err error) {
	for {
		committed, err = c.look(ctx, token)
		if err == nil {
			return committed, nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(relook):
		}
	}
}

func (c *connector) look(ctx context.Context, token string) (found bool, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE writer IN EXCLUSIVE MODE"); err != nil {
		return false, err
	}
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM commits WHERE token = $1)", token).Scan(&found); err != nil {
		return false, err
	}
	return found, tx.Rollback(ctx)
}
