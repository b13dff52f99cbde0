// Package gate decides whether a model version may carry an alias: its scan is
// clean, its numbers hold, and enough people other than its author said yes.
// It is a pure function of what is known now, so it is asked again whenever a
// version is to be used: a gate that was open closes when a later scan refuses.
package gate

import (
	"fmt"
	"math"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Clean is the one verdict of a scan that opens a gate.
const Clean = "clean"

// Check gives what still keeps v, made by author, from alias: nothing if the
// gate g is open. Reasons come in the order scan, metrics as g lists them,
// approvals, and each tells its numbers.
//
// A metric counts as the newest evaluation that measured it says, so that an
// evaluation of something else neither hides it nor revives an old number. An
// approval counts once for each person, for this alias only, and never the
// author's own.
func Check(g v1.Gate, v v1.ModelVersion, alias string, author string) []penstock.Reason {
	reasons := checkScan(v)
	for _, bound := range g.Metrics {
		reasons = append(reasons, checkMetric(bound, v.Status.Evaluations)...)
	}
	return append(reasons, checkApprovals(g.Approvals, v.Status.Approvals, alias, author)...)
}

func checkScan(v v1.ModelVersion) []penstock.Reason {
	s := v.Status.Scan
	switch {
	case s == nil:
		return []penstock.Reason{penstock.Because(penstock.ScanRefused, penstock.Wait, "the files are not scanned yet")}
	case s.Verdict != Clean && len(s.Findings) > 0:
		f := s.Findings[0]
		return []penstock.Reason{penstock.Because(penstock.ScanRefused, penstock.Change, "the scan by %s says %s, with %d findings; the first: %s: %s",
			s.Ruleset, s.Verdict, len(s.Findings), f.Path, f.Detail).With("findings", int64(len(s.Findings)))}
	case s.Verdict != Clean:
		return []penstock.Reason{penstock.Because(penstock.ScanRefused, penstock.Change, "the scan by %s says %q", s.Ruleset, s.Verdict)}
	case v.Metadata.Phase == penstock.PhaseRefused:
		return []penstock.Reason{penstock.Because(penstock.ScanRefused, penstock.Change, "the version was refused, and stays so")}
	}
	return nil
}

func checkMetric(b v1.Bound, evaluations []v1.Evaluation) []penstock.Reason {
	e, value, measured := newest(b.Metric, evaluations)
	var r penstock.Reason
	switch {
	case !measured:
		r = penstock.Because(penstock.MetricMissing, penstock.Change, "none of %d evaluations measured %s", len(evaluations), b.Metric).
			With("evaluations", int64(len(evaluations)))
	// Asked this way round, a value that isn't a number is outside of every bound.
	case b.Max != nil && !(value <= *b.Max):
		r = penstock.Because(penstock.MetricOverBound, penstock.Change, "%s is %v in the evaluation of %s; at most %v is allowed", b.Metric, value, e.Job, *b.Max)
		r = withMillionths(r, "max", *b.Max)
	case b.Min != nil && !(value >= *b.Min):
		r = penstock.Because(penstock.MetricOverBound, penstock.Change, "%s is %v in the evaluation of %s; at least %v is needed", b.Metric, value, e.Job, *b.Min)
		r = withMillionths(r, "min", *b.Min)
	case math.IsNaN(value):
		r = penstock.Because(penstock.MetricMissing, penstock.Change, "%s is not a number in the evaluation of %s", b.Metric, e.Job)
	default:
		return nil
	}
	if measured {
		r = withMillionths(r, "value", value)
	}
	return []penstock.Reason{r}
}

// newest is the last evaluation that measured metric; of two at the same time,
// the later in the list.
func newest(metric string, evaluations []v1.Evaluation) (last v1.Evaluation, value float64, found bool) {
	for _, e := range evaluations {
		if v, measured := e.Metrics[metric]; measured && (!found || !e.At.Before(last.At)) {
			last, value, found = e, v, true
		}
	}
	return last, value, found
}

// withMillionths adds a figure in millionths, where it fits: the figures of a
// Reason are whole numbers.
func withMillionths(r penstock.Reason, name string, x float64) penstock.Reason {
	if m := math.Round(x * 1e6); math.Abs(m) < 1<<53 {
		return r.With(name+"Millionths", int64(m))
	}
	return r
}

func checkApprovals(want int, approvals []v1.Approval, alias, author string) []penstock.Reason {
	people := make(map[string]bool)
	for _, a := range approvals {
		if a.Alias == alias && a.By != author && a.By != "" {
			people[a.By] = true
		}
	}
	if len(people) >= want {
		return nil
	}
	by := "its author"
	if author != "" {
		by = fmt.Sprintf("its author %s", author)
	}
	return []penstock.Reason{penstock.Because(penstock.ApprovalMissing, penstock.Ask, "%d of %d approvals for %s, by others than %s", len(people), want, alias, by).
		With("have", int64(len(people))).With("want", int64(want))}
}
