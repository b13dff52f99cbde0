package gate_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/gate"
	"github.com/penstock/penstock/internal/registry/scan"
)

func limit(x float64) *float64 { return &x }

func hour(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }

func evaluation(job string, at int, metrics map[string]float64) v1.Evaluation {
	return v1.Evaluation{Job: job, At: hour(at), Metrics: metrics}
}

// good is a version by ann that passes the gate of production.
func good() v1.ModelVersion {
	return v1.ModelVersion{Metadata: v1.Metadata{Phase: penstock.PhaseReady}, Status: v1.ModelVersionStatus{
		Scan:        &v1.Scan{Verdict: scan.Clean, Ruleset: "r1"},
		Evaluations: []v1.Evaluation{evaluation("eval-1", 1, map[string]float64{"loss": 1.5, "accuracy": 0.9})},
		Approvals:   []v1.Approval{{By: "bob", Alias: "production"}, {By: "cid", Alias: "production"}},
	}}
}

var production = v1.Gate{Metrics: []v1.Bound{{Metric: "loss", Max: limit(2)}, {Metric: "accuracy", Min: limit(0.8)}}, Approvals: 2}

func TestAGateSaysWhatIsMissingWithTheNumbers(t *testing.T) {
	for _, c := range []struct {
		name   string
		gate   v1.Gate
		change func(v *v1.ModelVersion)
		want   []string
	}{
		{"all there", production, func(*v1.ModelVersion) {}, nil},
		{"at the bounds", v1.Gate{Metrics: []v1.Bound{{Metric: "loss", Max: limit(1.5), Min: limit(1.5)}}}, func(*v1.ModelVersion) {}, nil},
		{"no gate, clean scan", v1.Gate{}, func(v *v1.ModelVersion) { v.Status.Approvals, v.Status.Evaluations = nil, nil }, nil},
		{"no gate, no scan", v1.Gate{}, func(v *v1.ModelVersion) { v.Status.Scan = nil }, []string{"ScanRefused: the files are not scanned yet"}},
		{"refused by a later scan", production, func(v *v1.ModelVersion) {
			v.Status.Scan = &v1.Scan{Verdict: scan.Malicious, Ruleset: "r2", Findings: []v1.Finding{{Path: "a.pkl", Verdict: scan.Malicious, Detail: "a pickle that imports os.system"}}}
		}, []string{"ScanRefused: the scan by r2 says malicious, with 1 findings; the first: a.pkl: a pickle that imports os.system"}},
		{"inconclusive isn't clean", production, func(v *v1.ModelVersion) { v.Status.Scan.Verdict = scan.Inconclusive }, []string{`ScanRefused: the scan by r1 says "inconclusive"`}},
		{"a verdict that nobody knows", production, func(v *v1.ModelVersion) { v.Status.Scan.Verdict = "" }, []string{`ScanRefused: the scan by r1 says ""`}},
		{"refused for good", production, func(v *v1.ModelVersion) { v.Metadata.Phase = penstock.PhaseRefused }, []string{"ScanRefused: the version was refused, and stays so"}},
		{"loss too high", production, func(v *v1.ModelVersion) { v.Status.Evaluations[0].Metrics["loss"] = 2.25 },
			[]string{"MetricOverBound: loss is 2.25 in the evaluation of eval-1; at most 2 is allowed"}},
		{"accuracy too low", production, func(v *v1.ModelVersion) { v.Status.Evaluations[0].Metrics["accuracy"] = 0.79 },
			[]string{"MetricOverBound: accuracy is 0.79 in the evaluation of eval-1; at least 0.8 is needed"}},
		{"not a number", production, func(v *v1.ModelVersion) { v.Status.Evaluations[0].Metrics["loss"] = math.NaN() },
			[]string{"MetricOverBound: loss is NaN in the evaluation of eval-1; at most 2 is allowed"}},
		{"not a number, no bound", v1.Gate{Metrics: []v1.Bound{{Metric: "loss"}}}, func(v *v1.ModelVersion) { v.Status.Evaluations[0].Metrics["loss"] = math.NaN() },
			[]string{"MetricMissing: loss is not a number in the evaluation of eval-1"}},
		{"never measured", production, func(v *v1.ModelVersion) { delete(v.Status.Evaluations[0].Metrics, "loss") },
			[]string{"MetricMissing: none of 1 evaluations measured loss"}},
		{"metrics of the job don't count", v1.Gate{Metrics: []v1.Bound{{Metric: "loss", Max: limit(2)}}}, func(v *v1.ModelVersion) {
			v.Status.Evaluations, v.Status.Metrics = nil, map[string]float64{"loss": 1}
		}, []string{"MetricMissing: none of 0 evaluations measured loss"}},
		{"the newest evaluation counts", production, func(v *v1.ModelVersion) {
			v.Status.Evaluations = []v1.Evaluation{evaluation("new", 9, map[string]float64{"loss": 3}), v.Status.Evaluations[0]}
		}, []string{"MetricOverBound: loss is 3 in the evaluation of new; at most 2 is allowed"}},
		{"an old bad number is forgiven", production, func(v *v1.ModelVersion) {
			v.Status.Evaluations = append(v.Status.Evaluations, evaluation("old", 0, map[string]float64{"loss": 9}))
		}, nil},
		{"an evaluation of something else hides nothing", production, func(v *v1.ModelVersion) {
			v.Status.Evaluations = append(v.Status.Evaluations, evaluation("safety", 9, map[string]float64{"refusals": 1}))
		}, nil},
		{"one approval short", production, func(v *v1.ModelVersion) { v.Status.Approvals = v.Status.Approvals[:1] },
			[]string{"ApprovalMissing: 1 of 2 approvals for production, by others than its author ann"}},
		{"the same person twice", production, func(v *v1.ModelVersion) { v.Status.Approvals[1].By = "bob" },
			[]string{"ApprovalMissing: 1 of 2 approvals for production, by others than its author ann"}},
		{"the author", production, func(v *v1.ModelVersion) { v.Status.Approvals[1].By = "ann" },
			[]string{"ApprovalMissing: 1 of 2 approvals for production, by others than its author ann"}},
		{"nobody", production, func(v *v1.ModelVersion) { v.Status.Approvals[1].By = "" },
			[]string{"ApprovalMissing: 1 of 2 approvals for production, by others than its author ann"}},
		{"for another alias", production, func(v *v1.ModelVersion) { v.Status.Approvals[1].Alias = "staging" },
			[]string{"ApprovalMissing: 1 of 2 approvals for production, by others than its author ann"}},
		{"everything", production, func(v *v1.ModelVersion) { *v = v1.ModelVersion{} }, []string{
			"ScanRefused: the files are not scanned yet", "MetricMissing: none of 0 evaluations measured loss",
			"MetricMissing: none of 0 evaluations measured accuracy", "ApprovalMissing: 0 of 2 approvals for production, by others than its author ann",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := good()
			c.change(&v)
			var got []string
			for _, r := range gate.Check(c.gate, v, "production", "ann") {
				got = append(got, r.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestReasonsCarryTheirNumbersAndWhoCanHelp(t *testing.T) {
	v := good()
	v.Status.Evaluations[0].Metrics["loss"] = 2.25
	v.Status.Approvals = nil
	got := gate.Check(production, v, "production", "ann")
	if len(got) != 2 {
		t.Fatalf("%v", got)
	}
	if diff := cmp.Diff(map[string]int64{"valueMillionths": 2_250_000, "maxMillionths": 2_000_000}, got[0].Numbers); diff != "" || got[0].Class != penstock.Change {
		t.Errorf("class %s (-want +got)\n%s", got[0].Class, diff)
	}
	if diff := cmp.Diff(map[string]int64{"have": 0, "want": 2}, got[1].Numbers); diff != "" || got[1].Class != penstock.Ask {
		t.Errorf("class %s (-want +got)\n%s", got[1].Class, diff)
	}
	v.Status.Evaluations[0].Metrics["loss"] = math.Inf(1)
	if _, shown := gate.Check(production, v, "production", "ann")[0].Numbers["valueMillionths"]; shown {
		t.Error("infinity is shown as a number of millionths")
	}
}

func TestTheGateKnowsTheScannersWord(t *testing.T) {
	if gate.Clean != scan.Clean {
		t.Errorf("the gate waits for %q, the scanner says %q", gate.Clean, scan.Clean)
	}
}

// anyCase draws a gate and a version, mostly close to passing.
func anyCase(r *rapid.T) (v1.Gate, v1.ModelVersion) {
	people := rapid.SampledFrom([]string{"ann", "bob", "cid", "dot", ""})
	v := v1.ModelVersion{}
	if rapid.IntRange(0, 4).Draw(r, "scanned") > 0 {
		v.Status.Scan = &v1.Scan{Verdict: rapid.SampledFrom([]string{scan.Clean, scan.Clean, scan.Clean, scan.Malicious}).Draw(r, "verdict")}
	}
	for range rapid.IntRange(0, 3).Draw(r, "evaluations") {
		v.Status.Evaluations = append(v.Status.Evaluations, evaluation("e", rapid.IntRange(0, 9).Draw(r, "at"), map[string]float64{"loss": rapid.Float64Range(0, 4).Draw(r, "loss")}))
	}
	for range rapid.IntRange(0, 4).Draw(r, "approvals") {
		v.Status.Approvals = append(v.Status.Approvals, v1.Approval{By: people.Draw(r, "by"), Alias: rapid.SampledFrom([]string{"production", "staging"}).Draw(r, "alias")})
	}
	g := v1.Gate{Approvals: rapid.IntRange(0, 3).Draw(r, "want")}
	if rapid.Bool().Draw(r, "bound") {
		g.Metrics = []v1.Bound{{Metric: "loss", Max: limit(2)}}
	}
	return g, v
}

func TestAnApprovalNeverClosesAGate(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		g, v := anyCase(r)
		before := gate.Check(g, v, "production", "ann")
		more := v1.Approval{By: rapid.StringMatching(`[a-z]{0,3}`).Draw(r, "by"), Alias: rapid.SampledFrom([]string{"production", "staging"}).Draw(r, "for")}
		v.Status.Approvals = append(v.Status.Approvals, more)
		if after := gate.Check(g, v, "production", "ann"); len(after) > len(before) {
			r.Fatalf("with %+v more: %v, before: %v", more, after, before)
		}
	})
}

func TestTheAuthorsOwnApprovalChangesNothing(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		g, v := anyCase(r)
		before := gate.Check(g, v, "production", "ann")
		v.Status.Approvals = append(v.Status.Approvals, v1.Approval{By: "ann", Alias: "production"}, v1.Approval{By: "ann", Alias: "production"})
		if diff := cmp.Diff(before, gate.Check(g, v, "production", "ann")); diff != "" {
			r.Fatalf("(-before +after)\n%s", diff)
		}
	})
}

func TestNothingOpensAGateForAVersionThatIsNotClean(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		g, v := anyCase(r)
		clean := v.Status.Scan != nil && v.Status.Scan.Verdict == scan.Clean
		if open := len(gate.Check(g, v, "production", "ann")) == 0; open && !clean {
			r.Fatalf("open for scan %+v", v.Status.Scan)
		}
		v.Status.Scan = &v1.Scan{Verdict: rapid.SampledFrom([]string{scan.Malicious, scan.Malformed, scan.Inconclusive}).Draw(r, "later")}
		if len(gate.Check(g, v, "production", "ann")) == 0 {
			r.Fatal("a later scan that refuses doesn't close the gate")
		}
	})
}
