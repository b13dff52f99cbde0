package meter

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
)

// Dimensions lists what a report can be grouped by.
func Dimensions() []string {
	return []string{
		"project", "job", "attempt", "model", "dataset", "environment", "team", "endpoint", "class", "outcome",
		"pool", "resource",
	}
}

// Value is the row's value of one of Dimensions, "" where it has none.
func (r Row) Value(dimension string) string {
	switch dimension {
	case "project":
		return r.Project
	case "job":
		return r.JobName
	case "attempt":
		return strconv.Itoa(r.Attempt)
	case "outcome":
		return r.Outcome
	case "pool":
		return r.Pool
	case "resource":
		return string(r.Resource)
	}
	return r.Labels[dimension]
}

// Line is the cost of the uses that have the same values.
type Line struct {
	// Values are those of Statement.By, in its order.
	Values []string `json:"values"`
	// Job is the job's UID where the statement is by job or attempt: two jobs
	// that had the same name one after the other are two lines.
	Job penstock.UID `json:"job,omitempty"`
	// Cost is that of all attempts; Lost the part of it that was paid for
	// attempts that came to nothing.
	Cost penstock.Money `json:"cost"`
	Lost penstock.Money `json:"lost"`
	// Hours is what was held for how long. Unpriced is the part of it whose
	// price isn't known, and which Cost therefore doesn't count.
	Hours    Held `json:"hours"`
	Unpriced Held `json:"unpriced,omitempty"`
}

// PoolLine is what one resource of one pool cost: Cost = Allocated + Idle +
// Overrun, to the nano-unit.
type PoolLine struct {
	Pool      string            `json:"pool"`
	Resource  penstock.Resource `json:"resource"`
	Cost      penstock.Money    `json:"cost"`
	Allocated penstock.Money    `json:"allocated"`
	Idle      penstock.Money    `json:"idle"`
	Overrun   penstock.Money    `json:"overrun"`
	// Hours is capacity × time, Unpriced the part without a known price.
	Hours    float64 `json:"hours"`
	Unpriced float64 `json:"unpriced"`
}

// Statement is a report, summed: Total.Cost, plus the idle and overrun of
// Pools, is Cost.
type Statement struct {
	Window Window         `json:"window"`
	By     []string       `json:"by"`
	Cost   penstock.Money `json:"cost"` // of all pools
	// Lines are in order of cost, the highest first.
	Lines      []Line      `json:"lines"`
	Total      Line        `json:"total"` // of Lines
	Pools      []PoolLine  `json:"pools"`
	Imbalances []Imbalance `json:"imbalances,omitempty"`
}

// Group sums a report by dimensions, without any into one line. An unknown
// dimension is an error.
func Group(r Report, by []string) (Statement, error) {
	for _, d := range by {
		if !slices.Contains(Dimensions(), d) {
			return Statement{}, &penstock.Error{
				Code: penstock.Invalid, Msg: fmt.Sprintf("can't group cost by %.40q", d),
				Hint: "group by any of " + strings.Join(Dimensions(), ", "),
			}
		}
	}
	s := Statement{
		Window: r.Window, By: append([]string{}, by...), Cost: r.Cost(),
		Lines: []Line{}, Total: newLine([]string{}), Imbalances: r.Imbalances,
	}
	lines, order := map[string]*Line{}, []*Line{}
	for _, row := range r.Rows {
		if row.Kind != Allocated {
			continue
		}
		key, line := row.line(by)
		if lines[key] == nil {
			lines[key] = &line
			order = append(order, &line)
		}
		lines[key].add(row)
		s.Total.add(row)
	}
	for _, line := range order {
		s.Lines = append(s.Lines, *line)
	}
	slices.SortStableFunc(s.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Cost, a.Cost), slices.Compare(a.Values, b.Values), cmp.Compare(a.Job, b.Job))
	})
	s.Pools = poolLines(r)
	return s, nil
}

// line is the empty line that the row belongs to, and the line's key.
func (r Row) line(by []string) (string, Line) {
	line := newLine(make([]string, len(by)))
	for i, d := range by {
		line.Values[i] = r.Value(d)
	}
	if slices.Contains(by, "job") || slices.Contains(by, "attempt") {
		line.Job = r.Job
	}
	return strings.Join(append([]string{string(line.Job)}, line.Values...), "\x00"), line
}

func newLine(values []string) Line { return Line{Values: values, Hours: Held{}, Unpriced: Held{}} }

func (l *Line) add(row Row) {
	l.Cost += row.Cost
	if row.Lost() {
		l.Lost += row.Cost
	}
	l.Hours.add(row.Resource, row.Area)
	if !row.Priced() {
		l.Unpriced.add(row.Resource, row.Area)
	}
}

func poolLines(r Report) []PoolLine {
	lines, index := make([]PoolLine, len(r.Pools)), map[lane]*PoolLine{}
	for i, p := range r.Pools {
		lines[i] = PoolLine{
			Pool: p.Pool, Resource: p.Resource, Cost: p.Cost,
			Hours: p.Area.Add(p.Unpriced).Hours(p.Resource), Unpriced: p.Unpriced.Hours(p.Resource),
		}
		index[lane{p.Pool, p.Resource}] = &lines[i]
	}
	for _, row := range r.Rows {
		line := index[lane{row.Pool, row.Resource}]
		switch row.Kind {
		case Allocated:
			line.Allocated += row.Cost
		case Idle:
			line.Idle += row.Cost
		case Overrun:
			line.Overrun += row.Cost
		}
	}
	return lines
}
