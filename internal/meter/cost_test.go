package meter

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func hours(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Hour))) }

func money(t *testing.T, s string) penstock.Money {
	t.Helper()
	m, err := penstock.ParseMoney(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// gpus is the rate of a pool of h100 with a price for one device and hour.
func gpus(t *testing.T, devices int64, price string, from time.Time) store.Rate {
	return store.Rate{Pool: "p", Resource: "h100", Capacity: penstock.Amount(devices * 1000), Price: money(t, price), From: from}
}

// use is an h100 held by vision/train.
func use(id string, milli penstock.Amount, from, to time.Time) store.Usage {
	return store.Usage{
		ID: id, Project: "vision", Job: "uid-1", JobName: "train", Attempt: 1, Pool: "p", Node: "n",
		Resource: "h100", Amount: milli, From: from, To: to, Outcome: "succeeded",
	}
}

func mustCost(t *testing.T, w Window, usages []store.Usage, rates ...store.Rate) Report {
	t.Helper()
	r, err := Cost(w, usages, rates, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustGroup(t *testing.T, r Report, by ...string) Statement {
	t.Helper()
	s, err := Group(r, by)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func kinds(r Report, k Kind) (rows []Row) {
	for _, row := range r.Rows {
		if row.Kind == k {
			rows = append(rows, row)
		}
	}
	return rows
}

// opencost#2029, kubecost#2418, opencost#3160: prices divided by their own sum.
func TestPricesAreChargedAsTheyWereGiven(t *testing.T) {
	day := Window{hours(0), hours(1)}
	for _, c := range []struct {
		resource penstock.Resource
		unit     penstock.Amount
		price    string
	}{{"h100", 1000, "55.04"}, {penstock.CPU, 1000, "0.035"}, {penstock.Memory, 1 << 30, "0.000000001"}, {penstock.Memory, 1 << 30, "0.0042"}} {
		rate := store.Rate{Pool: "p", Resource: c.resource, Capacity: c.unit, Price: money(t, c.price), From: hours(-5)}
		u := use("u", c.unit, hours(-5), hours(9))
		u.Resource = c.resource
		r := mustCost(t, day, []store.Usage{u}, rate)
		if got := r.Spent("vision"); got != rate.Price {
			t.Errorf("one %s for one hour at %s costs %s", c.resource, c.price, got)
		}
	}
}

// opencost#2901, #2523, #2862: GPU cost × count twice, shared replicas multiply.
func TestSlicesOfADeviceCostTheDevice(t *testing.T) {
	r := mustCost(t, Window{hours(0), hours(1)}, []store.Usage{
		use("a", 333, hours(0), hours(1)), use("b", 333, hours(0), hours(1)), use("c", 334, hours(0), hours(1)),
	}, gpus(t, 1, "6.88", hours(0)))
	if got := r.Spent("vision"); got != money(t, "6.88") {
		t.Errorf("the slices cost %s", got)
	}
	if idle := kinds(r, Idle); len(idle) != 0 {
		t.Errorf("a full device has idle rows: %+v", idle)
	}
}

// dstack#1890: multi-device work shown at the price of one device.
func TestEightDevicesCostEightPrices(t *testing.T) {
	r := mustCost(t, Window{hours(0), hours(1)}, []store.Usage{use("a", 8000, hours(0), hours(1))}, gpus(t, 8, "1.28", hours(0)))
	if got := r.Spent("vision"); got != money(t, "10.24") {
		t.Errorf("costs %s, want 10.24", got)
	}
}

// opencost#991: 12–17 and 19–22 under one name were shown as 600 minutes.
func TestJobOfTheSameNameIsAnotherLine(t *testing.T) {
	second := use("b", 1000, hours(7), hours(10))
	second.Job = "uid-2"
	retry := use("c", 1000, hours(5), hours(6))
	retry.Attempt = 2
	r := mustCost(t, Window{hours(0), hours(10)}, []store.Usage{use("a", 1000, hours(0), hours(5)), second, retry}, gpus(t, 1, "1", hours(0)))
	var got []float64
	for _, l := range mustGroup(t, r, "job", "attempt").Lines {
		got = append(got, l.Hours["h100"].Hours("h100"))
	}
	if diff := cmp.Diff([]float64{5, 3, 1}, got); diff != "" {
		t.Error(diff)
	}
	if lines := mustGroup(t, r, "job").Lines; len(lines) != 2 || lines[0].Values[0] != "train" || lines[1].Job != "uid-2" {
		t.Errorf("two jobs named train became %+v", lines)
	}
}

// opencost-helm#232, kubefin#47: 15-minute windows short, 10-second jobs unbilled.
func TestShortWorkIsChargedByItsTimes(t *testing.T) {
	w := Window{noon, noon.Add(15 * time.Minute)}
	r := mustCost(t, w, []store.Usage{
		use("a", 1000, noon, noon.Add(15*time.Minute)), use("b", 1000, noon.Add(time.Minute), noon.Add(70*time.Second)),
		use("c", 1000, noon, noon.Add(time.Microsecond)),
	}, gpus(t, 4, "36", noon))
	var got []penstock.Money
	for _, row := range kinds(r, Allocated) {
		got = append(got, row.Cost)
	}
	if diff := cmp.Diff([]penstock.Money{money(t, "9"), money(t, "0.00000001"), money(t, "0.1")}, got); diff != "" {
		t.Error(diff)
	}
}

// skypilot#2780: past runs priced from today's catalogue.
func TestNewPriceDoesNotTouchThePast(t *testing.T) {
	w, uses := Window{hours(0), hours(2)}, []store.Usage{use("a", 1000, hours(0), hours(2))}
	old := mustCost(t, w, uses, gpus(t, 1, "3.06", hours(0)))
	later := mustCost(t, w, uses, gpus(t, 1, "3.06", hours(0)), gpus(t, 0, "9", hours(2)))
	if diff := cmp.Diff(old, later); diff != "" {
		t.Errorf("a rate from the window's end on changed it (-before +after):\n%s", diff)
	}
	within := mustCost(t, w, uses, gpus(t, 1, "3.06", hours(0)), gpus(t, 1, "4.00", hours(1.5)))
	if got := within.Spent("vision"); got != money(t, "6.59") {
		t.Errorf("1.5 h at 3.06 and 0.5 h at 4.00 cost %s, want 6.59", got)
	}
}

// skypilot#3615: an H100 at $0.
func TestUnknownPriceIsNotZero(t *testing.T) {
	w, uses := Window{hours(0), hours(2)}, []store.Usage{use("a", 1000, hours(0), hours(2))}
	free := mustGroup(t, mustCost(t, w, uses, gpus(t, 2, "0", hours(0))))
	if free.Cost != 0 || len(free.Total.Unpriced) != 0 || free.Pools[0].Unpriced != 0 {
		t.Errorf("a price of 0 is known: %+v", free)
	}
	unknown := gpus(t, 2, "0", hours(0))
	unknown.Price = -1
	for name, rates := range map[string][]store.Rate{"price -1": {unknown}, "no rate": nil, "no rate yet": {gpus(t, 2, "5", hours(2))}} {
		r := mustCost(t, w, uses, rates...)
		s := mustGroup(t, r)
		if got := s.Total.Unpriced["h100"].Hours("h100"); got != 2 || s.Total.Cost != 0 {
			t.Errorf("%s: %v h without a price, cost %s; want 2 h and 0", name, got, s.Total.Cost)
		}
		if len(r.Imbalances) != 0 {
			t.Errorf("%s: unknown capacity was taken for none: %v", name, r.Imbalances)
		}
	}
	s := mustGroup(t, mustCost(t, w, uses, unknown))
	if s.Pools[0].Hours != 4 || s.Pools[0].Unpriced != 4 {
		t.Errorf("the pool had 4 h, all unpriced: %+v", s.Pools[0])
	}
}

// opencost#3393: negative idle, mended by clamping.
func TestOverAllocationIsToldAndNotClamped(t *testing.T) {
	r := mustCost(t, Window{hours(0), hours(4)}, []store.Usage{
		use("a", 1000, hours(0), hours(2)), use("b", 1000, hours(1), hours(2)), use("c", 1000, hours(1), hours(2)),
	}, gpus(t, 2, "10", hours(0)))
	want := []Imbalance{{Pool: "p", Resource: "h100", From: hours(1), To: hours(2), Held: 3000, Capacity: 2000}}
	if diff := cmp.Diff(want, r.Imbalances); diff != "" {
		t.Error(diff)
	}
	if got, want := want[0].String(), "pool p: 3 of 2 h100 held from 2026-03-04T13:00:00Z to 2026-03-04T14:00:00Z"; got != want {
		t.Errorf("got %q", got)
	}
	p := mustGroup(t, r).Pools[0]
	wantPool := PoolLine{
		Pool: "p", Resource: "h100", Cost: money(t, "80"), Allocated: money(t, "40"), Idle: money(t, "50"), Overrun: money(t, "-10"), Hours: 8,
	}
	if diff := cmp.Diff(wantPool, p); diff != "" {
		t.Error(diff)
	}
}

func TestUseThatFollowsAtOnceIsNoOverrun(t *testing.T) {
	r := mustCost(t, Window{hours(0), hours(4)}, []store.Usage{
		use("a", 1000, hours(0), hours(2)), use("b", 1000, hours(2), hours(4)),
	}, gpus(t, 1, "10", hours(0)))
	if len(r.Imbalances) != 0 {
		t.Error(r.Imbalances)
	}
}

func TestLostAttemptsAreShownApart(t *testing.T) {
	var uses []store.Usage
	for i, outcome := range []string{"lost", "failed", "stopped", "succeeded", ""} {
		u := use(outcome+"x", 1000, hours(float64(i)), hours(float64(i)+1))
		u.Outcome, u.Labels = outcome, map[string]string{"team": "red", "class": "training"}
		uses = append(uses, u)
	}
	s := mustGroup(t, mustCost(t, Window{hours(0), hours(6)}, uses, gpus(t, 1, "2", hours(0))), "team", "class")
	if len(s.Lines) != 1 || s.Lines[0].Cost != money(t, "10") || s.Lines[0].Lost != money(t, "6") {
		t.Errorf("%+v", s.Lines)
	}
	if diff := cmp.Diff([]string{"red", "training"}, s.Lines[0].Values); diff != "" {
		t.Error(diff)
	}
	if s.Pools[0].Idle != money(t, "2") {
		t.Errorf("idle is %s, want 2", s.Pools[0].Idle)
	}
}

func TestStatementOfNothingHasNoNulls(t *testing.T) {
	wire, err := json.Marshal(mustGroup(t, mustCost(t, Window{hours(0), hours(1)}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"window":{"from":"2026-03-04T12:00:00Z","to":"2026-03-04T13:00:00Z"},"by":[],"cost":"0.00","lines":[],` +
		`"total":{"values":[],"cost":"0.00","lost":"0.00","hours":{}},"pools":[]}`
	if diff := cmp.Diff(want, string(wire)); diff != "" {
		t.Error(diff)
	}
}

func TestCorruptFactsAreRefused(t *testing.T) {
	w := Window{hours(0), hours(1)}
	other := use("a", 2000, hours(0), hours(1))
	for name, c := range map[string]struct {
		w     Window
		uses  []store.Usage
		rates []store.Rate
		code  penstock.Code
		says  string
	}{
		"window":   {w: Window{hours(1), hours(0)}, code: penstock.Invalid, says: "before it begins"},
		"amount":   {w: w, uses: []store.Usage{use("a", -1, hours(0), hours(1))}, code: penstock.Corrupt, says: "holds -1"},
		"times":    {w: w, uses: []store.Usage{use("a", 1, hours(1), hours(0))}, code: penstock.Corrupt, says: "usage a"},
		"twice":    {w: w, uses: []store.Usage{use("a", 1000, hours(0), hours(1)), other}, code: penstock.Corrupt, says: "twice"},
		"capacity": {w: w, rates: []store.Rate{gpus(t, -1, "1", hours(0))}, code: penstock.Corrupt, says: "-1000 h100"},
		"overflow": {w: w, rates: []store.Rate{{Pool: "p", Resource: "h100", Price: math.MaxInt64, Capacity: 9000, From: hours(0)}}, code: penstock.OverLimit, says: "more money"},
		"sum": {w: w, code: penstock.OverLimit, says: "more money", rates: []store.Rate{
			{Pool: "p", Resource: "h100", Price: math.MaxInt64, Capacity: 1000, From: hours(0)},
			{Pool: "q", Resource: "h100", Price: math.MaxInt64, Capacity: 1000, From: hours(0)},
		}},
	} {
		_, err := Cost(c.w, c.uses, c.rates, nil)
		if !errors.Is(err, &penstock.Error{Code: c.code}) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Group(Report{}, []string{"temas"}); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("grouping by temas: %v", err)
	}
}

// openmeter#3313, openclaw#103097: months read in local time.
func TestMonthIsUTCWhereverItIsAsked(t *testing.T) {
	budapest, err := time.LoadLocation("Europe/Budapest")
	if err != nil {
		t.Fatal(err)
	}
	march := Window{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}
	for _, c := range []struct {
		at   time.Time
		want Window
	}{
		{time.Date(2026, 4, 1, 0, 30, 0, 0, budapest), march}, // still 31 March in UTC
		{time.Date(2026, 3, 29, 2, 30, 0, 0, budapest), march},
		{march.From, march},
		{march.To.Add(-1), march},
		{time.Date(2028, 2, 29, 23, 0, 0, 0, time.UTC), Window{time.Date(2028, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)}},
		{time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC), Window{time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		if diff := cmp.Diff(c.want, MonthWindow(c.at)); diff != "" {
			t.Errorf("%s:\n%s", c.at, diff)
		}
	}
}

// EnergyPlus#7814: days × 24 h across a change of clocks.
func TestDaysOf23And25HoursCostTheirHours(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rate := gpus(t, 1, "1", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	for day, want := range map[time.Time]string{
		time.Date(2026, 3, 29, 0, 0, 0, 0, berlin):  "23",
		time.Date(2026, 10, 25, 0, 0, 0, 0, berlin): "25",
	} {
		r := mustCost(t, Window{day, day.AddDate(0, 0, 1)}, nil, rate)
		if r.Cost() != money(t, want) {
			t.Errorf("%s costs %s, want %s", day.Format(time.DateOnly), r.Cost(), want)
		}
	}
}

func TestUnitCostsAreNullWhereTheyMeanNothing(t *testing.T) {
	served := use("a", 1000, hours(0), hours(1))
	served.Labels = map[string]string{"endpoint": "chat"}
	idle, unpriced := served, served
	idle.ID, idle.Labels = "b", map[string]string{"endpoint": "unasked"}
	unpriced.ID, unpriced.Pool, unpriced.Labels = "c", "elsewhere", map[string]string{"endpoint": "dark"}
	r := mustCost(t, Window{hours(0), hours(1)}, []store.Usage{served, idle, unpriced}, gpus(t, 2, "3", hours(0)))
	r.Tallies = []store.Tally{
		{Project: "vision", EndpointName: "chat", Version: "v1", Requests: 500, Succeeded: 400, PromptTokens: 7000, CompletionTokens: 3000},
		{Project: "vision", EndpointName: "chat", Version: "v2", Requests: 500, Succeeded: 600, PromptTokens: 0, CompletionTokens: 10000},
		{Project: "vision", EndpointName: "dark", Requests: 1, Succeeded: 1, PromptTokens: 1},
		{Project: "vision", EndpointName: "gone", Requests: 1},
	}
	units, err := PerThousand(r)
	if err != nil {
		t.Fatal(err)
	}
	p := func(s string) *penstock.Money { m := money(t, s); return &m }
	want := []Unit{
		{Project: "vision", Endpoint: "chat", Cost: *p("3"), Unpriced: Held{}, Requests: 1000, Succeeded: 1000, Tokens: 20000,
			PerThousandRequests: p("3"), PerThousandTokens: p("0.15"), PerSuccess: p("0.003")},
		{Project: "vision", Endpoint: "dark", Unpriced: Held{"h100": NewArea(1000, 3600e6)}, Requests: 1, Succeeded: 1, Tokens: 1},
		{Project: "vision", Endpoint: "gone", Unpriced: Held{}, Requests: 1},
		{Project: "vision", Endpoint: "unasked", Cost: *p("3"), Unpriced: Held{}},
	}
	if diff := cmp.Diff(want, units); diff != "" {
		t.Error(diff)
	}
	wire, err := json.Marshal(units[1])
	if err != nil {
		t.Fatal(err)
	}
	const wantWire = `{"project":"vision","endpoint":"dark","cost":"0.00","unpriced":{"h100":1},"requests":1,"succeeded":1,"tokens":1,` +
		`"perThousandRequests":null,"perThousandTokens":null,"perSuccess":null}`
	if diff := cmp.Diff(wantWire, string(wire)); diff != "" {
		t.Error(diff)
	}
}

func TestBudgetSpeaksOnceItIsReached(t *testing.T) {
	spec := v1.ProjectSpec{Budget: &v1.Budget{Monthly: money(t, "100"), AtLimit: "stop"}}
	if got := Budget(spec, "vision", money(t, "99.999999999")); got != nil {
		t.Errorf("a nano-unit below: %v", got)
	}
	want := []penstock.Reason{{
		Code: penstock.BudgetExhausted, Class: penstock.Ask, Message: "project vision has spent 100.00 of its monthly 100.00: new work waits",
		Numbers: map[string]int64{"spent": 100e9, "budget": 100e9},
	}}
	if diff := cmp.Diff(want, Budget(spec, "vision", money(t, "100"))); diff != "" {
		t.Error(diff)
	}
	spec.Budget.AtLimit = "warn"
	if got := Budget(spec, "vision", money(t, "101")); len(got) != 1 || !strings.HasSuffix(got[0].Message, "new work still starts") {
		t.Errorf("%v", got)
	}
	if got := Budget(v1.ProjectSpec{}, "vision", money(t, "1000")); got != nil {
		t.Errorf("without a budget: %v", got)
	}
}
