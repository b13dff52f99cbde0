package sqldb

import (
	"context"
	"database/sql"
	"errors"

	"github.com/penstock/penstock"
)

// Dialect is what differs between the databases.
type Dialect struct {
	// Update and View are how the two sorts of transaction begin. Both must give
	// serializable isolation.
	Update, View sql.TxOptions
	// Lock, where there is one, is the statement that every Update begins with,
	// so that writers queue where waiting is free.
	Lock string
	// Numbered is what an INSERT says that gives the numbers which the database
	// would, and Count the statement after which it goes on from there. Without
	// them neither needs saying.
	Numbered string
	Count    func(table string) string
	// Rebind turns the placeholders "?" into the database's own.
	Rebind func(query string) string
	// Translate tells what an error of the driver means by its code, never by
	// its text, or gives nil for one that it doesn't know. What was being done
	// and the cause are added by the caller.
	Translate func(err error) *penstock.Error
	// Judge tells whether an Update that met an error of the driver may run
	// again. Without it none does, and Sealed isn't needed.
	Judge func(err error) Verdict
	// Seal, where there is one, is called right before an Update's commit with
	// what was written. What it gives identifies the transaction to Sealed; it is
	// empty if there is nothing to commit.
	Seal func(ctx context.Context, tx *sql.Tx, w Written) (seal string, err error)
	// Sealed tells, when the connection was cut while the commit was on its way,
	// whether the transaction is committed. Once it answered, that is final.
	Sealed func(ctx context.Context, seal string) (committed bool, err error)
}

// Verdict is what an error of the driver means for the transaction it was met
// in.
type Verdict int

// Final is an error that would come again. Repeat says that nothing was done and
// that doing it again may help. Cut says that the connection broke: nothing was
// done, unless the commit was on its way.
const (
	Final Verdict = iota
	Repeat
	Cut
)

// Written is what an Update wrote.
type Written int

// Facts is anything, or nothing, but no change of an object; Changes has one.
const (
	Facts Written = iota
	Changes
)

// judge is Judge for an error met before the commit was sent, when a connection
// that is cut takes all that was done with it.
func (d Dialect) judge(err error) Verdict {
	if d.Judge == nil {
		return Final
	}
	if v := d.Judge(err); v != Cut {
		return v
	}
	return Repeat
}

// explain makes a *penstock.Error of an error met while doing what ("read
// objects").
func (d Dialect) explain(ctx context.Context, what string, err error) error {
	var known *penstock.Error
	if errors.As(err, &known) {
		return err
	}
	// What the driver says about an interrupted statement depends on when it
	// was interrupted, so the context has the first word.
	if ctx.Err() != nil {
		return &penstock.Error{Code: penstock.Canceled, Msg: what + " was given up", Err: context.Cause(ctx)}
	}
	if e := d.Translate(err); e != nil {
		e.Msg = what + ": " + e.Msg
		e.Err = err
		return e
	}
	return &penstock.Error{Code: penstock.Internal, Msg: "can't " + what, Err: err}
}
