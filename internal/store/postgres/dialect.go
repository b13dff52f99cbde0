package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store/sqldb"
)

func dialect(c *connector) sqldb.Dialect {
	return sqldb.Dialect{
		Update: sql.TxOptions{Isolation: sql.LevelSerializable},
		// One snapshot, which is of a moment between two Updates: they queue. So it
		// is as good as serializable, and costs no bookkeeping.
		View: sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		// LOCK TABLE doesn't take the transaction's snapshot; the first statement
		// after it does, when the writer before has committed
		// (https://www.postgresql.org/docs/15/sql-lock.html).
		Lock:     "LOCK TABLE writer IN EXCLUSIVE MODE",
		Numbered: "OVERRIDING SYSTEM VALUE",
		Count: func(table string) string {
			return "SELECT setval(pg_get_serial_sequence('" + table + "', 'seq'), COALESCE(MAX(seq), 1), MAX(seq) IS NOT NULL) FROM " + table
		},
		Rebind:    rebind,
		Translate: translate,
		Judge:     judge,
		Seal:      c.seal,
		Sealed:    c.sealed,
	}
}

// rebind numbers the placeholders: $1, $2, and so on. No query has a question
// mark in a literal.
func rebind(query string) string {
	var b strings.Builder
	b.Grow(len(query) + 32)
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// The codes of https://www.postgresql.org/docs/15/errcodes-appendix.html that
// are spoken of below. A code's first two characters are its class.
const (
	classConnection   = "08"
	classData         = "22"
	classAuthorize    = "28"
	classRollback     = "40"
	classResources    = "53"
	classLimit        = "54"
	classIntervention = "57"
	classSystem       = "58"
	classCorrupt      = "XX"

	notNull        = "23502"
	foreignKey     = "23503"
	unique         = "23505"
	check          = "23514"
	readOnly       = "25006"
	idleInTx       = "25P03"
	noDatabase     = "3D000"
	completionLost = "40003"
	noPrivilege    = "42501"
	diskFull       = "53100"
	lockTimeout    = "55P03"
	queryCanceled  = "57014"
)

// translate reads the SQLSTATE.
func translate(err error) *penstock.Error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		if broken(err) {
			return unavailable("the database can't be reached, or the connection broke", "is it running, and is its address right? Nothing needs to be restarted here")
		}
		return nil
	}
	switch e.Code {
	case check, notNull:
		return &penstock.Error{Code: penstock.Invalid, Msg: "a value is missing or isn't one that may be there"}
	case foreignKey:
		return &penstock.Error{Code: penstock.Busy, Msg: "something else refers to it, or what it refers to is gone"}
	case unique:
		return &penstock.Error{Code: penstock.Exists, Msg: "there is one with the same key already"}
	case readOnly:
		return unavailable("the database is read-only: a standby", "give the address of the primary")
	case noDatabase:
		return unavailable("the server has no such database", "make it: createdb --owner=penstock penstock")
	case noPrivilege:
		return unavailable("the database's user may not do this", "let the user own the database: ALTER DATABASE ... OWNER TO ...")
	case diskFull:
		return unavailable("the database's disk is full; nothing was changed", "free some space there; nothing needs to be restarted")
	case lockTimeout:
		return unavailable("somebody else has locked the database for longer than 10 s", "see who in pg_stat_activity; a shell left open in a transaction?")
	case queryCanceled:
		return unavailable("the database took longer than 30 s", "see its load; is autovacuum running?")
	}
	return translateClass(e.Code[:min(2, len(e.Code))])
}

func translateClass(class string) *penstock.Error {
	switch class {
	case classData:
		return &penstock.Error{Code: penstock.Invalid, Msg: "a value is of the wrong form, such as text that isn't UTF-8"}
	case classLimit:
		return &penstock.Error{Code: penstock.TooLarge, Msg: "a value is larger than the database takes"}
	case classAuthorize:
		return unavailable("the database doesn't let us in", "check user and password file, and pg_hba.conf on its side")
	case classRollback:
		return unavailable("other writers were always faster", "try again")
	case classConnection, classIntervention:
		return unavailable("the database is stopping or starting, or cut the connection", "try again when it is back")
	case classResources, classSystem:
		return unavailable("the database is out of connections, memory or disk", "see its log")
	case classCorrupt:
		return &penstock.Error{Code: penstock.Corrupt, Msg: "the database is damaged", Hint: "see its log; put a backup back if need be"}
	}
	if class == idleInTx[:2] {
		return unavailable("the transaction was cut for doing nothing for longer than 5 s", "is this machine overloaded?")
	}
	return nil
}

func unavailable(msg, hint string) *penstock.Error {
	return &penstock.Error{Code: penstock.Unavailable, Msg: msg, Hint: hint}
}

// explain gives an error met while opening its code.
func explain(err error) error {
	var known *penstock.Error
	if errors.As(err, &known) {
		return err
	}
	if e := translate(err); e != nil {
		e.Err = err
		return e
	}
	return err
}

// judge tells whether a transaction may be repeated. An error of severity FATAL
// or PANIC ends the session, and says nothing of a commit that was on its way:
// it may have waited for a standby, committed.
func judge(err error) sqldb.Verdict {
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e):
		return judgeCode(e)
	case broken(err):
		// Also where pgconn.SafeToRetry says that nothing was sent: of a commit whose
		// answer is cut off it says so too.
		return sqldb.Cut
	}
	return sqldb.Final
}

func judgeCode(e *pgconn.PgError) sqldb.Verdict {
	switch class := e.Code[:min(2, len(e.Code))]; {
	case e.Code == completionLost, class == classConnection:
		return sqldb.Cut
	case class == classRollback:
		return sqldb.Repeat
	case e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC":
		// Whom the server doesn't let in now it won't let in in a second.
		if class == classAuthorize || e.Code == noDatabase || e.Code == noPrivilege {
			return sqldb.Final
		}
		return sqldb.Cut
	}
	return sqldb.Final
}

// broken tells errors of the network and of connections that are closed.
func broken(err error) bool {
	var network net.Error
	var connecting *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connecting) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, context.Canceled)
}
