// Package sqlite keeps the state in one SQLite database file: the embedded
// default, for one server. It writes over one connection and reads over
// several, in WAL mode, so readers never wait for the writer; and it syncs the
// log to the disk at every commit.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/sqldb"
)

const (
	// readers bounds how many Views run at once; more wait for their turn.
	readers = 8
	// keepRevisions is how far back a watch can go on: with objects of 2 KB the
	// log takes 200 MB.
	keepRevisions = 100_000
	// smallest is the size of the smallest page. SQLite would take less for an
	// empty database, and write over it.
	smallest = 512
)

// Open opens the database file at path, makes it (readable by its owner only)
// if it isn't there, and brings its schema up to date. Errors are Unsupported
// for a database from a newer version, Corrupt for a file that isn't a
// database, and Unavailable for one that can't be opened. Only one process may
// have the database open; seeing to that is the caller's task.
func Open(ctx context.Context, path string) (store.Store, error) {
	s, err := open(ctx, path, keepRevisions)
	if err != nil {
		var e *penstock.Error
		if errors.As(err, &e) {
			e.Where = path
		}
		// Not s: a nil *sqldb.Store is not a nil store.Store.
		return nil, fmt.Errorf("open the state: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, path string, keep int64, pragmas ...string) (*sqldb.Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	// The writer comes first: it turns the file into a database in WAL mode,
	// which a connection that only reads can't.
	writer, err := openWriter(path, pragmas...)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	read, err := pool(path, readers, []string{"query_only(1)"})
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	return sqldb.New(sqldb.Config{Writer: writer, Readers: read, Dialect: dialect(), KeepRevisions: keep}), nil
}

// openWriter makes the pool of the one connection that writes. synchronous(FULL)
// syncs the log at every commit, so that a commit survives a power cut.
func openWriter(path string, pragmas ...string) (*sql.DB, error) {
	return pool(path, 1, append(pragmas, "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(67108864)"))
}

// pool makes a pool of at most n connections, kept open once they are.
func pool(path string, n int, pragmas []string) (*sql.DB, error) {
	query := url.Values{
		// A busy database is another program's doing (a backup, a shell): it is
		// worth some patience.
		"_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...),
		// A transaction that writes says so when it begins: it waits there, and
		// never has to be repeated.
		"_txlock": {"immediate"},
		"_dqs":    {"false"},
		// The file is there, so a missing one is a fault and not a new database.
		"mode": {"rw"},
	}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("read the name of the database: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// makePrivate makes the file, if it isn't there, and takes it from everybody
// but its owner. SQLite gives the files beside it the same permissions.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unavailable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return unavailable(err)
	}
	if info.Size() > 0 && info.Size() < smallest {
		return &penstock.Error{
			Code: penstock.Corrupt, Msg: fmt.Sprintf("the file has %d bytes and a SQLite database has %d at least", info.Size(), smallest),
			Hint: "was the file overwritten? Put a backup back, or move it away to begin anew",
		}
	}
	if info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil {
			return unavailable(err)
		}
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return unavailable(err)
	}
	defer folder.Close()
	// A new file is there after a power cut only if its folder was synced.
	if err := folder.Sync(); err != nil {
		return unavailable(err)
	}
	return nil
}

func unavailable(err error) error {
	hint := "look at the disk and at the permissions of the data folder"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "make the data folder first"
	}
	return &penstock.Error{Code: penstock.Unavailable, Msg: "the database file can't be opened", Hint: hint, Err: err}
}
