package webui

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/meter"
)

// costView is what the fleet cost, and who used it.
type costView struct {
	by, period string
	currency   string
	whole      bool // the whole installation, and so also what stood idle
	sum        meter.Statement
	idle       penstock.Money
	overrun    penstock.Money
	units      []meter.Unit
}

// dimensions are what the page offers to sum by.
func dimensions() []string {
	return []string{"job", "model", "dataset", "environment", "team", "project", "endpoint", "class", "pool"}
}

// period is a window that ends now. From 0 is the start of the month, UTC.
type period struct {
	name, title string
	length      time.Duration
}

func periods() []period {
	return []period{{"month", "this month", 0}, {"day", "24 hours", 24 * time.Hour}, {"week", "7 days", 7 * 24 * time.Hour}, {"30d", "30 days", 30 * 24 * time.Hour}}
}

// window is the stretch of time that a period means now. An unknown name is the
// month.
func window(name string, now time.Time) (string, meter.Window) {
	now = now.UTC().Truncate(time.Microsecond)
	for _, p := range periods() {
		if p.name == name && p.length > 0 {
			return name, meter.Window{From: now.Add(-p.length), To: now}
		}
	}
	return "month", meter.Window{From: meter.MonthWindow(now).From, To: now}
}

func (s *site) cost(v visit) (content, error) {
	if err := auth.Allow(v.who, auth.Get, auth.KindCost, v.who.Project); err != nil {
		return content{}, err
	}
	c := costView{by: v.FormValue("by"), currency: s.Currency, whole: v.who.Project == ""}
	if c.by == "" {
		c.by = "job"
	}
	var w meter.Window
	c.period, w = window(v.FormValue("period"), v.now)
	report, err := s.Control.Cost(v.Context(), w)
	if err != nil {
		return content{}, err
	}
	if !c.whole {
		report = report.Of(v.who.Project)
	}
	if c.sum, err = meter.Group(report, []string{c.by}); err != nil {
		return content{}, err
	}
	for _, p := range c.sum.Pools {
		c.idle, c.overrun = c.idle+p.Idle, c.overrun+p.Overrun
	}
	c.units, err = meter.PerThousand(report)
	return content{"Cost", false, costPage(c)}, err
}

// hours writes what was held for how long: 12 GiB-hours, 3.5 h100-hours.
func hours(h meter.Held) string {
	var parts []string
	for _, r := range slices.Sorted(maps.Keys(h)) {
		unit := string(r)
		if r == penstock.Memory {
			unit = "GiB"
		}
		parts = append(parts, number(h[r].Hours(r))+" "+unit+"-hours")
	}
	return strings.Join(parts, ", ")
}
