package main

import (
	"context"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// cost reads the bill from five sides. All are of one window, so they must have
// one total, and the lines and what stood idle must sum to it to the nano-unit.
func (t *tour) cost(ctx context.Context) error {
	if _, err := t.do(ctx, root, "cost", "--by", "job"); err != nil {
		return err
	}
	to := time.Now().UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	total := penstock.Money(-1)
	for _, by := range []string{"job", "model", "dataset", "environment", "team"} {
		var r v1.CostReport
		if err := t.quiet(ctx, root, &r, "cost", "--by", by, "--to", to, "-o", "json"); err != nil {
			return err
		}
		sum := r.Idle
		for _, line := range r.Lines {
			sum += line.Cost
		}
		if total < 0 {
			total = r.Total
		}
		t.check(sum == r.Total && r.Total == total, "by %s: %d lines and %s idle sum to %s, the total of %s %s", by, len(r.Lines), r.Idle, sum, r.Total, r.Currency)
		t.report.Costs = append(t.report.Costs, r)
	}
	places := t.report.Costs[0].Imbalances
	t.check(len(places) == 0, "nothing was held that isn't there (%d such places)", len(places))
	t.checkBill(t.report.Costs[0])
	return nil
}

// checkBill looks at the lines that this tour must have caused.
func (t *tour) checkBill(r v1.CostReport) {
	var trained v1.CostLine
	for _, line := range r.Lines {
		if line.Keys["job"] == "train" {
			trained = line
		}
	}
	t.check(trained.Lost > 0 && trained.Lost < trained.Cost, "train cost %s, of which %s went into the attempt that was killed", trained.Cost, trained.Lost)
	for _, e := range r.Endpoints {
		if e.Endpoint != "chat" {
			continue
		}
		if e.PerThousandRequests == nil || e.PerSuccess == nil {
			t.check(false, "chat's cost by the piece is known")
			continue
		}
		t.check(*e.PerThousandRequests > 0 && *e.PerSuccess > 0, "chat cost %s: %s for 1,000 inferences, %s for each of the %d successful outputs",
			e.Cost, *e.PerThousandRequests, *e.PerSuccess, e.Succeeded)
		// Rounded to the nearest nano-unit, so the product is off by half a unit each.
		off := *e.PerSuccess*penstock.Money(e.Succeeded) - e.Cost
		t.check(max(off, -off)*2 <= penstock.Money(e.Succeeded), "%d times %s is that cost, but for %s of rounding", e.Succeeded, *e.PerSuccess, max(off, -off))
		t.report.Unit = e
	}
}
