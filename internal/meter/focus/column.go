package focus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/meter"
)

// Columns lists the columns in the order in which they are written.
func Columns() []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

// column is one column: its name, how JSON writes it, and its value, "" where
// it has none.
type column struct {
	name  string
	shape shape
	value func(charge) string
}

// shape is how a value stands in JSON.
type shape int

const (
	text shape = iota
	raw        // a number, a truth value or an object, as it is
)

func fixed(s string) func(charge) string { return func(charge) string { return s } }

// What a charge costs by list, by contract and in the end is the same here:
// Penstock knows one price.
var columns = []column{
	{"BilledCost", raw, cost},
	{"BillingAccountId", text, func(c charge) string { return c.account.ID }},
	{"BillingAccountName", text, func(c charge) string { return c.account.Name }},
	{"BillingCurrency", text, func(c charge) string { return c.account.Currency }},
	{"BillingPeriodEnd", text, func(c charge) string { return instant(c.month.To) }},
	{"BillingPeriodStart", text, func(c charge) string { return instant(c.month.From) }},
	{"ChargeCategory", text, category},
	{"ChargeClass", text, fixed("")},
	{"ChargeDescription", text, description},
	{"ChargeFrequency", text, fixed("Usage-Based")},
	{"ChargePeriodEnd", text, func(c charge) string { return instant(c.row.To.Add(time.Second - 1)) }},
	{"ChargePeriodStart", text, func(c charge) string { return instant(c.row.From) }},
	{"ConsumedQuantity", raw, usage(quantity)},
	{"ConsumedUnit", text, usage(unit)},
	{"ContractedCost", raw, cost},
	{"ContractedUnitPrice", raw, usage(price)},
	{"EffectiveCost", raw, cost},
	{"InvoiceIssuerName", text, issuer},
	{"ListCost", raw, cost},
	{"ListUnitPrice", raw, usage(price)},
	{"PricingCategory", text, usage(fixed("Standard"))},
	{"PricingQuantity", raw, usage(quantity)},
	{"PricingUnit", text, usage(unit)},
	{"ProviderName", text, issuer},
	{"PublisherName", text, issuer},
	{"ResourceId", text, resourceID},
	{"ResourceName", text, resourceName},
	{"ResourceType", text, resourceType},
	{"ServiceCategory", text, fixed("AI and Machine Learning")},
	{"ServiceName", text, fixed("Penstock")},
	{"ServiceSubcategory", text, fixed("AI Platforms")},
	{"SubAccountId", text, func(c charge) string { return c.row.Project }},
	{"SubAccountName", text, func(c charge) string { return c.row.Project }},
	{"Tags", raw, tags},
	{"x_Attempt", raw, allocated(func(c charge) string { return strconv.Itoa(c.row.Attempt) })},
	{"x_CostBasis", text, func(c charge) string { return string(c.row.Kind) }},
	{"x_CostKnown", raw, func(c charge) string { return strconv.FormatBool(c.row.Priced()) }},
	{"x_Outcome", text, func(c charge) string { return c.row.Outcome }},
	{"x_Pool", text, func(c charge) string { return c.row.Pool }},
	{"x_Resource", text, func(c charge) string { return string(c.row.Resource) }},
}

// instant is the format of FOCUS 1.2, which has whole seconds: a charge's
// period is widened to them.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func cost(c charge) string   { return c.row.Cost.String() }
func issuer(c charge) string { return c.account.Issuer }

// usage is for the columns that an adjustment doesn't have.
func usage(value func(charge) string) func(charge) string {
	return func(c charge) string {
		if c.row.Kind == meter.Overrun {
			return ""
		}
		return value(c)
	}
}

// allocated is for the columns that only a task's charge has.
func allocated(value func(charge) string) func(charge) string {
	return func(c charge) string {
		if c.row.Kind != meter.Allocated {
			return ""
		}
		return value(c)
	}
}

func category(c charge) string {
	if c.row.Kind == meter.Overrun {
		return "Adjustment"
	}
	return "Usage"
}

func description(c charge) string {
	r := c.row
	what := fmt.Sprintf("%s of pool %s", r.Resource, r.Pool)
	switch r.Kind {
	case meter.Idle:
		what += ", idle"
	case meter.Overrun:
		what += ", held beyond capacity"
	default:
		what += fmt.Sprintf(", held by job %s, attempt %d, rank %d", r.JobName, r.Attempt, r.Rank)
	}
	if !r.Priced() {
		what += ", price unknown"
	}
	return what
}

// quantity has 15 decimals, so that times the price it is the cost to the
// nano-unit.
func quantity(c charge) string { return c.row.Area.Decimal(c.row.Resource, 15) }

func unit(c charge) string {
	switch c.row.Resource {
	case penstock.CPU:
		return "CPU-Hours"
	case penstock.Memory:
		return "GiB-Hours"
	}
	return "Device-Hours"
}

func price(c charge) string {
	if !c.row.Priced() {
		return ""
	}
	return c.row.Price.String()
}

func resourceID(c charge) string {
	if c.row.Kind != meter.Allocated {
		return c.row.Pool
	}
	return string(c.row.Job)
}

func resourceName(c charge) string {
	if c.row.Kind != meter.Allocated {
		return c.row.Pool
	}
	return c.row.JobName
}

func resourceType(c charge) string {
	if c.row.Kind != meter.Allocated {
		return "Pool"
	}
	return "Job"
}

func tags(c charge) string {
	if len(c.row.Labels) == 0 {
		return ""
	}
	b, err := json.Marshal(c.row.Labels)
	if err != nil {
		return "" // a map of strings always has a JSON form
	}
	return string(b)
}
