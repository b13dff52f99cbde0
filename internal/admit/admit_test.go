package admit

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

func job(r penstock.Resources) snapshot.Job {
	return snapshot.Job{
		Ref:  penstock.Ref{Kind: penstock.KindJob, Project: "vision", Name: "train"},
		Sets: []snapshot.Set{{Name: "worker", Count: 1, Each: r}},
	}
}

func TestQuotaAnswersWithNumbers(t *testing.T) {
	quota := v1.Quota{Nominal: penstock.Resources{"h100": 4000, "memory": 8 << 30}, Borrow: penstock.Resources{"h100": 2000}}
	for _, c := range []struct {
		name       string
		using, job penstock.Resources
		tier       Tier
		class      penstock.ReasonClass
		message    string
	}{
		{"within nominal", penstock.Resources{"h100": 2000}, penstock.Resources{"h100": 2000}, Nominal, "", ""},
		{"one thousandth more borrows", penstock.Resources{"h100": 2000}, penstock.Resources{"h100": 2001}, Borrowed, "", ""},
		{"up to the last that can be borrowed", penstock.Resources{"h100": 4000}, penstock.Resources{"h100": 2000}, Borrowed, "", ""},
		{"more waits for the project's own work", penstock.Resources{"h100": 4000}, penstock.Resources{"h100": 2500}, Nominal, penstock.Wait,
			"project vision uses 4 of 6 h100; the job wants 2500m, 500m more than is left"},
		{"all of it waits for it to be free", penstock.Resources{"h100": 1}, penstock.Resources{"h100": 6000}, Nominal, penstock.Wait,
			"project vision uses 1m of 6 h100; the job wants 6, 1m more than is left"},
		{"more than there ever is asks", nil, penstock.Resources{"h100": 7000}, Nominal, penstock.Ask,
			"project vision uses 0 of 6 h100; the job wants 7, 1 more than is left"},
		{"a resource without borrowing", penstock.Resources{"memory": 8 << 30}, penstock.Resources{"memory": 1 << 30}, Nominal, penstock.Wait,
			"project vision uses 8Gi of 8Gi memory; the job wants 1Gi, 1Gi more than is left"},
		{"an unlisted one isn't limited", penstock.Resources{"cpu": 1 << 40}, penstock.Resources{"cpu": 1 << 40}, Nominal, "", ""},
		{"a quota lowered under running work stops new work", penstock.Resources{"h100": 9000}, penstock.Resources{"h100": 1}, Nominal, penstock.Wait,
			"project vision uses 9 of 6 h100; the job wants 1m, 3001m more than is left"},
		{"and nothing else", penstock.Resources{"h100": 9000}, penstock.Resources{"h100": 0, "memory": 1}, Nominal, "", ""},
		{"an absurd amount stays absurd", penstock.Resources{"h100": 1000}, penstock.Resources{"h100": math.MaxInt64}, Nominal, penstock.Ask,
			"project vision uses 1 of 6 h100; the job wants 9223372036854775807m, 9223372036854769807m more than is left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tier, reasons := Check(snapshot.Project{Quota: quota}, c.using, job(c.job))
			if c.message == "" {
				if len(reasons) > 0 || tier != c.tier {
					t.Errorf("tier %d and %v, want tier %d", tier, reasons, c.tier)
				}
				return
			}
			if len(reasons) != 1 || reasons[0].Code != penstock.QuotaExhausted || reasons[0].Class != c.class || reasons[0].Message != c.message {
				t.Fatalf("got %+v\nwant %s: %s", reasons, c.class, c.message)
			}
			want := map[string]int64{}
			for name := range c.job {
				limit := quota.Nominal[name] + quota.Borrow[name]
				want = map[string]int64{"want": int64(c.job[name]), "using": int64(c.using[name]), "limit": int64(limit)}
			}
			if diff := cmp.Diff(want, reasons[0].Numbers); diff != "" {
				t.Errorf("numbers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryNoIsTold(t *testing.T) {
	p := snapshot.Project{
		Quota:  v1.Quota{Nominal: penstock.Resources{"cpu": 1000, "h100": 0}},
		Closed: append(make([]penstock.Reason, 0, 9), penstock.Because(penstock.ProjectExpired, penstock.Ask, "expired")),
	}
	_, reasons := Check(p, nil, job(penstock.Resources{"cpu": 2000, "h100": 1000}))
	var got []penstock.ReasonCode
	for _, r := range reasons {
		got = append(got, r.Code)
	}
	if diff := cmp.Diff([]penstock.ReasonCode{penstock.ProjectExpired, penstock.QuotaExhausted, penstock.QuotaExhausted}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if behind := p.Closed[:2][1]; behind.Code != "" {
		t.Errorf("%s was written behind the project's own reasons", behind)
	}
}

// TestAdmittedStaysWithinTheLimit, and on the nominal tier within nominal.
func TestAdmittedStaysWithinTheLimit(t *testing.T) {
	amounts := rapid.MapOf(rapid.SampledFrom([]penstock.Resource{"cpu", "memory", "h100"}), rapid.Map(rapid.Int64Range(0, 20), func(n int64) penstock.Amount { return penstock.Amount(n) }))
	rapid.Check(t, func(t *rapid.T) {
		q := v1.Quota{Nominal: amounts.Draw(t, "nominal"), Borrow: amounts.Draw(t, "borrow")}
		using, want := amounts.Draw(t, "using"), amounts.Draw(t, "want")
		tier, reasons := Check(snapshot.Project{Quota: q}, using, job(want))
		within, nominal := true, true
		for name, n := range q.Nominal {
			if want[name] > 0 {
				within = within && using[name]+want[name] <= n+q.Borrow[name]
				nominal = nominal && using[name]+want[name] <= n
			}
		}
		if within != (len(reasons) == 0) || within && nominal != (tier == Nominal) {
			t.Errorf("tier %d and %v; within %v, nominal %v", tier, reasons, within, nominal)
		}
	})
}

func TestProjectsClose(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stop, warn := &v1.Budget{Monthly: 100 * penstock.Unit, AtLimit: "stop"}, &v1.Budget{Monthly: 100 * penstock.Unit, AtLimit: "warn"}
	for _, c := range []struct {
		name  string
		spec  v1.ProjectSpec
		spent penstock.Money
		want  string
	}{
		{"nothing said", v1.ProjectSpec{}, 1 << 60, ""},
		{"a moment before it expires", v1.ProjectSpec{Expires: noon.Add(1)}, 0, ""},
		{"the moment it expires", v1.ProjectSpec{Expires: noon}, 0, "ProjectExpired: project vision expired on 2026-03-01"},
		{"a nano-unit left", v1.ProjectSpec{Budget: stop}, 100*penstock.Unit - 1, ""},
		{"the budget is reached", v1.ProjectSpec{Budget: stop}, 100 * penstock.Unit, "BudgetExhausted: project vision has spent 100.00 of its monthly 100.00"},
		{"a budget that only warns", v1.ProjectSpec{Budget: warn}, 200 * penstock.Unit, ""},
		{"both", v1.ProjectSpec{Expires: noon.Add(-time.Hour), Budget: stop}, 101 * penstock.Unit,
			"ProjectExpired: project vision expired on 2026-03-01; BudgetExhausted: project vision has spent 101.00 of its monthly 100.00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := penstock.Join(Closed(c.spec, "vision", c.spent, noon)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
