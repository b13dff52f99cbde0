package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Project is a tenant: who works in it, what it may use and who pays.
type Project = Resource[ProjectSpec, ProjectStatus]

// ProjectSpec declares a tenant.
type ProjectSpec struct {
	Owner       string   `json:"owner"`                 // who answers for the project
	CostCentre  string   `json:"costCentre"`            // who pays
	Environment string   `json:"environment,omitempty"` // the FinOps label: research, production, …
	Team        string   `json:"team,omitempty"`        // the FinOps label
	Members     []Member `json:"members,omitempty"`
	Quota       Quota    `json:"quota,omitzero"`
	Budget      *Budget  `json:"budget,omitempty"`
	// Retention is how long finished work is kept for looking at; 0 keeps it.
	Retention Duration  `json:"retention,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // from then on no new work starts
}

// Member is a person or a program with a role in the project.
type Member struct {
	Subject string        `json:"subject"` // as the token names it
	Role    penstock.Role `json:"role" enum:"viewer,developer,approver,operator,admin"`
}

// Quota bounds what a project holds at one moment. Nominal is its own; Borrow
// is how much more it may take while it stands idle elsewhere; a resource that
// Nominal doesn't list is not limited.
type Quota struct {
	Nominal penstock.Resources `json:"nominal,omitempty"` // its own
	Borrow  penstock.Resources `json:"borrow,omitempty"`  // on top of it, while others leave it idle
}

// Budget bounds what a project spends in a calendar month (UTC).
type Budget struct {
	Monthly penstock.Money `json:"monthly"` // more than 0
	// AtLimit is what happens to new work once the month's cost has reached
	// the budget: "warn" lets it start, "stop" lets it wait.
	AtLimit string `json:"atLimit,omitempty" enum:"warn,stop"`
}

// ProjectStatus is what is known of a project. What it holds and has spent is
// asked of the cost report, which is exact at any moment.
type ProjectStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Pool is capacity of one kind in one place.
type Pool = Resource[PoolSpec, PoolStatus]

// PoolSpec declares capacity, or where to discover it.
type PoolSpec struct {
	// Executor runs the pool's work: "local" for this machine, or the name that
	// the server's settings give to a cluster.
	Executor     string `json:"executor"`
	Provider     string `json:"provider,omitempty"`                                         // who bills for it
	Region       string `json:"region,omitempty"`                                           // where it stands
	Jurisdiction string `json:"jurisdiction,omitempty"`                                     // whose law holds there
	Market       string `json:"market,omitempty" enum:"owned,reserved,on-demand,spot,edge"` // how it was bought
	// Prices is the price of one unit of each resource for one hour: of a CPU,
	// of a GiB of memory, of a device. An unlisted resource has no known price,
	// which is not a price of 0.
	Prices map[penstock.Resource]penstock.Money `json:"prices,omitempty"`
	// Nodes declares the machines. An executor that can discover them does so
	// where the list is empty.
	Nodes []Node `json:"nodes,omitempty"`
}

// Node is one machine: its capacity, and its accelerators one by one.
type Node struct {
	Name     string             `json:"name"`              // the host name
	Capacity penstock.Resources `json:"capacity"`          // accelerators are counted from Devices, or make Devices where there are none
	Devices  []Device           `json:"devices,omitempty"` // one for each accelerator
	// Labels are what the engine says of the machine: its topology, at any level,
	// and its features.
	Labels map[string]string `json:"labels,omitempty"`
	// Others is what work that isn't Penstock's holds of the machine; Capacity is
	// without it.
	Others penstock.Resources `json:"others,omitempty"`
	// Unavailable says why nothing new may start here: it is cordoned, not ready,
	// or tainted. What runs goes on.
	Unavailable string `json:"unavailable,omitempty"`
}

// Device is one accelerator. ID is what the runtime knows it by.
type Device struct {
	ID     string            `json:"id"`   // such as GPU-0a1b or 0
	Type   penstock.Resource `json:"type"` // such as h100
	Memory int64             `json:"memoryBytes,omitempty"`
}

// PoolStatus is what was found.
type PoolStatus struct {
	Nodes      []Node             `json:"nodes,omitempty"`
	Capacity   penstock.Resources `json:"capacity,omitempty"`
	Conditions []Condition        `json:"conditions,omitempty"`
	ObservedAt time.Time          `json:"observedAt,omitzero"`
}

// Secret is a named set of values handed to jobs. Values travel in, never out:
// the server seals them and answers with the keys alone.
type Secret = Resource[SecretSpec, SecretStatus]

// SecretSpec declares the values. In answers the values are empty.
type SecretSpec struct {
	Values map[string]string `json:"values"` // by key, which becomes the name of a file
}

// SecretStatus names the keys that are set. Sealed is the ciphertext in the
// store; the API leaves it out.
type SecretStatus struct {
	Keys   []string `json:"keys,omitempty"`
	Sealed []byte   `json:"sealed,omitempty"`
}
