package meter

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/penstock/penstock"
)

// Unit is what an endpoint's work cost by the piece. A price by the piece is
// nil where it means nothing: nothing was answered, nothing was held, or some
// of what was held has no known price. All that the endpoint held counts,
// waiting replicas and lost attempts too.
type Unit struct {
	Project   string         `json:"project"`
	Endpoint  string         `json:"endpoint"`
	Cost      penstock.Money `json:"cost"` // at known prices
	Unpriced  Held           `json:"unpriced,omitempty"`
	Requests  int64          `json:"requests"`
	Succeeded int64          `json:"succeeded"`
	Tokens    int64          `json:"tokens"` // prompt and completion
	// The prices are rounded to the nearest nano-unit.
	PerThousandRequests *penstock.Money `json:"perThousandRequests"`
	PerThousandTokens   *penstock.Money `json:"perThousandTokens"`
	PerSuccess          *penstock.Money `json:"perSuccess"`
}

// PerThousand says what each endpoint's requests, tokens and successful answers
// cost, from the rows with its name in the label endpoint and the report's
// tallies. Units are in order of project and endpoint.
func PerThousand(r Report) ([]Unit, error) {
	type name struct{ project, endpoint string }
	units, held := map[name]*Unit{}, map[name]bool{}
	of := func(n name) *Unit {
		if units[n] == nil {
			units[n] = &Unit{Project: n.project, Endpoint: n.endpoint, Unpriced: Held{}}
		}
		return units[n]
	}
	for _, row := range r.Rows {
		n := name{row.Project, row.Labels["endpoint"]}
		if row.Kind != Allocated || n.endpoint == "" {
			continue
		}
		u := of(n)
		held[n], u.Cost = true, u.Cost+row.Cost
		if !row.Priced() {
			u.Unpriced.add(row.Resource, row.Area)
		}
	}
	for _, t := range r.Tallies {
		u := of(name{t.Project, t.EndpointName})
		u.Requests += t.Requests
		u.Succeeded += t.Succeeded
		u.Tokens += t.PromptTokens + t.CompletionTokens
	}
	out := make([]Unit, 0, len(units))
	for n, u := range units {
		if held[n] && len(u.Unpriced) == 0 {
			if err := u.divide(); err != nil {
				return nil, fmt.Errorf("divide cost of endpoint %s/%s: %w", n.project, n.endpoint, err)
			}
		}
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return out, nil
}

// divide sets the prices by the piece.
func (u *Unit) divide() error {
	for _, d := range []struct {
		price         **penstock.Money
		pieces, count int64
	}{
		{&u.PerThousandRequests, 1000, u.Requests},
		{&u.PerThousandTokens, 1000, u.Tokens},
		{&u.PerSuccess, 1, u.Succeeded},
	} {
		if d.count <= 0 {
			continue
		}
		price, err := penstock.Rated(u.Cost, d.pieces, d.count)
		if err != nil {
			return err
		}
		*d.price = &price
	}
	return nil
}
