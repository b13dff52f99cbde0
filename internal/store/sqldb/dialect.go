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
	// Rebind turns the placeholders "?" into the database's own.
	Rebind func(query string) string
	// Translate tells what an error of the driver means by its code, never by
	// its text, or gives nil for one that it doesn't know. What was being done
	// and the cause are added by the caller.
	Translate func(err error) *penstock.Error
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
