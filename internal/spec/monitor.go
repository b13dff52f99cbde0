package spec

import (
	"math"
	"slices"

	v1 "github.com/penstock/penstock/api/v1"
)

// What a monitor does that says nothing. A PSI of 0.25 is the usual bound from
// which a population counts as changed (Siddiqi, Credit Risk Scorecards, 2006).
const (
	standardWindow    = 100
	standardThreshold = 0.25
	maxWindow         = 1_000_000
	maxBins           = 1000
)

func (c *checker) monitor(s *v1.MonitorSpec) {
	c.name("spec.endpoint", s.Endpoint)
	defaulted(c, "spec.window", &s.Window, standardWindow)
	between(c, "spec.window", s.Window, 1, maxWindow)
	defaulted(c, "spec.referenceSize", &s.ReferenceSize, max(1, s.Window))
	between(c, "spec.referenceSize", s.ReferenceSize, 1, maxWindow)
	if len(s.Signals) == 0 {
		c.fault("spec.signals", "give one at least, such as {name: ttft_ms}", "must not be empty")
	}
	names := seen{}
	for i := range s.Signals {
		c.signal(at("spec.signals", i), &s.Signals[i])
		names.add(c, at("spec.signals", i)+".name", s.Signals[i].Name)
	}
}

func (c *checker) signal(path string, s *v1.Signal) {
	if known := []string{"prompt_tokens", "completion_tokens", "ttft_ms"}; !slices.Contains(known, s.Name) {
		c.fault(path+".name", suggest(s.Name, known), "%.60q is not a signal", s.Name)
	}
	defaulted(c, path+".threshold", &s.Threshold, standardThreshold)
	if s.Threshold <= 0 {
		c.fault(path+".threshold", "", "must be more than 0, not %v", s.Threshold)
	}
	if len(s.Bins) > maxBins {
		c.fault(path+".bins", "", "has %d edges, more than %d", len(s.Bins), maxBins)
	}
	for i := 1; i < len(s.Bins); i++ {
		if s.Bins[i] <= s.Bins[i-1] {
			c.fault(at(path+".bins", i), "write the upper edges in ascending order", "%v isn't above the edge before, %v", s.Bins[i], s.Bins[i-1])
		}
	}
	c.histogram(path+".reference", s)
}

func (c *checker) histogram(path string, s *v1.Signal) {
	if len(s.Reference) == 0 {
		return
	}
	if want := len(s.Bins) + 1; len(s.Bins) == 0 || len(s.Reference) != want {
		c.fault(path, "give one number for each bin, and one for what is above the last edge", "has %d numbers, but %d edges make %d bins", len(s.Reference), len(s.Bins), want)
	}
	var sum int64
	for i, n := range s.Reference {
		between(c, at(path, i), n, 0, math.MaxInt32)
		sum += min(max(n, 0), math.MaxInt32)
	}
	if sum == 0 {
		c.fault(path, "", "holds no request")
	}
}
