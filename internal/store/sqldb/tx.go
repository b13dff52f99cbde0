package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Tx is one transaction. It lives as long as the call of the fn it is given to,
// and is for one goroutine.
type Tx struct {
	ctx     context.Context
	tx      *sql.Tx
	dialect Dialect
	keep    int64

	newest  int64 // revision, 0 until it was read or made
	changed bool  // some object

	// failed is the first failure of a statement. A call on the port may be many
	// statements, so after it nothing may be committed, whatever fn makes of it.
	// verdict is what the database said of it.
	failed  error
	verdict Verdict
}

var _ store.Tx = (*Tx)(nil)

// fail explains err and dooms the transaction.
func (t *Tx) fail(what string, err error) error {
	explained := t.dialect.explain(t.ctx, what, err)
	if t.failed == nil {
		t.failed, t.verdict = explained, t.dialect.judge(err)
	}
	return explained
}

// exec runs a statement and gives the number of rows that it changed.
func (t *Tx) exec(what, query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(t.ctx, t.dialect.Rebind(query), args...)
	if err != nil {
		return 0, t.fail(what, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.fail(what, err)
	}
	return n, nil
}

// scanner is a sql.Row or the current row of sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// row reads the one row of a query into dest, or reports that there is none.
func (t *Tx) row(what, query string, args []any, dest ...any) (found bool, err error) {
	err = t.tx.QueryRowContext(t.ctx, t.dialect.Rebind(query), args...).Scan(dest...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, t.fail(what, err)
	}
	return true, nil
}

// rows reads every row of a query.
func rows[T any](t *Tx, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rs, err := t.tx.QueryContext(t.ctx, t.dialect.Rebind(query), args...)
	if err != nil {
		return nil, t.fail(what, err)
	}
	defer rs.Close()
	var all []T
	for rs.Next() {
		v, err := scan(rs)
		if err != nil {
			return nil, t.fail(what, err)
		}
		all = append(all, v)
	}
	if err := rs.Err(); err != nil {
		return nil, t.fail(what, err)
	}
	return all, nil
}

// encode writes v as JSON. What can't be written (a NaN) is the caller's fault.
func (t *Tx) encode(what string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", t.fail(what, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("%s: can't be written as JSON", what), Err: err,
			Hint: "JSON has no NaN and no infinity",
		})
	}
	return string(b), nil
}

// micros is a time in a column: microseconds since the epoch, or NULL for the
// zero time.
type micros time.Time

// Value implements driver.Valuer.
func (m micros) Value() (driver.Value, error) {
	t := time.Time(m)
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMicro(), nil
}

// Scan implements sql.Scanner.
func (m *micros) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m = micros{}
	case int64:
		*m = micros(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("a %T is not a time in microseconds", v)
	}
	return nil
}

// stored is t as it comes back from the database.
func stored(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// legible is text as every database keeps it: what isn't UTF-8, and the zero
// byte, is U+FFFD. It is for what comes from outside and must go in, such as the
// path of a refused call or the last words of a task.
func legible(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
}

// column reads JSON from a column into the value that it points to.
type column struct{ dest any }

// Scan implements sql.Scanner.
func (c column) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("a %T is not JSON text", v)
	}
	return json.Unmarshal([]byte(text), c.dest)
}

// atMost is the LIMIT of a limit of the port, where 0 is none.
func atMost(limit int) int64 {
	if limit <= 0 {
		return math.MaxInt64
	}
	return int64(limit)
}
