package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store/migrations"
)

const (
	// migrationLock is the advisory lock under which one replica migrates: the
	// bytes of "penstock", so that nobody else has it by chance.
	migrationLock = 0x70656e73746f636b
	// A lock is asked for rather than waited for: who waits in a statement holds
	// up an index that is built concurrently.
	askAgain = 50 * time.Millisecond
)

// migrate brings the schema up to date, alone. A server that is too old and a
// database that a newer version has brought further are refused before anything
// is changed.
func migrate(ctx context.Context, c *connector) (err error) {
	// An index on a large table takes its time.
	patient := &connector{config: c.config.Copy(), passwordFile: c.passwordFile}
	for _, limit := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		patient.config.RuntimeParams[limit] = "0"
	}
	db := patient.pool(2) // one to hold the lock, one to migrate
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer conn.Close()
	if err := examine(ctx, conn, c); err != nil {
		return explain(err)
	}
	if err := lock(ctx, conn); err != nil {
		return explain(err)
	}
	// The lock goes with the session, at the latest.
	defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	return upgrade(ctx, db)
}

// examine looks whether the server will do, and makes sure that a commit that is
// acknowledged is on its disk.
func examine(ctx context.Context, conn *sql.Conn, c *connector) error {
	var version int
	var syncs string
	if err := conn.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit')").Scan(&version, &syncs); err != nil {
		return err
	}
	if version < minVersion {
		return &penstock.Error{
			Code: penstock.Unsupported, Msg: fmt.Sprintf("the server is PostgreSQL %d and this program needs %d at least", version/1_00_00, minVersion/1_00_00),
			Hint: "upgrade the server",
		}
	}
	if syncs == "off" {
		c.config.RuntimeParams["synchronous_commit"] = "on"
	}
	return nil
}

func lock(ctx context.Context, conn *sql.Conn) error {
	for {
		var mine bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", migrationLock).Scan(&mine); err != nil || mine {
			return err
		}
		select {
		case <-ctx.Done():
			return &penstock.Error{
				Code: penstock.Canceled, Msg: "waiting for another replica that upgrades the database was given up",
				Hint: "see pg_stat_activity for what it is doing", Err: context.Cause(ctx),
			}
		case <-time.After(askAgain):
		}
	}
}

func upgrade(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations.PostgreSQL, "postgres")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	has, knows, err := provider.GetVersions(ctx)
	if err != nil {
		return explain(err)
	}
	if has > knows {
		return &penstock.Error{
			Code: penstock.Unsupported,
			Msg:  fmt.Sprintf("the database has schema version %d and this program knows versions up to %d", has, knows),
			Hint: "run the newer version of penstock that wrote it, or put back the backup made before it",
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return explain(err)
	}
	return nil
}
