package webui

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// plots are the series of a page over one axis, as app.js reads them.
type plots struct {
	// Axis is "step", or "time" for seconds since 1970 in UTC.
	Axis string `json:"axis"`
	// Style is "line" or "points".
	Style string `json:"style"`
	// Live says that there will be more.
	Live   bool      `json:"live"`
	X      []float64 `json:"x"` // ascending
	Series []series  `json:"series"`
}

// series is one plot. Values are as many as X, null where there is none.
type series struct {
	Name   string     `json:"name"`
	Values []*float64 `json:"values"`
}

// Bounds of what is plotted; more would not be looked at.
const (
	maxPoints = 2000
	maxSeries = 8
)

// curves puts metric points in order of step. An attempt that went on from a
// checkpoint reports some steps again: the newer value counts.
func curves(points []v1.MetricPoint, live bool) plots {
	p := plots{Axis: "step", Style: "line", Live: live, X: []float64{}, Series: []series{}}
	values, names := map[int64]map[string]float64{}, map[string]bool{}
	for _, point := range points {
		if values[point.Step] == nil {
			values[point.Step] = map[string]float64{}
		}
		maps.Copy(values[point.Step], point.Values)
		for name := range point.Values {
			names[name] = true
		}
	}
	steps := slices.Sorted(maps.Keys(values))
	for _, step := range steps {
		p.X = append(p.X, float64(step))
	}
	for _, name := range lossFirst(names) {
		s := series{Name: name, Values: make([]*float64, len(steps))}
		for i, step := range steps {
			if x, ok := values[step][name]; ok && !math.IsNaN(x) && !math.IsInf(x, 0) {
				s.Values[i] = &x
			}
		}
		p.Series = append(p.Series, s)
	}
	return p
}

// lossFirst orders the names of metrics: what a reader looks for comes first.
func lossFirst(names map[string]bool) []string {
	rank := func(name string) int {
		switch {
		case name == "loss":
			return 0
		case strings.Contains(name, "loss"):
			return 1
		}
		return 2
	}
	sorted := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return sorted[:min(len(sorted), maxSeries)]
}

// latencies are the times to first token and the tokens of settled requests.
func latencies(requests []store.Request, live bool) plots {
	p := plots{Axis: "time", Style: "points", Live: live, X: []float64{}}
	ttft, tokens := series{Name: "time to first token, ms"}, series{Name: "completion tokens"}
	settled := slices.DeleteFunc(slices.Clone(requests), func(r store.Request) bool { return r.Ended.IsZero() })
	if len(settled) == 0 {
		p.Series = []series{}
		return p
	}
	slices.SortFunc(settled, func(a, b store.Request) int { return a.Ended.Compare(b.Ended) })
	for _, r := range settled {
		p.X = append(p.X, float64(r.Ended.UnixMilli())/1000)
		var ms *float64
		if r.TTFT > 0 {
			x := float64(r.TTFT) / float64(time.Millisecond)
			ms = &x
		}
		n := float64(r.CompletionTokens)
		ttft.Values, tokens.Values = append(ttft.Values, ms), append(tokens.Values, &n)
	}
	p.Series = []series{ttft, tokens}
	return p
}

// last is the newest value, for the caption.
func (s series) last() string {
	for _, v := range slices.Backward(s.Values) {
		if v != nil {
			return number(*v)
		}
	}
	return "–"
}

// Size of the plot that needs no script, in its own units.
const plainWidth, plainHeight = 600, 120

// line is the SVG polyline of the i-th series, scaled to fill the plain plot.
func (p plots) line(i int) string {
	lowX, highX := limits(p.X)
	var known []float64
	for _, v := range p.Series[i].Values {
		if v != nil {
			known = append(known, *v)
		}
	}
	lowY, highY := limits(known)
	var b strings.Builder
	for j, v := range p.Series[i].Values {
		if v != nil {
			fmt.Fprintf(&b, "%.1f,%.1f ", scale(p.X[j], lowX, highX)*plainWidth, (1-scale(*v, lowY, highY))*plainHeight)
		}
	}
	return strings.TrimSpace(b.String())
}

func limits(values []float64) (low, high float64) {
	if len(values) == 0 {
		return 0, 0
	}
	return slices.Min(values), slices.Max(values)
}

// scale is where x lies from low (0) to high (1), and in the middle where those
// are the same.
func scale(x, low, high float64) float64 {
	half := high/2 - low/2 // the whole may be more than a float holds
	if half <= 0 {
		return 0.5
	}
	return (x/2 - low/2) / half
}

// data serves plots as JSON, behind a session.
func (s *site) data(build func(visit) (plots, error)) http.Handler {
	return s.session(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visit{r, principal(r.Context()), time.Now().UTC()}
		p, err := build(v)
		if err != nil {
			s.refuse(w, v, err)
			return
		}
		content, err := json.Marshal(p)
		if err != nil {
			s.refuse(w, v, fmt.Errorf("encode plots: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(content) // the reader is gone if this fails
	}))
}

// jobPlots are the curves of a job's metrics.
func (s *site) jobPlots(v visit) (p plots, err error) {
	err = s.Store.View(v.Context(), func(tx store.Tx) error {
		job, err := get[v1.JobSpec, v1.JobStatus](v, tx, v.ref(penstock.KindJob))
		if err != nil {
			return err
		}
		points, err := tx.Metrics(job.Metadata.UID, maxPoints)
		p = curves(points, !job.Metadata.Phase.Final())
		return err
	})
	return p, err
}

// endpointPlots are the latencies of an endpoint's last requests.
func (s *site) endpointPlots(v visit) (p plots, err error) {
	err = s.Store.View(v.Context(), func(tx store.Tx) error {
		e, err := get[v1.EndpointSpec, v1.EndpointStatus](v, tx, v.ref(penstock.KindEndpoint))
		if err != nil {
			return err
		}
		requests, err := tx.Requests(store.RequestQuery{Endpoint: e.Metadata.UID, Limit: maxRequests})
		p = latencies(requests, !e.Metadata.Phase.Final())
		return err
	})
	return p, err
}
