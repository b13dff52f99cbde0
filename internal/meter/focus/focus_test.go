package focus_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/meter/focus"
	"github.com/penstock/penstock/internal/store"
)

var account = focus.Account{ID: "lab", Issuer: "Lab IT", Currency: "EUR"}

// report is a month with a use, idle time, an overrun and an unknown price.
func report(t *testing.T) meter.Report {
	t.Helper()
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	use := store.Usage{
		ID: "a", Project: "vision", Job: "uid-1", JobName: "train", Attempt: 2, Pool: "p", Resource: "h100", Amount: 1000,
		From: noon, To: noon.Add(1234567891 * time.Microsecond), Labels: map[string]string{"team": "red, \"blue\""}, Outcome: "lost",
	}
	more, dark := use, use
	more.ID, more.Amount, more.Outcome = "b", 500, "succeeded"
	dark.ID, dark.Resource, dark.Amount = "c", penstock.Memory, 3<<30
	r, err := meter.Cost(meter.MonthWindow(noon), []store.Usage{use, more, dark}, []store.Rate{
		{Pool: "p", Resource: "h100", Price: 2123456789, Capacity: 1000, From: noon},
		{Pool: "p", Resource: penstock.Memory, Price: -1, Capacity: 4 << 30, From: noon},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func table(t *testing.T, r meter.Report) []map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := focus.CSV(&b, account, r); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func TestEveryMandatoryColumnIsThereAndOursComeLast(t *testing.T) {
	mandatory := strings.Fields(`BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodStart BillingPeriodEnd
		ChargeCategory ChargeClass ChargeDescription ChargePeriodStart ChargePeriodEnd ContractedCost EffectiveCost InvoiceIssuerName
		ListCost PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName`)
	for _, name := range mandatory {
		if !slices.Contains(focus.Columns(), name) {
			t.Errorf("no column %s", name)
		}
	}
	own := false
	for _, name := range focus.Columns() {
		if mine := strings.HasPrefix(name, "x_"); own && !mine {
			t.Errorf("%s comes after columns of our own", name)
		} else {
			own = mine
		}
	}
	nullable := []string{"BillingAccountName", "ChargeClass", "PricingQuantity", "PricingUnit"}
	for _, row := range table(t, report(t)) {
		for _, name := range mandatory {
			if row[name] == "" && !slices.Contains(nullable, name) {
				t.Errorf("%s is null in %q", name, row["ChargeDescription"])
			}
		}
	}
}

func TestChargesSumToTheReport(t *testing.T) {
	r, sum := report(t), penstock.Money(0)
	for _, row := range table(t, r) {
		cost, err := penstock.ParseMoney(row["BilledCost"])
		if err != nil {
			t.Fatal(err)
		}
		sum += cost
	}
	if sum != r.Cost() || sum == 0 {
		t.Errorf("charges sum to %s, the pools cost %s", sum, r.Cost())
	}
}

func rat(t *testing.T, s string) *big.Rat {
	t.Helper()
	v, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is not a number", s)
	}
	return v
}

func TestUnitPriceTimesQuantityIsTheCost(t *testing.T) {
	checked := 0
	for _, row := range table(t, report(t)) {
		if row["ListUnitPrice"] == "" {
			continue
		}
		checked++
		off := rat(t, row["ListUnitPrice"])
		off.Mul(off, rat(t, row["PricingQuantity"])).Sub(off, rat(t, row["ListCost"]))
		// An idle row takes the rounding of the uses beside it.
		if bound := big.NewRat(int64(len(report(t).Rows)), 1e9); off.Abs(off).Cmp(bound) > 0 {
			t.Errorf("%s: off by %s", row["ChargeDescription"], off.FloatString(12))
		}
	}
	if checked != 3 {
		t.Errorf("%d rows have a unit price, want 3", checked)
	}
}

func TestTimesAreUTCWithinTheMonthAndNumbersArePlain(t *testing.T) {
	moment, number := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`), regexp.MustCompile(`^-?\d+(\.\d+)?$`)
	for _, row := range table(t, report(t)) {
		for _, name := range []string{"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"} {
			if !moment.MatchString(row[name]) {
				t.Errorf("%s is %q", name, row[name])
			}
		}
		for _, name := range []string{"BilledCost", "ListCost", "EffectiveCost", "ContractedCost"} {
			if !number.MatchString(row[name]) {
				t.Errorf("%s is %q", name, row[name])
			}
		}
		if row["ChargePeriodStart"] < row["BillingPeriodStart"] || row["ChargePeriodEnd"] > row["BillingPeriodEnd"] ||
			row["ChargePeriodStart"] >= row["ChargePeriodEnd"] {
			t.Errorf("charge %s to %s in %s to %s", row["ChargePeriodStart"], row["ChargePeriodEnd"], row["BillingPeriodStart"], row["BillingPeriodEnd"])
		}
	}
}

func TestRowsSayWhatTheyAre(t *testing.T) {
	type line struct{ Description, Category, Cost, UnitPrice, Unit, Known, Tags, Project string }
	var got []line
	for _, r := range table(t, report(t)) {
		got = append(got, line{r["ChargeDescription"], r["ChargeCategory"], r["BilledCost"], r["ListUnitPrice"], r["PricingUnit"], r["x_CostKnown"], r["Tags"], r["SubAccountId"]})
	}
	const red = `{"team":"red, \"blue\""}`
	want := []line{
		{"h100 of pool p, held by job train, attempt 2, rank 0", "Usage", "0.728208769", "2.123456789", "Device-Hours", "true", red, "vision"},
		{"h100 of pool p, held by job train, attempt 2, rank 0", "Usage", "0.364104384", "2.123456789", "Device-Hours", "true", red, "vision"},
		{"h100 of pool p, held beyond capacity", "Adjustment", "-0.364104384", "", "", "true", "", ""},
		{"h100 of pool p, idle", "Usage", "1400.753271971", "2.123456789", "Device-Hours", "true", "", ""},
		{"memory of pool p, held by job train, attempt 2, rank 0, price unknown", "Usage", "0.00", "", "GiB-Hours", "false", red, "vision"},
		{"memory of pool p, idle, price unknown", "Usage", "0.00", "", "GiB-Hours", "false", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJSONSaysWhatCSVSays(t *testing.T) {
	var b bytes.Buffer
	if err := focus.JSON(&b, account, report(t)); err != nil {
		t.Fatal(err)
	}
	var got []map[string]json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	rows := table(t, report(t))
	if len(got) != len(rows) {
		t.Fatalf("%d objects, %d lines", len(got), len(rows))
	}
	for i, row := range rows {
		for name, want := range row {
			text := string(got[i][name])
			var s string
			if json.Unmarshal(got[i][name], &s) == nil {
				text = s
			}
			if text == "null" {
				text = ""
			}
			if text != want {
				t.Errorf("%s is %s in JSON, %q in CSV", name, got[i][name], want)
			}
		}
	}
}

func TestReportOverTheEndOfAMonthIsRefused(t *testing.T) {
	w := meter.MonthWindow(time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC))
	w.To = w.To.Add(time.Second)
	err := focus.CSV(&bytes.Buffer{}, account, meter.Report{Window: w})
	if penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("got %v", err)
	}
}
