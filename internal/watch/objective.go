package watch

import (
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Health is how an endpoint keeps its objective.
type Health struct {
	Requests int
	// P95 is the time to first token that 95 of 100 requests were within: one
	// that was measured (nearest rank), not one in between. 0 without requests.
	P95 time.Duration
	// Missed says that the objective isn't kept, and by how much.
	Missed []penstock.Reason
}

// fewest is how many requests a p95 needs: with less it is the slowest one.
const fewest = 20

// Objective holds the times to first token of answered requests against an
// objective. Without an objective, or with fewer than 20 requests, nothing is
// missed.
func Objective(o v1.Objective, ttft []time.Duration) Health {
	h := Health{Requests: len(ttft)}
	if len(ttft) == 0 {
		return h
	}
	sorted := slices.Sorted(slices.Values(ttft))
	h.P95 = sorted[(95*len(sorted)+99)/100-1]
	limit := time.Duration(o.TTFT)
	if limit <= 0 || len(sorted) < fewest || h.P95 <= limit {
		return h
	}
	over := len(sorted) - countWithin(sorted, limit)
	h.Missed = []penstock.Reason{
		penstock.Because(penstock.ObjectiveMissed, penstock.Change,
			"time to first token is %s at p95, the objective is %s: %d of %d requests were slower",
			h.P95.Round(time.Microsecond), limit, over, len(sorted)).
			With("p95_us", h.P95.Microseconds()).With("objective_us", limit.Microseconds()).
			With("slower", int64(over)).With("requests", int64(len(sorted))),
	}
	return h
}

func countWithin(sorted []time.Duration, limit time.Duration) int {
	n, _ := slices.BinarySearch(sorted, limit+1)
	return n
}
