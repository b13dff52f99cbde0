package spec

import (
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// maxDevices bounds the accelerators of one machine.
const maxDevices = 1024

func (c *checker) pool(s *v1.PoolSpec) {
	c.name("spec.executor", s.Executor) // whether there is such a one, the server knows
	defaulted(c, "spec.market", &s.Market, "owned")
	c.text("spec.provider", s.Provider, 0, 63)
	c.text("spec.region", s.Region, 0, 63)
	c.text("spec.jurisdiction", s.Jurisdiction, 0, 63)
	for _, r := range sortedKeys(s.Prices) {
		path := under("spec.prices", string(r))
		if c.resource(path, r) && s.Prices[r] < 0 {
			c.fault(path, "leave it out if it isn't known", "must be 0 or more, not %s", s.Prices[r])
		}
	}
	if len(s.Nodes) > maxTasks {
		c.fault("spec.nodes", "", "has %d nodes, more than %d", len(s.Nodes), maxTasks)
	}
	names := seen{}
	for i := range s.Nodes {
		path, n := at("spec.nodes", i), &s.Nodes[i]
		if !hostForm.MatchString(n.Name) {
			c.fault(path+".name", "write a host name in lower case", "%.80q can't be the name of a machine", n.Name)
		}
		names.add(c, path+".name", n.Name)
		if len(n.Capacity) == 0 {
			c.fault(path+".capacity", "write for instance {cpu: 64, memory: 512Gi, h100: 8}", "must not be empty")
		}
		c.needs(path+".capacity", n.Capacity)
		c.devices(path, n)
	}
}

// devices makes a node's list of devices and its capacity say the same: what
// one leaves out is taken from the other, and they may not differ.
func (c *checker) devices(path string, n *v1.Node) {
	ids, count := seen{}, penstock.Resources{}
	for i, d := range n.Devices {
		inner := at(path+".devices", i)
		if !deviceForm.MatchString(d.ID) {
			c.fault(inner+".id", "", "%.80q can't be the id of a device", d.ID)
		}
		ids.add(c, inner+".id", d.ID)
		if c.resource(inner+".type", d.Type) && !d.Type.Accelerator() {
			c.fault(inner+".type", "put it under capacity", "%s is not a type of accelerator", d.Type)
		}
		if d.Memory < 0 {
			c.fault(inner+".memoryBytes", "", "must be 0 or more, not %d", d.Memory)
		}
		count[d.Type] += 1000
	}
	for _, r := range n.Capacity.Names() {
		inner, has := under(path+".capacity", string(r)), n.Capacity[r]
		switch {
		case !r.Accelerator():
		case has%1000 != 0 || has > maxDevices*1000:
			c.fault(inner, "", "must be a whole number of devices, %d at most, not %s", maxDevices, r.Format(has))
		case count[r] == 0:
			for i := range int(has / 1000) {
				id := fmt.Sprintf("%s-%d", r, i)
				ids.add(c, inner, id)
				n.Devices = append(n.Devices, v1.Device{ID: id, Type: r})
			}
		case count[r] != has:
			c.fault(inner, "leave it out: it is counted", "is %s, but %s are listed under devices", r.Format(has), r.Format(count[r]))
		}
	}
	for r, a := range count {
		if n.Capacity != nil && r.Accelerator() {
			n.Capacity[r] = a
		}
	}
}
