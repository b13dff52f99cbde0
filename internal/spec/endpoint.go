package spec

import (
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

func (c *checker) endpoint(s *v1.EndpointSpec) {
	if ref := c.reference("spec.model", s.Model); ref.Name != "" && ref.Alias == "" && ref.Digest == "" {
		c.fault("spec.model", "write for instance "+ref.Name+"@production", "%s doesn't say which version is served", ref.Name)
	}
	defaulted(c, "spec.replicas", &s.Replicas, 1)
	between(c, "spec.replicas", s.Replicas, 1, 1000)
	c.standardNeeds("spec.resources", &s.Resources)
	between(c, "spec.priority", s.Priority, -maxPriority, maxPriority)
	atLeast(c, "spec.objective.ttft", time.Duration(s.Objective.TTFT), 0)
	c.runtime(s.Runtime)
}

func (c *checker) runtime(r v1.Runtime) {
	between(c, "spec.runtime.context", r.Context, 0, 1<<24)
	if r.File != "" || c.given("spec.runtime.file") {
		c.inside("spec.runtime.file", r.File)
	}
	switch {
	case r.Name == "command":
		c.command("spec.runtime.command", r.Command)
	case r.Name != "" && len(r.Command) > 0:
		c.fault("spec.runtime.command", "write name: command", "the runtime %s has a program of its own", r.Name)
	}
}
