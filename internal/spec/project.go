package spec

import (
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func (c *checker) project(s *v1.ProjectSpec) {
	c.text("spec.owner", s.Owner, 1, 255)
	c.text("spec.costCentre", s.CostCentre, 1, 255)
	c.text("spec.environment", s.Environment, 0, 63)
	c.text("spec.team", s.Team, 0, 255)
	atLeast(c, "spec.retention", time.Duration(s.Retention), 0)
	members := seen{}
	for i, m := range s.Members {
		path := at("spec.members", i)
		c.text(path+".subject", m.Subject, 1, 255)
		members.add(c, path+".subject", m.Subject)
	}
	c.quota(s.Quota)
	if s.Budget == nil {
		return
	}
	defaulted(c, "spec.budget.atLimit", &s.Budget.AtLimit, "warn")
	if s.Budget.Monthly <= 0 {
		c.fault("spec.budget.monthly", "leave the budget out for none", "must be more than 0, not %s", s.Budget.Monthly)
	}
}

func (c *checker) quota(q v1.Quota) {
	c.countable("spec.quota.nominal", q.Nominal)
	c.countable("spec.quota.borrow", q.Borrow)
	for _, r := range q.Borrow.Names() {
		if _, limited := q.Nominal[r]; !limited {
			c.fault(under("spec.quota.borrow", string(r)), "give a nominal amount too", "nothing to borrow: %s isn't limited, since nominal doesn't list it", r)
		}
	}
}

// countable keeps sums of quotas within an Amount: a sum that wrapped round would
// read as free capacity.
func (c *checker) countable(path string, amounts penstock.Resources) {
	for _, r := range amounts.Names() {
		if a := amounts[r]; a > maxQuota {
			c.fault(under(path, string(r)), "leave it out for no limit", "%s is more than the %s that can be counted", r.Format(a), r.Format(maxQuota))
		}
	}
}
