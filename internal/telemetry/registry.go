package telemetry

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build tells which program this is.
type Build struct {
	Version  string // v1.2.3, or devel
	Revision string // of the source
}

// NewRegistry makes a registry with what every program shows: the runtime, the
// process, and penstock_build_info, a gauge of 1 whose labels are the build.
func NewRegistry(b Build) (*prometheus.Registry, error) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "penstock_build_info",
		Help: "The build of Penstock that runs; always 1.",
		ConstLabels: prometheus.Labels{
			"version": b.Version, "revision": b.Revision, "goversion": runtime.Version(),
		},
	})
	info.Set(1)
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register collector: %w", err)
		}
	}
	return r, nil
}
