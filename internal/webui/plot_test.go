package webui

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

func point(step int64, values map[string]float64) v1.MetricPoint {
	return v1.MetricPoint{Step: step, Values: values}
}

func TestARepeatedStepCountsAsTheLaterAttemptSaw(t *testing.T) {
	p := curves([]v1.MetricPoint{
		point(1, map[string]float64{"loss": 3}), point(2, map[string]float64{"loss": 2.5, "lr": 0.1}), point(2, map[string]float64{"loss": 2.4}), point(3, map[string]float64{"lr": 0.2}),
	}, true)
	content, err := json.Marshal(p)
	want := `{"axis":"step","style":"line","live":true,"x":[1,2,3],"series":[{"name":"loss","values":[3,2.4,null]},{"name":"lr","values":[null,0.1,0.2]}]}`
	if err != nil || string(content) != want {
		t.Errorf("%s, %v\nwant %s", content, err, want)
	}
}

func TestCurvesAscendAndAlwaysEncode(t *testing.T) {
	values := rapid.MapOfN(rapid.SampledFrom([]string{"loss", "val_loss", "acc", "a", "b", "c", "d", "e", "f", "g"}), rapid.Float64(), 0, 10)
	rapid.Check(t, func(r *rapid.T) {
		var points []v1.MetricPoint
		for range rapid.IntRange(0, 20).Draw(r, "n") {
			point := point(rapid.Int64Range(-3, 10).Draw(r, "step"), values.Draw(r, "values"))
			if rapid.Bool().Draw(r, "odd") {
				point.Values["loss"] = rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}).Draw(r, "loss")
			}
			points = append(points, point)
		}
		p := curves(points, false)
		if _, err := json.Marshal(p); err != nil {
			r.Fatal(err)
		}
		if !slices.IsSorted(p.X) || len(slices.Compact(slices.Clone(p.X))) != len(p.X) {
			r.Fatalf("x is %v", p.X)
		}
		if len(p.Series) > maxSeries {
			r.Fatalf("%d series", len(p.Series))
		}
		for i, s := range p.Series {
			if len(s.Values) != len(p.X) || s.Name == "loss" && i != 0 {
				r.Fatalf("series %d is %+v", i, s)
			}
			if line := p.line(i); strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
				r.Fatalf("line %s", line)
			}
		}
	})
}

func TestThePlainPlotFillsItsBox(t *testing.T) {
	p := curves([]v1.MetricPoint{point(10, map[string]float64{"x": 4}), point(20, map[string]float64{"x": 1}), point(30, map[string]float64{"x": 2.5})}, false)
	if got, want := p.line(0), "0.0,0.0 300.0,120.0 600.0,60.0"; got != want {
		t.Errorf("line is %s, want %s", got, want)
	}
}

func TestOpenRequestsAreNotPlotted(t *testing.T) {
	at := time.Unix(1000, 500e6)
	p := latencies([]store.Request{{ID: "open"}, {ID: "b", Ended: at.Add(time.Second), TTFT: 20 * time.Millisecond, CompletionTokens: 5}, {ID: "a", Ended: at}}, false)
	if diff := cmp.Diff([]float64{1000.5, 1001.5}, p.X); diff != "" {
		t.Error(diff)
	}
	if p.Series[0].Values[0] != nil || *p.Series[0].Values[1] != 20 || *p.Series[1].Values[1] != 5 {
		t.Errorf("series are %+v", p.Series)
	}
}

func TestQuantilesAreNearestRank(t *testing.T) {
	var requests []store.Request
	for i := range 100 {
		requests = append(requests, store.Request{Ended: time.Unix(1, 0), TTFT: time.Duration(100-i) * time.Millisecond, Outcome: "ok"})
	}
	s := summarise(requests)[0]
	for hundredths, want := range map[int]string{50: "50", 95: "95", 99: "99", 100: "100", 1: "1"} {
		if got := s.quantile(hundredths); got != want {
			t.Errorf("p%d is %s, want %s", hundredths, got, want)
		}
	}
	if got := (summary{}).quantile(50); got != "–" {
		t.Errorf("p50 of nothing is %s", got)
	}
}
