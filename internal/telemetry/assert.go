package telemetry

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Asserter checks what can't be otherwise unless Penstock itself is at fault.
// It never stops the program: a server that goes on with one wrong sum and says
// so loudly is worth more than one that is gone. It may be used from many
// goroutines.
type Asserter struct {
	log      *slog.Logger
	failures *prometheus.CounterVec
	onFail   func(assertion string)
}

// NewAsserter makes an Asserter that logs failures as errors and counts them in
// penstock_assertion_failures_total. onFail, where given, is called with each
// one: tests hand in what makes them fail.
func NewAsserter(log *slog.Logger, r prometheus.Registerer, onFail func(assertion string)) (*Asserter, error) {
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "penstock_assertion_failures_total",
		Help: "Promises of Penstock to itself that did not hold: each is a fault to report.",
	}, []string{"assertion"})
	if err := r.Register(failures); err != nil {
		return nil, fmt.Errorf("register assertion failures: %w", err)
	}
	return &Asserter{log: log, failures: failures, onFail: onFail}, nil
}

// Assert tells of a failure unless holds, and gives holds back. assertion is
// the promise in constant words ("rows sum to what pools cost"), since it
// becomes a label of the metric; what varies goes into args, as for slog.
func (a *Asserter) Assert(holds bool, assertion string, args ...any) bool {
	if holds {
		return true
	}
	a.failures.WithLabelValues(assertion).Inc()
	a.log.Error("assertion failed", append([]any{KeyAssert, assertion}, args...)...)
	if a.onFail != nil {
		a.onFail(assertion)
	}
	return false
}
