package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Order is all that an agent needs to run one task. It holds secrets and the
// attempt's token, so it travels in a file that only the agent's user can read
// or over TLS, never in arguments or the environment.
//
// An agent on another machine asks for it: GET /v1/agent/orders/{rank}?run=ID
// with the attempt's token. ID is of the agent's own choice; the first one that
// asks for a rank is the only one that ever gets it, all others are answered
// with code "fenced": a task runs once, whatever the engine starts again.
type Order struct {
	Server Contact `json:"server"`

	Project    string       `json:"project"`
	Job        string       `json:"job"`
	JobUID     penstock.UID `json:"jobUid"`
	Attempt    penstock.UID `json:"attempt"`
	Number     int          `json:"number"` // the attempt's number: the fencing epoch
	Set        string       `json:"set"`
	Index      int          `json:"index"`
	Rank       int          `json:"rank"`
	LocalRank  int          `json:"localRank"`
	WorldSize  int          `json:"worldSize"`
	Node       string       `json:"node"`
	MasterAddr string       `json:"masterAddr"` // set by the executor
	MasterPort int          `json:"masterPort"` // set by the executor

	Command []string          `json:"command"`
	Env     map[string]string `json:"env,omitempty"`
	// Image is the container image to run in, where the task names one.
	Image string `json:"image,omitempty"`
	// Labels are the attempt's, for an engine's own accounting.
	Labels map[string]string `json:"labels,omitempty"`
	// Code stands, writable, in the folder in which the command starts.
	Code       *Code                        `json:"code,omitempty"`
	Parameters map[string]string            `json:"parameters,omitempty"`
	Secrets    map[string]map[string]string `json:"secrets,omitempty"` // secret name, key, value

	Data   []Staged `json:"data,omitempty"`
	Models []Staged `json:"models,omitempty"`
	Feed   *Feed    `json:"feed,omitempty"` // of the Data of that name
	// Restore is the checkpoint that must stand in PENSTOCK_CHECKPOINTS before
	// the command starts. Every rank gets it.
	Restore *Checkpoint `json:"restore,omitempty"`
	// Checkpoints makes the agent store the steps that this task writes. The
	// control plane sets it for rank 0 only.
	Checkpoints bool     `json:"checkpoints,omitempty"`
	Outputs     []string `json:"outputs,omitempty"`
	Serve       *Serve   `json:"serve,omitempty"`

	Resources penstock.Resources `json:"resources,omitempty"`
	Devices   []string           `json:"devices,omitempty"`
	Grace     Duration           `json:"grace,omitzero"`
	// Deadline is how long the attempt may run; 0 is no bound. The control plane
	// holds it; an engine that wants a time limit gets a little more.
	Deadline Duration `json:"deadline,omitzero"`
}

// Contact is how an agent reaches the server. AddressFile, where given, holds
// the server's current URL and is read again after each failed call, since a
// restarted server may listen on another port.
type Contact struct {
	URL         string `json:"url,omitempty"`
	AddressFile string `json:"addressFile,omitempty"`
	// CA holds the PEM certificates that the server's is checked against, where
	// those of the machine don't do.
	CA    string `json:"ca,omitempty"`
	Token string `json:"token"`
}

// Staged is a set of files that an agent lays out, read-only, under Name.
type Staged struct {
	Name   string          `json:"name"`
	Digest penstock.Digest `json:"digest"`
	Files  []File          `json:"files"`
}

// Reports is what an agent sends: POST /v1/agent/reports with the attempt's
// token. The server takes each Seq once, in order, and answers with the last
// one that it has. A report of an attempt that is no longer the job's newest
// is answered with code "fenced": the agent then kills its task and leaves.
type Reports struct {
	Reports []Report `json:"reports"`
}

// ReportsAnswer tells the agent what was taken.
type ReportsAnswer struct {
	Taken int64 `json:"taken"`
}

// Report is one thing that happened to a task. Exactly one of the pointers is
// set, or none for a heartbeat.
type Report struct {
	Seq  int64     `json:"seq"` // from 1, without gaps
	Rank int       `json:"rank"`
	At   time.Time `json:"at"`

	Started    *Started      `json:"started,omitempty"`
	Ready      *Ready        `json:"ready,omitempty"`
	Metrics    []MetricPoint `json:"metrics,omitempty"`
	Checkpoint *Saved        `json:"checkpoint,omitempty"`
	Output     *Collected    `json:"output,omitempty"`
	Exited     *Exited       `json:"exited,omitempty"`
}

// Started says that the command runs.
type Started struct {
	PID int `json:"pid"`
	// Limits tells how the resources are held: "cgroup v1", "cgroup v2" or
	// "none", with the reason.
	Limits string `json:"limits"`
	// Node is where it runs, if the site's scheduler chose that.
	Node string `json:"node,omitempty"`
}

// Ready says that a serving task answers.
type Ready struct {
	Address string `json:"address"`
}

// MetricPoint is one line of PENSTOCK_METRICS.
type MetricPoint struct {
	At     time.Time          `json:"at"`
	Step   int64              `json:"step"`
	Values map[string]float64 `json:"values"`
}

// Saved is a checkpoint whose files are all stored.
type Saved struct {
	Step  int64  `json:"step"`
	Files []File `json:"files"`
}

// Collected is an output whose files are all stored.
type Collected struct {
	Name  string `json:"name"`
	Files []File `json:"files"`
}

// Exited is the last report of a task: it comes after its outputs.
type Exited struct {
	Code    int    `json:"code"`
	Signal  string `json:"signal,omitempty"`
	Message string `json:"message,omitempty"` // for instance why it could not start
	// OverMemory says that the kernel killed it because it wanted more memory
	// than it had asked for.
	OverMemory bool `json:"overMemory,omitempty"`
	// StartFailed says that the command never ran.
	StartFailed bool     `json:"startFailed,omitempty"`
	CPUTime     Duration `json:"cpuTime"`
	MaxBytes    int64    `json:"maxBytes"`
}
