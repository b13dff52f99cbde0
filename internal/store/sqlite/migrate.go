package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store/migrations"
)

// migrate brings the schema up to date. A database that a newer version has
// brought further is refused before anything is changed.
func migrate(ctx context.Context, db *sql.DB) error {
	// goose tries again for seconds where a file isn't a database.
	if err := db.PingContext(ctx); err != nil {
		return explain(err)
	}
	files, err := fs.Sub(migrations.SQLite, "sqlite")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
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

// explain gives an error met while opening its code, if it is SQLite's.
func explain(err error) error {
	if e := translate(err); e != nil {
		e.Err = err
		return e
	}
	return err
}
