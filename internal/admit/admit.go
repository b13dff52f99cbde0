// Package admit answers whether a job may run at all: by its project's quota,
// budget and expiry. It is a pure function; every no is a Reason with numbers.
package admit

import (
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// Tier is on whose quota a job would run.
type Tier int

// Nominal work is within the project's own quota, Borrowed work takes what
// stands idle elsewhere. Nominal goes first.
const (
	Nominal Tier = iota
	Borrowed
)

// Check says whether a job may hold its whole gang beside what its project
// holds already, and on which tier; or why not. A resource that the project's
// nominal quota doesn't list isn't limited.
func Check(p snapshot.Project, using penstock.Resources, job snapshot.Job) (Tier, []penstock.Reason) {
	reasons := append([]penstock.Reason(nil), p.Closed...)
	tier, total := Nominal, job.Total()
	for _, name := range total.Names() {
		nominal, limited := p.Quota.Nominal[name]
		if !limited || total[name] == 0 {
			continue
		}
		after := using[name].Add(total[name])
		limit := nominal.Add(p.Quota.Borrow[name])
		switch {
		case after > limit:
			reasons = append(reasons, overQuota(job.Ref.Project, name, total[name], using[name], limit))
		case after > nominal:
			tier = Borrowed
		}
	}
	return tier, reasons
}

func overQuota(project string, name penstock.Resource, want, using, limit penstock.Amount) penstock.Reason {
	class := penstock.Wait
	if want > limit {
		class = penstock.Ask // no amount of waiting makes the gang fit the quota
	}
	return penstock.Because(penstock.QuotaExhausted, class, "project %s uses %s of %s %s; the job wants %s, %s more than is left",
		project, name.Short(using), name.Short(limit), name, name.Format(want), name.Short(using.Add(want).Add(-limit))).
		With("want", int64(want)).With("using", int64(using)).With("limit", int64(limit))
}

// Closed says what holds all new work of a project back at a time: its expiry,
// and a budget with atLimit "stop" that the month's spending has reached.
func Closed(spec v1.ProjectSpec, name string, spentMonth penstock.Money, now time.Time) []penstock.Reason {
	var reasons []penstock.Reason
	if !spec.Expires.IsZero() && !now.Before(spec.Expires) {
		reasons = append(reasons, penstock.Because(penstock.ProjectExpired, penstock.Ask,
			"project %s expired on %s", name, spec.Expires.UTC().Format(time.DateOnly)))
	}
	if b := spec.Budget; b != nil && b.AtLimit == "stop" && spentMonth >= b.Monthly {
		reasons = append(reasons, penstock.Because(penstock.BudgetExhausted, penstock.Ask,
			"project %s has spent %s of its monthly %s", name, spentMonth, b.Monthly).
			With("spent", int64(spentMonth)).With("budget", int64(b.Monthly)))
	}
	return reasons
}
