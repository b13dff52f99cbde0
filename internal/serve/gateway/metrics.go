package gateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock/penstock/internal/store"
)

// metrics have bounded labels only: endpoints that exist, outcomes and codes of
// fixed lists. Buckets are those of OpenTelemetry's conventions for generative
// AI (gen_ai.server.time_to_first_token, .request.duration, client.token.usage).
type metrics struct {
	ttft, duration, tokens *prometheus.HistogramVec
	refused                *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		ttft: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "penstock_gateway_ttft_seconds", Help: "Time to the first content of an answer.",
			Buckets: []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10},
		}, []string{"project", "endpoint"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "penstock_gateway_request_duration_seconds", Help: "Time from a request to its settlement.",
			Buckets: []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92},
		}, []string{"project", "endpoint", "outcome"}),
		tokens: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "penstock_gateway_tokens", Help: "Tokens of a request, by kind: prompt or completion.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 14),
		}, []string{"project", "endpoint", "kind"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_gateway_refused_total", Help: "Requests that were answered with an error of the gateway's own, by code.",
		}, []string{"code"}),
	}
	for _, c := range []prometheus.Collector{m.ttft, m.duration, m.tokens, m.refused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register gateway metrics: %w", err)
		}
	}
	return m, nil
}

// settled counts a request that came to its end.
func (m *metrics) settled(r store.Request) {
	if r.TTFT > 0 {
		m.ttft.WithLabelValues(r.Project, r.EndpointName).Observe(r.TTFT.Seconds())
	}
	m.duration.WithLabelValues(r.Project, r.EndpointName, r.Outcome).Observe(r.Ended.Sub(r.Started).Seconds())
	m.tokens.WithLabelValues(r.Project, r.EndpointName, "prompt").Observe(float64(r.PromptTokens))
	m.tokens.WithLabelValues(r.Project, r.EndpointName, "completion").Observe(float64(r.CompletionTokens))
}
