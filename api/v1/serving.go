package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Endpoint is a served model.
type Endpoint = Resource[EndpointSpec, EndpointStatus]

// EndpointSpec declares what is served, by what, and for whom.
type EndpointSpec struct {
	// Model is name@alias or name@digest. An alias is followed when it moves.
	Model   string  `json:"model"`
	Runtime Runtime `json:"runtime"`
	// Replicas is how many copies run. Default 1.
	Replicas  int                `json:"replicas,omitempty"`
	Resources penstock.Resources `json:"resources,omitempty"` // what each copy takes
	Priority  int                `json:"priority,omitempty"`  // as a job's
	Objective Objective          `json:"objective,omitzero"`
}

// Runtime is the program that serves.
type Runtime struct {
	// Name is "llama" (penstock-llama) or "command".
	Name string `json:"name" enum:"llama,command"`
	// File is the model file that is loaded, relative to the version; empty is
	// the only *.gguf.
	File string `json:"file,omitempty"`
	// Context is the number of tokens of context; 0 is the model's own.
	Context int `json:"context,omitempty"`
	// Command is an OpenAI-compatible server, for the runtime "command". It
	// listens on PENSTOCK_PORT and answers GET /health with 200 when ready.
	Command []string `json:"command,omitempty"`
}

// Objective is what the endpoint should keep.
type Objective struct {
	TTFT Duration `json:"ttft,omitzero"` // time to first token
}

// EndpointStatus is what serves now.
type EndpointStatus struct {
	Version    penstock.Digest   `json:"version,omitempty"`
	Job        string            `json:"job,omitempty"`
	Replicas   []Replica         `json:"replicas,omitempty"`
	Reasons    []penstock.Reason `json:"reasons,omitempty"`
	Conditions []Condition       `json:"conditions,omitempty"`
}

// Replica is one running copy.
type Replica struct {
	Rank    int             `json:"rank"`
	Address string          `json:"address,omitempty"`
	Ready   bool            `json:"ready"`
	Version penstock.Digest `json:"version,omitempty"`
}

// Monitor watches an endpoint for drift.
type Monitor = Resource[MonitorSpec, MonitorStatus]

// MonitorSpec declares what is watched and when it counts as drifted.
type MonitorSpec struct {
	Endpoint string   `json:"endpoint"` // of the same project
	Signals  []Signal `json:"signals"`  // one at least
	// Window is how many requests are compared at a time, the newest ones.
	// Default 100.
	Window int `json:"window,omitempty"`
	// ReferenceSize is how many of the first requests make the reference, where
	// a signal gives no Reference of its own. Default Window.
	ReferenceSize int `json:"referenceSize,omitempty"`
}

// Signal is one number of each request.
type Signal struct {
	// Name is "prompt_tokens", "completion_tokens" or "ttft_ms".
	Name string `json:"name"`
	// Bins are the upper edges of the bins, ascending; a last bin holds what
	// is above. Empty takes ten quantile bins of the reference, then fixed.
	Bins []float64 `json:"bins,omitempty"`
	// Reference is the number of requests in each bin (one more than Bins).
	Reference []int64 `json:"reference,omitempty"`
	// Threshold is the PSI from which the signal has drifted. Default 0.25.
	Threshold float64 `json:"threshold,omitempty"`
}

// MonitorStatus is the state of each signal and the open alert.
type MonitorStatus struct {
	Signals []SignalStatus `json:"signals,omitempty"`
	Alert   *Alert         `json:"alert,omitempty"`
	// Alerts counts alerts raised so far; each has a number from 1.
	Alerts int `json:"alerts,omitempty"`
	Seen   int `json:"seen,omitempty"` // requests looked at
}

// SignalStatus is one signal's reference and its newest comparison.
type SignalStatus struct {
	Name      string    `json:"name"`
	Bins      []float64 `json:"bins,omitempty"`
	Reference []int64   `json:"reference,omitempty"`
	Current   []int64   `json:"current,omitempty"`
	PSI       float64   `json:"psi"`
	Threshold float64   `json:"threshold"`
	Drifted   bool      `json:"drifted"`
}

// Alert is raised once when a monitor passes into drift.
type Alert struct {
	Number int             `json:"number"`
	Reason penstock.Reason `json:"reason"`
	At     time.Time       `json:"at"`
}

// Pipeline starts jobs when something happens.
type Pipeline = Resource[PipelineSpec, PipelineStatus]

// PipelineSpec declares the triggers and the steps.
type PipelineSpec struct {
	Triggers []Trigger `json:"triggers"`
	// Steps run one after the other, each when the one before succeeded.
	Steps []Step `json:"steps"`
}

// Trigger is one cause. Exactly one field is given.
type Trigger struct {
	Monitor string   `json:"monitor,omitempty"` // an alert of this monitor
	Dataset string   `json:"dataset,omitempty"` // a new version of this dataset
	Every   Duration `json:"every,omitzero"`    // that much time since the last start
}

// Step is a job to start. It gets the name <pipeline>-<run>-<step>.
type Step struct {
	Name string  `json:"name"` // unique in the pipeline
	Job  JobSpec `json:"job"`
}

// PipelineStatus counts the runs.
type PipelineStatus struct {
	Runs []PipelineRun `json:"runs,omitempty"` // newest last, 20 at most
	Next int           `json:"next,omitempty"` // number of the next run
	// Seen is the last alert number or version that each trigger acted on.
	Seen map[string]string `json:"seen,omitempty"`
}

// PipelineRun is one run and what started it.
type PipelineRun struct {
	Number  int       `json:"number"`
	Trigger string    `json:"trigger"`
	Jobs    []string  `json:"jobs"`
	At      time.Time `json:"at"`
	Done    bool      `json:"done,omitempty"`
}
