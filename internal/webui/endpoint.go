package webui

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Bounds of what an endpoint's page looks back at.
const (
	maxRequests  = 500
	shownRequest = 20
)

// endpointView is one endpoint and its last requests.
type endpointView struct {
	now         time.Time
	endpoint    v1.Endpoint
	model       penstock.Ref
	requests    []store.Request // the newest first
	summary     []summary
	plots       plots
	explanation v1.Explanation
}

// summary adds up the settled requests that one version answered.
type summary struct {
	version          penstock.Digest
	requests         int
	outcomes         map[string]int
	prompt, complete int64
	ttft             []time.Duration // of those that had a first token, ascending
}

func (s *site) endpoint(v visit) (content, error) {
	e := endpointView{now: v.now}
	ref := v.ref(penstock.KindEndpoint)
	err := s.Store.View(v.Context(), func(tx store.Tx) (err error) {
		if e.endpoint, err = get[v1.EndpointSpec, v1.EndpointStatus](v, tx, ref); err != nil {
			return err
		}
		e.requests, err = tx.Requests(store.RequestQuery{Endpoint: e.endpoint.Metadata.UID, Limit: maxRequests})
		return err
	})
	if err != nil {
		return content{}, err
	}
	name, _, _ := strings.Cut(e.endpoint.Spec.Model, "@")
	e.model = penstock.Ref{Kind: penstock.KindModel, Project: ref.Project, Name: name}
	e.summary, e.plots = summarise(e.requests), latencies(e.requests, !e.endpoint.Metadata.Phase.Final())
	e.explanation, err = s.Control.Explain(v.Context(), ref)
	return content{ref.Name, true, endpointPage(e)}, err
}

// summarise adds up requests by version; the version with the newest request
// comes first.
func summarise(requests []store.Request) []summary {
	var out []summary
	for _, r := range requests {
		if r.Ended.IsZero() {
			continue
		}
		i := slices.IndexFunc(out, func(s summary) bool { return s.version == r.Version })
		if i < 0 {
			out, i = append(out, summary{version: r.Version, outcomes: map[string]int{}}), len(out)
		}
		s := &out[i]
		s.requests++
		s.outcomes[r.Outcome]++
		s.prompt += r.PromptTokens
		s.complete += r.CompletionTokens
		if r.TTFT > 0 {
			s.ttft = append(s.ttft, r.TTFT)
		}
	}
	for _, s := range out {
		slices.Sort(s.ttft)
	}
	return out
}

// quantile is the time that hundredths of the requests didn't take longer than
// (nearest rank), or – without any.
func (s summary) quantile(hundredths int) string {
	if len(s.ttft) == 0 {
		return "–"
	}
	rank := (len(s.ttft)*hundredths + 99) / 100
	return milliseconds(s.ttft[max(rank, 1)-1])
}

// failures are the requests that weren't answered in full, by outcome.
func (s summary) failures() string {
	rest := maps.Clone(s.outcomes)
	delete(rest, "ok")
	return cmp.Or(pairs(rest, func(n int) string { return count(int64(n)) }), "–")
}

func milliseconds(d time.Duration) string {
	return number(float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond))
}

// took is a time in milliseconds, or – for what has not come yet.
func took(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return milliseconds(d)
}
