package sqlite

import (
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store/sqldb"
)

func dialect() sqldb.Dialect {
	return sqldb.Dialect{
		View:      sql.TxOptions{ReadOnly: true},
		Rebind:    func(query string) string { return query },
		Translate: translate,
	}
}

// translate reads the result code of SQLite (https://www.sqlite.org/rescode.html):
// its lowest 8 bits are the primary code.
func translate(err error) *penstock.Error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT:
		return constraint(e.Code())
	case sqlite3.SQLITE_MISMATCH:
		return &penstock.Error{Code: penstock.Invalid, Msg: "a value is of the wrong type"}
	case sqlite3.SQLITE_TOOBIG:
		return &penstock.Error{Code: penstock.TooLarge, Msg: "a value is larger than 1 GB"}
	case sqlite3.SQLITE_FULL:
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: "the disk is full; nothing was changed",
			Hint: "free some space in the data folder's file system; nothing needs to be restarted",
		}
	case sqlite3.SQLITE_NOTADB:
		return &penstock.Error{
			Code: penstock.Corrupt, Msg: "the file is not a SQLite database",
			Hint: "was the file overwritten? Put a backup back, or move it away to begin anew",
		}
	case sqlite3.SQLITE_CORRUPT:
		return &penstock.Error{
			Code: penstock.Corrupt, Msg: "the database is damaged",
			Hint: "stop the server and put a backup back; what is readable can be saved with: sqlite3 FILE .recover",
		}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: "another program has locked the database for longer than 5 s",
			Hint: "end what else has the file open, such as a sqlite3 shell or a backup",
		}
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM:
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: "the database can't be read or written",
			Hint: "look at the disk and at the permissions of the data folder",
		}
	}
	return nil
}

// constraint tells what rule of the schema was broken. sqldb looks before it
// writes, so Exists and Busy are here for what it overlooked.
func constraint(code int) *penstock.Error {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_CONSTRAINT_DATATYPE:
		return &penstock.Error{Code: penstock.Invalid, Msg: "a value is missing or isn't one that may be there"}
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, sqlite3.SQLITE_CONSTRAINT_TRIGGER:
		return &penstock.Error{Code: penstock.Busy, Msg: "something else refers to it, or what it refers to is gone"}
	}
	return &penstock.Error{Code: penstock.Exists, Msg: "there is one with the same key already"}
}
