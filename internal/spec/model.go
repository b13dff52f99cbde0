package spec

import (
	"math"

	v1 "github.com/penstock/penstock/api/v1"
)

func (c *checker) model(s *v1.ModelSpec) {
	if len(s.Description) > 4096 {
		c.fault("spec.description", "", "has %d bytes, more than 4096", len(s.Description))
	}
	for _, alias := range sortedKeys(s.Gates) {
		path, gate := under("spec.gates", alias), s.Gates[alias]
		c.name(path, alias)
		between(c, path+".approvals", gate.Approvals, 0, 100)
		metrics := seen{}
		for i, b := range gate.Metrics {
			c.bound(at(path+".metrics", i), b)
			metrics.add(c, at(path+".metrics", i)+".metric", b.Metric)
		}
	}
}

func (c *checker) bound(path string, b v1.Bound) {
	c.text(path+".metric", b.Metric, 1, 255)
	low, high := math.Inf(-1), math.Inf(1)
	if b.Min != nil {
		low = *b.Min
	}
	if b.Max != nil {
		high = *b.Max
	}
	switch {
	case b.Min == nil && b.Max == nil:
		c.fault(path, "give max, min or both", "bounds nothing")
	case low > high:
		c.fault(path+".min", "", "is %v, more than max, %v: nothing could pass", low, high)
	}
}
