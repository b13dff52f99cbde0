package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/watch"
)

// watchMonitors compares each endpoint's newest requests with the reference and
// raises an alert when they have drifted.
func (c *Control) watchMonitors(ctx context.Context) error {
	return c.each(ctx, penstock.KindMonitor, watchMonitor)
}

func watchMonitor(tx store.Tx, ref penstock.Ref) error {
	m, err := store.Load[v1.MonitorSpec, v1.MonitorStatus](tx, ref)
	if err != nil {
		return err
	}
	endpoint, err := tx.Get(penstock.Ref{Kind: penstock.KindEndpoint, Project: m.Metadata.Project, Name: m.Spec.Endpoint})
	if penstock.CodeOf(err) == penstock.NotFound {
		return degrade(tx, m, "endpoint "+m.Spec.Endpoint+" doesn't exist")
	}
	if err != nil {
		return err
	}
	values, err := signalValues(tx, endpoint.Metadata.UID, m.Spec)
	if err != nil {
		return err
	}
	status, alert := watch.Evaluate(m.Spec, m.Status, values, now())
	if m.Metadata.Phase == penstock.PhaseReady && sameJSON(status, m.Status) {
		return nil
	}
	m.Status = status
	if alert == nil {
		if m.Metadata.Phase == penstock.PhaseReady {
			return save(tx, &m)
		}
		return move(tx, &m, penstock.PhaseReady, "Watching", "endpoint "+m.Spec.Endpoint)
	}
	if err := event(tx, m.Kind, m.Metadata, string(alert.Reason.Code), alert.Reason.Message); err != nil {
		return err
	}
	return move(tx, &m, penstock.PhaseReady, "Alert", fmt.Sprintf("alert %d", alert.Number))
}

func degrade(tx store.Tx, m v1.Monitor, why string) error {
	if m.Metadata.Phase == penstock.PhaseDegraded {
		return nil
	}
	return move(tx, &m, penstock.PhaseDegraded, string(penstock.NotReady), why)
}

// signalValues reads the numbers of the newest window of finished requests,
// oldest first. It reads twice the window, since failed requests don't count.
func signalValues(tx store.Tx, endpoint penstock.UID, spec v1.MonitorSpec) (map[string][]float64, error) {
	requests, err := tx.Requests(store.RequestQuery{Endpoint: endpoint, Limit: 2 * max(spec.Window, spec.ReferenceSize, 100)})
	if err != nil {
		return nil, err
	}
	slices.Reverse(requests)
	values := map[string][]float64{}
	for _, r := range requests {
		if r.Outcome != "ok" {
			continue
		}
		values["prompt_tokens"] = append(values["prompt_tokens"], float64(r.PromptTokens))
		values["completion_tokens"] = append(values["completion_tokens"], float64(r.CompletionTokens))
		values["ttft_ms"] = append(values["ttft_ms"], float64(r.TTFT.Milliseconds()))
	}
	return values, nil
}
