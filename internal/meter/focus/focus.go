// Package focus writes a cost report in the FinOps Open Cost and Usage
// Specification (FOCUS) 1.2, as CSV or JSON: one charge for each row of the
// report, with all columns that 1.2 makes mandatory and the conditional ones
// that Penstock can fill. Columns of our own begin with x_ and come last.
//
// FOCUS has no cost that is unknown. A row without a known price is written
// with costs of 0, no unit price, and x_CostKnown false.
package focus

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/meter"
)

// Account is who is charged, by whom, in what currency.
type Account struct {
	ID       string
	Name     string
	Issuer   string // provider, publisher and invoice issuer
	Currency string // ISO 4217
}

// CSV writes the report with a header line. A column without a value is empty.
// A report that isn't within one calendar month of UTC is refused, since each
// charge belongs to one billing period.
func CSV(w io.Writer, a Account, r meter.Report) error {
	charges, err := charges(a, r)
	if err != nil {
		return err
	}
	out := csv.NewWriter(w)
	if err := out.Write(Columns()); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	for _, c := range charges {
		fields := make([]string, len(columns))
		for i, col := range columns {
			fields[i] = col.value(c)
		}
		if err := out.Write(fields); err != nil {
			return fmt.Errorf("write charge: %w", err)
		}
	}
	out.Flush()
	return out.Error()
}

// JSON writes the report as an array of objects whose keys are in the order of
// Columns. A column without a value is null; numbers are exact decimals.
func JSON(w io.Writer, a Account, r meter.Report) error {
	charges, err := charges(a, r)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for i, c := range charges {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n{")
		for j, col := range columns {
			if j > 0 {
				b.WriteByte(',')
			}
			value, err := col.json(c)
			if err != nil {
				return fmt.Errorf("encode %s: %w", col.name, err)
			}
			fmt.Fprintf(&b, "%q:%s", col.name, value)
		}
		b.WriteByte('}')
	}
	if _, err := fmt.Fprintf(w, "[%s\n]\n", b.Bytes()); err != nil {
		return fmt.Errorf("write charges: %w", err)
	}
	return nil
}

// charge is one line of the export.
type charge struct {
	account Account
	month   meter.Window
	row     meter.Row
}

func charges(a Account, r meter.Report) ([]charge, error) {
	month := meter.MonthWindow(r.Window.From)
	if r.Window.To.After(month.To) {
		return nil, &penstock.Error{
			Code: penstock.Invalid,
			Msg: fmt.Sprintf("the report goes from %s to %s, over the end of a month",
				instant(r.Window.From), instant(r.Window.To)),
			Hint: "export one calendar month (UTC) at a time",
		}
	}
	all := make([]charge, len(r.Rows))
	for i, row := range r.Rows {
		all[i] = charge{account: a, month: month, row: row}
	}
	return all, nil
}

// json is the column's value in JSON.
func (c column) json(ch charge) ([]byte, error) {
	text := c.value(ch)
	switch {
	case text == "":
		return []byte("null"), nil
	case c.shape == raw:
		return []byte(text), nil
	}
	return json.Marshal(text)
}
