package watch

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

const (
	defaultWindow = 100
	quantileBins  = 10
	// calm is the part of its threshold below which a drifted signal counts as
	// recovered: one that wavers about the threshold is one drift, not many.
	calm = 0.8
)

// Evaluate compares the newest requests with each signal's reference. values
// holds each signal's numbers, oldest first, of at least the newest Window
// requests, and of the newest ReferenceSize until the reference stands.
//
// A signal without a reference of its own gets one from the first ReferenceSize
// values, once half of them are numbers, and keeps it: the status carries it
// from then on. A signal is judged once there is half a window of numbers; with
// fewer it stays as it was. The Threshold in the status is the one that
// counted, see Threshold.
//
// The monitor has drifted while any signal has. Passing into drift raises one
// alert, which is returned, and which stays in the status until no signal has
// drifted any more. Evaluating the same values again changes nothing.
func Evaluate(spec v1.MonitorSpec, status v1.MonitorStatus, values map[string][]float64, now time.Time) (v1.MonitorStatus, *v1.Alert) {
	window := cmp.Or(spec.Window, defaultWindow)
	size := cmp.Or(spec.ReferenceSize, window)
	next := v1.MonitorStatus{Alert: status.Alert, Alerts: status.Alerts}
	var drifted []verdict
	for _, s := range spec.Signals {
		v := judge(s, statusOf(status, s), values[s.Name], window, size)
		if v.status.Drifted {
			drifted = append(drifted, v)
		}
		next.Signals = append(next.Signals, v.status)
		next.Seen = max(next.Seen, len(values[s.Name]))
	}
	switch {
	case len(drifted) == 0:
		next.Alert = nil
	case next.Alert == nil:
		next.Alerts++
		next.Alert = &v1.Alert{Number: next.Alerts, Reason: reasonOf(drifted), At: now.UTC()}
		return next, next.Alert
	}
	return next, nil
}

// verdict is one signal's state, and what is behind it.
type verdict struct {
	status  v1.SignalStatus
	terms   []Term
	missing int64
}

// statusOf is what is known of a signal, with the reference that its spec gives
// where it gives one. Bins that the spec has changed take the reference away.
func statusOf(status v1.MonitorStatus, s v1.Signal) v1.SignalStatus {
	have := v1.SignalStatus{Name: s.Name, Threshold: cmp.Or(s.Threshold, DefaultThreshold)}
	i := slices.IndexFunc(status.Signals, func(old v1.SignalStatus) bool { return old.Name == s.Name })
	if i >= 0 && (len(s.Bins) == 0 || slices.Equal(s.Bins, status.Signals[i].Bins)) {
		have = status.Signals[i]
	}
	if len(s.Reference) == len(s.Bins)+1 {
		have.Bins, have.Reference = s.Bins, s.Reference
	}
	return have
}

// judge compares one signal's newest values with its reference.
func judge(s v1.Signal, have v1.SignalStatus, values []float64, window, size int) verdict {
	if len(have.Reference) == 0 {
		edges, counts, ok := reference(s, values, size)
		if !ok {
			return verdict{status: have}
		}
		have.Bins, have.Reference = edges, counts
	}
	newest := values[max(0, len(values)-window):]
	current, missing := Histogram(have.Bins, newest)
	if 2*(int64(len(newest))-missing) < int64(window) {
		return verdict{status: have, missing: missing}
	}
	psi, terms := PSI(have.Reference, current)
	if math.IsNaN(psi) {
		return verdict{status: have, missing: missing}
	}
	have.Current, have.PSI = current, psi
	have.Threshold = Threshold(cmp.Or(s.Threshold, DefaultThreshold), have.Reference, current)
	bar := have.Threshold
	if have.Drifted {
		bar *= calm
	}
	have.Drifted = psi >= bar
	return verdict{status: have, terms: terms, missing: missing}
}

// reference makes a signal's reference from the first values, if there are
// enough of them and at least half are numbers.
func reference(s v1.Signal, values []float64, size int) (edges []float64, counts []int64, ok bool) {
	if len(values) < size {
		return nil, nil, false
	}
	edges = s.Bins
	if len(edges) == 0 {
		edges = QuantileBins(values[:size], quantileBins)
	}
	counts, missing := Histogram(edges, values[:size])
	return edges, counts, 2*(int64(size)-missing) >= int64(size)
}

// reasonOf tells of every drifted signal, with the figures of the one that is
// furthest over its threshold.
func reasonOf(drifted []verdict) penstock.Reason {
	slices.SortStableFunc(drifted, func(a, b verdict) int {
		return cmp.Compare(b.status.PSI/b.status.Threshold, a.status.PSI/a.status.Threshold)
	})
	lines := make([]string, len(drifted))
	for i, v := range drifted {
		lines[i] = v.String()
	}
	worst := drifted[0]
	return penstock.Because(penstock.Drifted, penstock.Change, "%s", strings.Join(lines, "; ")).
		With("psi_milli", milli(worst.status.PSI)).
		With("threshold_milli", milli(worst.status.Threshold)).
		With("reference", int64(total(worst.status.Reference))).
		With("current", int64(total(worst.status.Current))).
		With("missing", worst.missing).
		With("signals", int64(len(drifted)))
}

func milli(v float64) int64 { return int64(math.Round(v * 1000)) }

// String tells what moved: the PSI, what it was held against, and the three
// bins that made most of it.
func (v verdict) String() string {
	s := v.status
	biggest := slices.Clone(v.terms)
	slices.SortStableFunc(biggest, func(a, b Term) int { return cmp.Compare(b.PSI, a.PSI) })
	var bins []string
	for _, t := range biggest[:min(3, len(biggest))] {
		if t.PSI > 0 {
			bins = append(bins, fmt.Sprintf("%s: %d before, %d now", binName(s.Bins, t.Bin), t.Ref, t.Cur))
		}
	}
	text := fmt.Sprintf("%s has drifted: PSI %.3f, threshold %.3f, %.0f requests against %.0f (%s)",
		s.Name, s.PSI, s.Threshold, total(s.Current), total(s.Reference), strings.Join(bins, ", "))
	if v.missing > 0 {
		text += fmt.Sprintf(", %d without a number", v.missing)
	}
	return text
}
