package meter

import (
	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Budget says whether a project has reached its monthly budget: nothing while
// it hasn't, or has none. The Reason tells what comes of it, which is for
// whoever owns the budget to change; with atLimit "warn" it holds nothing back.
func Budget(spec v1.ProjectSpec, project string, spent penstock.Money) []penstock.Reason {
	b := spec.Budget
	if b == nil || spent < b.Monthly {
		return nil
	}
	then := "new work still starts"
	if b.AtLimit == "stop" {
		then = "new work waits"
	}
	return []penstock.Reason{
		penstock.Because(penstock.BudgetExhausted, penstock.Ask, "project %s has spent %s of its monthly %s: %s",
			project, spent, b.Monthly, then).
			With("spent", int64(spent)).With("budget", int64(b.Monthly)),
	}
}
