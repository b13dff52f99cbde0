package sqldb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// table is a table whose rows are an installation's state, with the columns
// that order them. What a database keeps for itself alone is none.
type table struct {
	name, order string
	// counted says that the column seq is numbered by the database.
	counted bool
}

// tables are all of them, those that others refer to first.
func tables() []table {
	return []table{
		{name: "objects", order: "uid"}, {name: "labels", order: "uid, key"}, {name: "edges", order: "from_uid, to_uid, relation"},
		{name: "changes", order: "revision"}, {name: "events", order: "seq", counted: true}, {name: "metrics", order: "seq", counted: true},
		{name: "checkpoints", order: "job, step"}, {name: "alias_moves", order: "seq", counted: true}, {name: "audit", order: "seq"},
		{name: "answers", order: "actor, key"}, {name: "usage", order: "id"}, {name: "rates", order: "seq", counted: true},
		{name: "requests", order: "id"}, {name: "balances", order: "credential"}, {name: "credentials", order: "id"},
		{name: "leases", order: "name"}, {name: "beats", order: "name"},
	}
}

// Copied is what was copied of one table. Digest is the SHA-256 of all its rows
// in order, and the same on both sides.
type Copied struct {
	Table  string          `json:"table"`
	Rows   int64           `json:"rows"`
	Digest penstock.Digest `json:"digest"`
}

// copyBatch is how many rows one statement inserts: with 20 columns at most that
// stays below the 32,766 parameters of SQLite (https://www.sqlite.org/limits.html).
const copyBatch = 500

// Copy puts all that from holds into to, which must hold nothing, in one
// transaction: either to is afterwards what from was at one moment, or it is
// empty still. Before it commits it reads everything back and compares. told is
// called after each table. Both stores must be of adapters of this package.
func Copy(ctx context.Context, from, to store.Store, told func(Copied)) error {
	source, ok := from.(based)
	target, ok2 := to.(based)
	if !ok || !ok2 {
		return &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("a %T can't be copied into a %T", from, to)}
	}
	return target.base().receive(ctx, source.base(), told)
}

// based is an adapter of this package.
type based interface{ base() *Store }

func (s *Store) base() *Store { return s }

// receive is Copy, from the target's side.
func (s *Store) receive(ctx context.Context, from *Store, told func(Copied)) error {
	if err := errors.Join(s.enter(), from.enter()); err != nil {
		return err
	}
	defer s.running.Done()
	defer from.running.Done()
	read, _, err := from.begin(ctx, from.config.Readers, from.config.Dialect.View)
	if err != nil {
		return err
	}
	defer read.tx.Rollback()
	write, _, err := s.begin(ctx, s.config.Writer, s.config.Dialect.Update)
	if err != nil {
		return err
	}
	defer write.tx.Rollback()
	for _, t := range tables() {
		done, err := copyTable(t, read, write)
		if err != nil {
			return fmt.Errorf("copy table %s: %w", t.name, err)
		}
		told(done)
	}
	if err := write.tx.Commit(); err != nil {
		return s.config.Dialect.explain(ctx, "commit the copy", err)
	}
	s.Wake()
	return nil
}

func copyTable(t table, read, write *Tx) (Copied, error) {
	done := Copied{Table: t.name}
	if err := mustBeEmpty(t, write); err != nil {
		return done, err
	}
	columns, sum, err := pour(t, read, write, &done.Rows)
	if err != nil {
		return done, err
	}
	if count := write.dialect.Count; t.counted && count != nil {
		if _, err := write.tx.ExecContext(write.ctx, count(t.name)); err != nil {
			return done, write.dialect.explain(write.ctx, "go on counting", err)
		}
	}
	back := sha256.New()
	if err := write.each(t, columns, func(row []any) error { return digest(back, row) }); err != nil {
		return done, err
	}
	if got := back.Sum(nil); !bytes.Equal(got, sum) {
		return done, &penstock.Error{
			Code: penstock.Corrupt, Msg: fmt.Sprintf("what was written doesn't read as what was read: %x, not %x", got, sum),
			Hint: "nothing was kept; this is a fault of Penstock or of a database",
		}
	}
	done.Digest = penstock.DigestOf(sum)
	return done, nil
}

func mustBeEmpty(t table, write *Tx) error {
	var rows int64
	if err := write.tx.QueryRowContext(write.ctx, "SELECT COUNT(*) FROM "+t.name).Scan(&rows); err != nil {
		return write.dialect.explain(write.ctx, "count rows", err)
	}
	if rows == 0 {
		return nil
	}
	return &penstock.Error{
		Code: penstock.Exists, Msg: fmt.Sprintf("the target has %d rows there already", rows),
		Hint: "copy into a new, empty database: nothing is ever merged",
	}
}

// pour reads a table and writes what it reads, in batches. It gives the columns
// and the digest of the rows.
func pour(t table, read, write *Tx, rows *int64) (columns []string, sum []byte, err error) {
	if columns, err = read.columns(t); err != nil {
		return nil, nil, err
	}
	sums := sha256.New()
	var batch []any
	insert := func() error {
		if len(batch) == 0 {
			return nil
		}
		query := insertion(t, columns, len(batch)/len(columns), write.dialect)
		if _, err := write.tx.ExecContext(write.ctx, query, batch...); err != nil {
			return write.dialect.explain(write.ctx, "insert rows", err)
		}
		batch = batch[:0]
		return nil
	}
	err = read.each(t, columns, func(row []any) error {
		*rows++
		if err := digest(sums, row); err != nil {
			return err
		}
		if batch = append(batch, row...); len(batch) < copyBatch*len(columns) {
			return nil
		}
		return insert()
	})
	if err == nil {
		err = insert()
	}
	return columns, sums.Sum(nil), err
}

// insertion is the statement that inserts n rows.
func insertion(t table, columns []string, n int, d Dialect) string {
	row := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
	clause := ""
	if t.counted {
		clause = d.Numbered
	}
	return d.Rebind("INSERT INTO " + t.name + " (" + strings.Join(columns, ", ") + ") " + clause + " VALUES " +
		row + strings.Repeat(", "+row, n-1))
}

func (t *Tx) columns(of table) ([]string, error) {
	rows, err := t.tx.QueryContext(t.ctx, "SELECT * FROM "+of.name+" LIMIT 0")
	if err != nil {
		return nil, t.dialect.explain(t.ctx, "read columns", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, t.dialect.explain(t.ctx, "read columns", err)
	}
	return columns, errors.Join(rows.Err())
}

// each reads all rows of a table in order. The row is fn's only until it returns.
func (t *Tx) each(of table, columns []string, fn func(row []any) error) error {
	rows, err := t.tx.QueryContext(t.ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+of.name+" ORDER BY "+of.order)
	if err != nil {
		return t.dialect.explain(t.ctx, "read rows", err)
	}
	defer rows.Close()
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return t.dialect.explain(t.ctx, "read rows", err)
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return t.dialect.explain(t.ctx, "read rows", err)
	}
	return nil
}

// digest adds a row to h: of each value its kind, its length and its bytes, so
// that no two rows look alike.
func digest(h hash.Hash, row []any) error {
	for _, v := range row {
		var kind byte
		var content []byte
		switch v := v.(type) {
		case nil:
			kind = 'n'
		case int64:
			kind, content = 'i', binary.BigEndian.AppendUint64(nil, uint64(v))
		case string:
			kind, content = 't', []byte(v)
		case []byte:
			kind, content = 'b', v
		default:
			return &penstock.Error{Code: penstock.Internal, Msg: fmt.Sprintf("a value of type %T can't be copied", v)}
		}
		var head [9]byte
		head[0] = kind
		binary.BigEndian.PutUint64(head[1:], uint64(len(content)))
		_, _ = h.Write(head[:]) // a hash takes everything
		_, _ = h.Write(content)
	}
	return nil
}
