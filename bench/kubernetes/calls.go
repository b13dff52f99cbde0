package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/metrics"
)

// Ports of the components' metrics.
const (
	apiserverPort  = 6443
	controllerPort = 10257
	schedulerPort  = 10259
)

// calls counts requests to the API server: those it answered in all, and those
// that each client counts itself.
type calls map[string]float64

// answered is the API server's own count. Watches are left out, since they are
// counted when they end, and so are the signs of life of 500 fake nodes.
const answered = "all clients"

// countCalls reads the counts so far.
func countCalls(ctx context.Context, c cluster, config *rest.Config) (calls, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for metrics: %w", err)
	}
	defer client.CloseIdleConnections()
	n := calls{}
	for _, from := range []struct {
		what, metric string
		port         int
	}{
		{answered, "apiserver_request_total", apiserverPort},
		{"kube-controller-manager", "rest_client_requests_total", controllerPort},
		{"kube-scheduler", "rest_client_requests_total", schedulerPort},
	} {
		family, err := scrape(ctx, client, fmt.Sprintf("https://%s:%d/metrics", c.address, from.port), from.metric)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", from.what, err)
		}
		for _, m := range family.GetMetric() {
			if counts(m) {
				n[from.what] += m.GetCounter().GetValue()
			}
		}
	}
	return n, nil
}

func counts(m *dto.Metric) bool {
	for _, label := range m.GetLabel() {
		switch label.GetName() + "=" + label.GetValue() {
		case "verb=WATCH", "resource=leases", "resource=nodes":
			return false
		}
	}
	return true
}

// scrape reads one family of metrics in the text format of Prometheus.
func scrape(ctx context.Context, client *http.Client, url, metric string) (_ *dto.MetricFamily, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	family, ok := families[metric]
	if !ok {
		return nil, fmt.Errorf("%s doesn't tell %s", url, metric)
	}
	return family, nil
}

// counter counts the calls that this process makes through client-go, but for
// those whose context is marked as unmeasured.
type counter struct{ atomic.Int64 }

type unmeasuredKey struct{}

func unmeasured(ctx context.Context) context.Context {
	return context.WithValue(ctx, unmeasuredKey{}, true)
}

// Increment implements metrics.ResultMetric.
func (c *counter) Increment(ctx context.Context, _, _, _ string) {
	if ctx.Value(unmeasuredKey{}) == nil {
		c.Add(1)
	}
}

// countOwn begins to count. client-go has one place for that in a process, which
// may be set before the first call only.
func countOwn() *counter {
	c := &counter{}
	metrics.Register(metrics.RegisterOpts{RequestResult: c})
	return c
}
