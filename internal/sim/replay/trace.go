package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
)

// The bounds of a row: what is beyond is a slip of the pen.
const (
	mostGPUs = 1 << 20
	mostTime = 100 * 365 * 24 * time.Hour
)

// row is one line of a trace. The first cell that can't be read is kept as err.
type row struct {
	columns map[string]int
	cells   []string
	where   string
	err     error
}

// rows reads a CSV file with a header and hands on each row. Name is the file's,
// for errors.
func rows(in io.Reader, name string, columns []string, take func(*row)) error {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	at := map[string]int{}
	for n := 0; ; n++ {
		cells, err := r.Read()
		var broken *csv.ParseError
		switch {
		case err == io.EOF && n < 2:
			return &penstock.Error{Code: penstock.Invalid, Where: name, Msg: "there are no rows", Hint: "give a CSV file with a header and a row at least"}
		case err == io.EOF:
			return nil
		case errors.As(err, &broken):
			return &penstock.Error{Code: penstock.Invalid, Where: fmt.Sprintf("%s:%d", name, broken.Line), Msg: broken.Err.Error()}
		case err != nil:
			return fmt.Errorf("read %s: %w", name, err)
		}
		line, _ := r.FieldPos(0)
		where := fmt.Sprintf("%s:%d", name, line)
		if n == 0 {
			if err := header(cells, at, columns, where); err != nil {
				return err
			}
			continue
		}
		got := row{columns: at, cells: cells, where: where}
		if take(&got); got.err != nil {
			return got.err
		}
	}
}

func header(cells []string, at map[string]int, columns []string, where string) error {
	for i, c := range cells {
		at[c] = i
	}
	for _, c := range columns {
		if _, known := at[c]; !known {
			return &penstock.Error{Code: penstock.Invalid, Where: where, Msg: fmt.Sprintf("there is no column %q", c), Hint: "the first line names the columns"}
		}
	}
	return nil
}

func (r *row) text(column string) string { return strings.Clone(r.cells[r.columns[column]]) }

func (r *row) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &penstock.Error{Code: penstock.Invalid, Where: r.where, Msg: fmt.Sprintf(format, args...)}
	}
}

// whole reads a whole number of low to high.
func (r *row) whole(column string, low, high int64) int64 {
	n, err := strconv.ParseInt(r.text(column), 10, 64)
	if err != nil || n < low || n > high {
		r.fail("%s is %.40q, and takes a whole number of %d to %d", column, r.text(column), low, high)
	}
	return n
}

// span reads a time given as a decimal number of a unit.
func (r *row) span(column string, unit time.Duration) time.Duration {
	x, err := strconv.ParseFloat(r.text(column), 64)
	if err != nil || !(x >= 0 && x <= float64(mostTime/unit)) { // NaN is neither
		r.fail("%s is %.40q, and takes a number of 0 to %d", column, r.text(column), mostTime/unit)
		return 0
	}
	return time.Duration(math.Round(x * float64(unit)))
}

func (r *row) positive(column string, d time.Duration) time.Duration {
	if d <= 0 {
		r.fail("%s is %.40q, and takes more than 0", column, r.text(column))
	}
	return d
}
