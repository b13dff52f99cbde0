package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/meter"
)

func (s *Server) costRoutes() {
	huma.Register(s.api, s.op("cost", http.MethodGet, "/cost", "What the fleet cost, and who used it", "cost"),
		func(ctx context.Context, in *struct {
			From time.Time `query:"from" doc:"default: the start of this month, UTC"`
			To   time.Time `query:"to" doc:"default: now"`
			By   []string  `query:"by,explode" doc:"dimensions, such as job, model, team"`
		}) (*body[v1.CostReport], error) {
			report, err := s.cost(ctx, in.From, in.To, in.By)
			return answer(s, report, err)
		})
}

func (s *Server) cost(ctx context.Context, from, to time.Time, by []string) (v1.CostReport, error) {
	p := principal(ctx)
	if err := auth.Allow(p, auth.Get, auth.KindCost, p.Project); err != nil {
		return v1.CostReport{}, err
	}
	window := meter.MonthWindow(time.Now())
	window.To = time.Now()
	if !from.IsZero() {
		window.From = from
	}
	if !to.IsZero() {
		window.To = to
	}
	window.From, window.To = window.From.UTC().Truncate(time.Microsecond), window.To.UTC().Truncate(time.Microsecond)
	report, err := s.Control.Cost(ctx, window)
	if err != nil {
		return v1.CostReport{}, err
	}
	if p.Project != "" {
		report = report.Of(p.Project)
	}
	return s.statement(report, by)
}

// statement puts a report into its wire form.
func (s *Server) statement(report meter.Report, by []string) (v1.CostReport, error) {
	sum, err := meter.Group(report, by)
	if err != nil {
		return v1.CostReport{}, err
	}
	out := v1.CostReport{From: sum.Window.From, To: sum.Window.To, Currency: s.Currency, By: by, Total: sum.Cost, Lines: []v1.CostLine{}}
	for _, line := range sum.Lines {
		keys := map[string]string{}
		for i, dimension := range by {
			keys[dimension] = line.Values[i]
		}
		out.Lines = append(out.Lines, v1.CostLine{Keys: keys, Cost: line.Cost, Lost: line.Lost})
	}
	for _, pool := range sum.Pools {
		out.Idle += pool.Idle
		if pool.Unpriced > 0 {
			out.Unpriced = append(out.Unpriced, fmt.Sprintf("%s of pool %s: %.3f hours without a known price", pool.Resource, pool.Pool, pool.Unpriced))
		}
	}
	for _, i := range sum.Imbalances {
		out.Imbalances = append(out.Imbalances, fmt.Sprintf("pool %s held %s of %s %s from %s to %s", i.Pool,
			i.Resource.Format(i.Held), i.Resource.Format(i.Capacity), i.Resource, i.From.Format(time.RFC3339), i.To.Format(time.RFC3339)))
	}
	units, err := meter.PerThousand(report)
	if err != nil {
		return out, err
	}
	for _, u := range units {
		cost := v1.UnitCost{
			Project: u.Project, Endpoint: u.Endpoint, Cost: u.Cost, Requests: u.Requests, Succeeded: u.Succeeded,
			PerThousandRequests: u.PerThousandRequests, PerSuccess: u.PerSuccess, PerThousandTokens: u.PerThousandTokens,
		}
		for _, t := range report.Tallies {
			if t.Project == u.Project && t.EndpointName == u.Endpoint {
				cost.PromptTokens += t.PromptTokens
				cost.CompletionTokens += t.CompletionTokens
			}
		}
		out.Endpoints = append(out.Endpoints, cost)
	}
	return out, nil
}
