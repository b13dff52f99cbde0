package control

import (
	"context"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/store"
)

// Cost is what the fleet cost in a window and who used it: the closed uses of
// the ledger, and those of running attempts up to the window's end.
func (c *Control) Cost(ctx context.Context, window meter.Window) (meter.Report, error) {
	var report meter.Report
	err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		report, err = costReport(tx, window)
		return err
	})
	return report, err
}

func costReport(tx store.Tx, window meter.Window) (meter.Report, error) {
	uses, err := tx.Usage(window.From, window.To)
	if err != nil {
		return meter.Report{}, err
	}
	live, err := listLive(tx)
	if err != nil {
		return meter.Report{}, err
	}
	for _, a := range live {
		job, err := store.LoadUID[v1.JobSpec, v1.JobStatus](tx, a.Spec.JobUID)
		if err != nil {
			return meter.Report{}, err
		}
		if a.Metadata.CreatedAt.Before(window.To) {
			uses = append(uses, usageOf(a, job, window.To, "running")...)
		}
	}
	rates, err := tx.Rates(window.To)
	if err != nil {
		return meter.Report{}, err
	}
	tallies, err := tx.Tally(window.From, window.To)
	if err != nil {
		return meter.Report{}, err
	}
	return meter.Cost(window, uses, rates, tallies)
}
