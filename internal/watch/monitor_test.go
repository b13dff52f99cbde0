package watch

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func signals(values []float64) map[string][]float64 {
	return map[string][]float64{"ttft_ms": values}
}

// ramp is n values that repeat 0, 1, … 9, moved by some.
func ramp(n int, by float64) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = float64(i%10) + by
	}
	return values
}

func ttft() v1.MonitorSpec {
	return v1.MonitorSpec{Endpoint: "chat", Signals: []v1.Signal{{Name: "ttft_ms"}}}
}

func TestReferenceIsMadeOnceAndThenKept(t *testing.T) {
	early, alert := Evaluate(ttft(), v1.MonitorStatus{}, signals(ramp(99, 0)), noon)
	if alert != nil || early.Signals[0].Reference != nil || early.Seen != 99 {
		t.Errorf("with 99 of 100 requests: %+v", early)
	}
	first, _ := Evaluate(ttft(), early, signals(slices.Concat(ramp(100, 0), ramp(100, 3))), noon)
	want, _ := Evaluate(ttft(), v1.MonitorStatus{}, signals(ramp(100, 0)), noon)
	if diff := cmp.Diff(want.Signals[0].Reference, first.Signals[0].Reference); diff != "" {
		t.Errorf("the reference isn't the first 100 requests:\n%s", diff)
	}
	wantCurrent, _ := Histogram(first.Signals[0].Bins, ramp(100, 3))
	if diff := cmp.Diff(wantCurrent, first.Signals[0].Current); diff != "" {
		t.Errorf("what is judged isn't the newest 100 requests:\n%s", diff)
	}
	later, _ := Evaluate(ttft(), first, signals(ramp(100, 500)), noon)
	if diff := cmp.Diff(first.Signals[0].Reference, later.Signals[0].Reference); diff != "" {
		t.Errorf("the reference followed the data:\n%s", diff)
	}
	if diff := cmp.Diff(first.Signals[0].Bins, later.Signals[0].Bins); diff != "" {
		t.Errorf("the bins followed the data:\n%s", diff)
	}
}

func TestEachPassageIntoDriftRaisesOneAlert(t *testing.T) {
	status, raised := v1.MonitorStatus{}, []int{}
	for _, values := range [][]float64{ramp(100, 0), ramp(100, 0), ramp(100, 50), ramp(100, 50), ramp(100, 60), ramp(100, 0), ramp(100, 50)} {
		var alert *v1.Alert
		status, alert = Evaluate(ttft(), status, signals(values), noon)
		if alert != nil {
			raised = append(raised, alert.Number)
		}
	}
	if diff := cmp.Diff([]int{1, 2}, raised); diff != "" {
		t.Error(diff)
	}
	if status.Alert == nil || status.Alerts != 2 {
		t.Errorf("%+v", status)
	}
}

func TestSignalThatWaversAboutItsThresholdIsOneDrift(t *testing.T) {
	spec := v1.MonitorSpec{Window: 1000, Signals: []v1.Signal{{
		Name: "ttft_ms", Bins: []float64{10}, Reference: []int64{5000, 5000}, Threshold: 0.2,
	}}}
	share := func(below int) []float64 {
		return slices.Concat(slices.Repeat([]float64{1}, below), slices.Repeat([]float64{99}, 1000-below))
	}
	var status v1.MonitorStatus
	var got []bool
	alerts := 0
	for _, below := range []int{720, 711, 722, 690, 711, 720} { // PSI 0.21, 0.19, 0.21, 0.15, 0.19, 0.21
		var alert *v1.Alert
		status, alert = Evaluate(spec, status, signals(share(below)), noon)
		got = append(got, status.Signals[0].Drifted)
		if alert != nil {
			alerts++
		}
	}
	if diff := cmp.Diff([]bool{true, true, true, false, false, true}, got); diff != "" || alerts != 2 {
		t.Errorf("%d alerts\n%s", alerts, diff)
	}
}

func TestAlertCarriesTheNumbers(t *testing.T) {
	spec := v1.MonitorSpec{Signals: []v1.Signal{{Name: "ttft_ms", Bins: []float64{100, 200}, Reference: []int64{800, 150, 50}}}}
	values := slices.Concat(slices.Repeat([]float64{50}, 20), slices.Repeat([]float64{150}, 30), slices.Repeat([]float64{900}, 48), []float64{math.NaN(), math.NaN()})
	_, alert := Evaluate(spec, v1.MonitorStatus{}, signals(values), noon)
	want := &v1.Alert{Number: 1, At: noon, Reason: penstock.Reason{
		Code: penstock.Drifted, Class: penstock.Change,
		Message: "ttft_ms has drifted: PSI 1.929, threshold 0.250, 98 requests against 1000 " +
			"(above 200: 50 before, 48 now, at most 100: 800 before, 20 now, 100 to 200: 150 before, 30 now), 2 without a number",
		Numbers: map[string]int64{"psi_milli": 1929, "threshold_milli": 250, "reference": 1000, "current": 98, "missing": 2, "signals": 1},
	}}
	if diff := cmp.Diff(want, alert); diff != "" {
		t.Error(diff)
	}
}

func TestAlertTellsOfEverySignalTheWorstFirst(t *testing.T) {
	spec := v1.MonitorSpec{Signals: []v1.Signal{{Name: "prompt_tokens"}, {Name: "ttft_ms"}}}
	calm := map[string][]float64{"prompt_tokens": ramp(100, 0), "ttft_ms": ramp(100, 0)}
	status, _ := Evaluate(spec, v1.MonitorStatus{}, calm, noon)
	_, alert := Evaluate(spec, status, map[string][]float64{"prompt_tokens": ramp(100, 5), "ttft_ms": ramp(100, 500)}, noon)
	if alert == nil {
		t.Fatal("no alert")
	}
	before, after, ok := strings.Cut(alert.Reason.Message, "; ")
	if !ok || !strings.HasPrefix(before, "ttft_ms") || !strings.HasPrefix(after, "prompt_tokens") || alert.Reason.Numbers["signals"] != 2 {
		t.Errorf("%+v", alert.Reason)
	}
}

func TestTooFewNumbersLeaveASignalAsItWas(t *testing.T) {
	status, _ := Evaluate(ttft(), v1.MonitorStatus{}, signals(ramp(100, 0)), noon)
	drifted, _ := Evaluate(ttft(), status, signals(ramp(100, 50)), noon)
	for name, values := range map[string][]float64{
		"none": nil, "49 of 100": ramp(49, 0), "NaN": slices.Repeat([]float64{math.NaN()}, 100),
	} {
		after, alert := Evaluate(ttft(), drifted, signals(values), noon)
		after.Seen = drifted.Seen
		if diff := cmp.Diff(drifted, after); diff != "" || alert != nil {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestNewBinsTakeTheOldReferenceAway(t *testing.T) {
	status, _ := Evaluate(ttft(), v1.MonitorStatus{}, signals(ramp(100, 0)), noon)
	spec := ttft()
	spec.Signals[0].Bins = []float64{5}
	after, _ := Evaluate(spec, status, signals(ramp(100, 0)), noon)
	if diff := cmp.Diff([]int64{60, 40}, after.Signals[0].Reference); diff != "" {
		t.Error(diff)
	}
}

func TestRefreshingAndReorderingChangeNothing(t *testing.T) {
	value := rapid.OneOf(rapid.Float64Range(0, 100), rapid.Just(math.NaN()), rapid.Just(7.0), rapid.Just(math.Inf(1)))
	rapid.Check(t, func(t *rapid.T) {
		spec := v1.MonitorSpec{Window: rapid.IntRange(2, 30).Draw(t, "window"), Signals: []v1.Signal{{Name: "ttft_ms"}}}
		draw := func(name string) map[string][]float64 {
			return signals(rapid.SliceOfN(value, spec.Window, spec.Window).Draw(t, name))
		}
		status, _ := Evaluate(spec, v1.MonitorStatus{}, draw("reference"), noon)
		newest := draw("newest")
		once, _ := Evaluate(spec, status, newest, noon)
		twice, again := Evaluate(spec, once, newest, noon.Add(time.Hour))
		if diff := cmp.Diff(once, twice); diff != "" || again != nil {
			t.Fatalf("evaluating again changed:\n%s", diff)
		}
		moved, _ := Evaluate(spec, status, signals(rapid.Permutation(newest["ttft_ms"]).Draw(t, "order")), noon)
		if diff := cmp.Diff(once, moved); diff != "" {
			t.Fatalf("order matters:\n%s", diff)
		}
		if _, err := json.Marshal(once); err != nil {
			t.Fatalf("the status can't be stored: %v", err)
		}
	})
}

func TestObjectiveIsHeldAgainstTheNearestRankP95(t *testing.T) {
	var seen []time.Duration
	for i := range 100 {
		seen = append(seen, time.Duration(100-i)*time.Millisecond)
	}
	at := func(d time.Duration) v1.Objective { return v1.Objective{TTFT: v1.Duration(d)} }
	for name, o := range map[string]v1.Objective{"kept to the last bit": at(95 * time.Millisecond), "none": {}} {
		if h := Objective(o, seen); h.P95 != 95*time.Millisecond || h.Missed != nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
	want := Health{Requests: 100, P95: 95 * time.Millisecond, Missed: []penstock.Reason{{
		Code: penstock.ObjectiveMissed, Class: penstock.Change,
		Message: "time to first token is 95ms at p95, the objective is 90ms: 10 of 100 requests were slower",
		Numbers: map[string]int64{"p95_us": 95000, "objective_us": 90000, "slower": 10, "requests": 100},
	}}}
	if diff := cmp.Diff(want, Objective(at(90*time.Millisecond), seen)); diff != "" {
		t.Error(diff)
	}
	if h := Objective(at(time.Millisecond), seen[:19]); h.Missed != nil {
		t.Errorf("judged on 19 requests: %+v", h)
	}
	if h := Objective(at(time.Millisecond), nil); h.P95 != 0 || h.Missed != nil {
		t.Errorf("without requests: %+v", h)
	}
}
