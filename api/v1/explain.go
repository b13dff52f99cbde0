package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Explanation says why an object is where it is, and what would move it.
type Explanation struct {
	Ref     penstock.Ref      `json:"ref"`
	Phase   penstock.Phase    `json:"phase"`
	Since   time.Time         `json:"since"`
	Wants   string            `json:"wants,omitempty"`
	Reasons []penstock.Reason `json:"reasons,omitempty"`
	// Holders are those who hold what the object waits for.
	Holders []Holder `json:"holders,omitempty"`
	// Fixes were each tried on a copy of the present state: it would start.
	Fixes []Fix `json:"fixes,omitempty"`
	// Placed says, for placed work, where it is and why there.
	Placed string  `json:"placed,omitempty"`
	Events []Event `json:"events,omitempty"`
}

// Holder is a job that holds what another waits for.
type Holder struct {
	Job   penstock.Ref       `json:"job"`
	Holds penstock.Resources `json:"holds"`
	Since time.Time          `json:"since"`
	// Until is when its deadline ends it at the latest; zero is unknown.
	Until time.Time `json:"until,omitzero"`
}

// Fix is a change that would start the job now.
type Fix struct {
	Command string `json:"command"`
	Effect  string `json:"effect"`
}

// Event is one thing that happened to an object, for people.
type Event struct {
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
}

// ApplyResult is what applying one manifest did, or would do.
type ApplyResult struct {
	Ref    penstock.Ref `json:"ref"`
	Action string       `json:"action" enum:"created,changed,unchanged"`
	// Diff lists the changed fields of the spec and labels.
	Diff   []FieldChange `json:"diff,omitempty"`
	Object Object        `json:"object"`
}

// FieldChange is one changed field. From or To is empty where it came or went.
type FieldChange struct {
	Path string `json:"path"` // spec.tasks[0].replicas
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Retirement is what deleting an object removed, and what it kept and why.
type Retirement struct {
	Ref     penstock.Ref   `json:"ref"`
	Deleted []penstock.Ref `json:"deleted,omitempty"`
	Kept    []Kept         `json:"kept,omitempty"`
	// Waiting is what must end first; the rest goes on by itself.
	Waiting []penstock.Ref `json:"waiting,omitempty"`
}

// Kept is an object that outlives its deletion, as evidence.
type Kept struct {
	Ref penstock.Ref `json:"ref"`
	Why string       `json:"why"`
}
