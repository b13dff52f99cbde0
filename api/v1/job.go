package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Job is a gang of task sets that start together, live together and end together.
type Job = Resource[JobSpec, JobStatus]

// JobSpec declares the work.
type JobSpec struct {
	// Class is what sort of work this is. Left out, it is inferred from the
	// rest of the spec, and the evidence is kept in the status.
	Class penstock.Class `json:"class,omitempty"`
	// Pool restricts the job to one pool; empty means any.
	Pool  string    `json:"pool,omitempty"`
	Tasks []TaskSet `json:"tasks"`
	// Data are dataset versions staged for every task.
	Data []DataRef `json:"data,omitempty"`
	// Feed hands out the samples of one of Data.
	Feed *Feed `json:"feed,omitempty"`
	// Models are model versions staged for every task.
	Models      []ModelRef   `json:"models,omitempty"`
	Checkpoints *Checkpoints `json:"checkpoints,omitempty"`
	Outputs     []Output     `json:"outputs,omitempty"`
	// Parameters are handed over as PENSTOCK_PARAM_<NAME> and kept in lineage.
	Parameters map[string]string `json:"parameters,omitempty"`
	// Secrets names Secrets whose keys become files under PENSTOCK_SECRETS.
	Secrets  []string `json:"secrets,omitempty"`
	Priority int      `json:"priority,omitempty"` // from -1000 to 1000; more goes first
	// Preemptible lets more important work take the devices back.
	Preemptible bool     `json:"preemptible,omitempty"`
	Deadline    Duration `json:"deadline,omitzero"` // how long an attempt may run; 0 is no bound
	Retries     Retries  `json:"retries,omitzero"`
	// Grace is the time from SIGTERM to SIGKILL. Default 30 s.
	Grace Duration `json:"grace,omitzero"`
	// After names jobs of the same project that must have succeeded.
	After []string `json:"after,omitempty"`
}

// TaskSet is a number of like tasks.
type TaskSet struct {
	Name string `json:"name"` // unique in the job
	// Replicas is how many tasks run. Default 1.
	Replicas  int                `json:"replicas,omitempty"`
	Command   []string           `json:"command"`             // the program and its arguments; no shell is in between
	Image     string             `json:"image,omitempty"`     // the container image to run in, on Kubernetes; the pool's if left out
	Env       map[string]string  `json:"env,omitempty"`       // what Penstock itself sets can't be set
	Resources penstock.Resources `json:"resources,omitempty"` // what each task takes
	// Dir is the folder with the code, relative to the manifest. The command line
	// uploads its files when it applies, and puts them into Code.
	Dir string `json:"dir,omitempty"`
	// Code are the files that stand in the folder in which the command starts.
	Code *Code `json:"code,omitempty"`
	// Serve marks a task that listens: it is given PENSTOCK_PORT, and it is
	// ready when an HTTP GET of Ready answers 200.
	Serve *Serve `json:"serve,omitempty"`
}

// Code is an immutable set of files. Digest is the SHA-256 of the canonical
// JSON of Files sorted by path; it goes into the lineage.
type Code struct {
	Digest penstock.Digest `json:"digest"`
	Files  []File          `json:"files"`
}

// Serve says how to see that a listening task is ready.
type Serve struct {
	Ready string `json:"ready"` // a path, such as /health
}

// DataRef mounts one split of a dataset at PENSTOCK_DATA/<name>.
type DataRef struct {
	Name    string `json:"name"`    // of the folder
	Dataset string `json:"dataset"` // of the same project
	// Version is a digest; empty takes the newest when the job is placed.
	Version penstock.Digest `json:"version,omitempty"`
	Split   string          `json:"split,omitempty"` // default train
}

// ModelRef mounts a model version at PENSTOCK_MODELS/<name>.
type ModelRef struct {
	Name  string `json:"name"`  // of the folder
	Model string `json:"model"` // name, name@alias or name@digest
}

// Checkpoints says what is done with the steps that the job writes.
type Checkpoints struct {
	// Keep is how many of the newest steps stay. Default 2.
	Keep int `json:"keep,omitempty"`
}

// Output names a folder under PENSTOCK_OUTPUTS that becomes a version when the
// job succeeds.
type Output struct {
	Name string `json:"name"` // of the folder
	// Exactly one of Model, Dataset and Metrics is given. Metrics names a JSON
	// file of numbers in the folder: an evaluation.
	Model   string      `json:"model,omitempty"`
	Dataset string      `json:"dataset,omitempty"`
	Metrics *MetricsOut `json:"metrics,omitempty"`
}

// MetricsOut is an evaluation: the numbers of one JSON file, about one model version.
type MetricsOut struct {
	File string `json:"file"` // its path in the folder
	// Model is the ModelRef's name whose version was evaluated.
	Model string `json:"model"`
}

// Retries bounds how often a job starts again after a task failed. A reclaimed
// or lost attempt doesn't count.
type Retries struct {
	Max int `json:"max,omitempty"` // 0 to 100
	// Backoff is the pause before the second restart in a row, doubled before each
	// one after it, up to 5m. The first is at once, and a row ends with an attempt
	// that committed a checkpoint or ran for 5m.
	Backoff Duration `json:"backoff,omitzero"`
}

// JobStatus is where the job stands.
type JobStatus struct {
	Class    penstock.Class `json:"class,omitempty"`
	Evidence string         `json:"evidence,omitempty"`
	// Reasons say why the job waits, or how it ended.
	Reasons []penstock.Reason `json:"reasons,omitempty"`
	// Attempt is the number of the newest attempt, from 1.
	Attempt   int       `json:"attempt,omitempty"`
	Failures  int       `json:"failures,omitempty"` // that count against Retries
	NotBefore time.Time `json:"notBefore,omitzero"`
	QueuedAt  time.Time `json:"queuedAt,omitzero"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Step is the newest committed checkpoint, Metrics the last line reported.
	Step    int64              `json:"step,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Inputs are the versions that the job was given, pinned when it was placed.
	Inputs []Input `json:"inputs,omitempty"`
	// Results are the versions that its outputs became.
	Results []Result `json:"results,omitempty"`
	// StopAsked is why Stopping was asked for.
	StopAsked *penstock.Reason `json:"stopAsked,omitempty"`
}

// Input is one pinned input.
type Input struct {
	Name   string          `json:"name"`
	Kind   penstock.Kind   `json:"kind"`
	UID    penstock.UID    `json:"uid"`
	Digest penstock.Digest `json:"digest"`
}

// Result is what one output became.
type Result struct {
	Output string          `json:"output"`
	Kind   penstock.Kind   `json:"kind"`
	Name   string          `json:"name"`
	Digest penstock.Digest `json:"digest"`
}

// Attempt is one start of a job: which devices, since when, how it ended. Its
// name is the job's name, a dash, and Number.
type Attempt = Resource[AttemptSpec, AttemptStatus]

// AttemptSpec is fixed when the attempt is placed.
type AttemptSpec struct {
	Job    string       `json:"job"`
	JobUID penstock.UID `json:"jobUid"`
	// Number is also the fencing epoch: a report of an older one is refused.
	Number int    `json:"number"`
	Pool   string `json:"pool"`
	// Tasks are the placed tasks in order of rank.
	Tasks []PlacedTask `json:"tasks"`
	// Step is the checkpoint that the attempt starts from; -1 is none.
	Step int64 `json:"step"`
	// Why says why these nodes were chosen.
	Why string `json:"why,omitempty"`
}

// PlacedTask is one task on one node with the devices it holds.
type PlacedTask struct {
	Set       string             `json:"set"`
	Index     int                `json:"index"` // within the set
	Rank      int                `json:"rank"`  // within the gang
	Node      string             `json:"node"`
	Resources penstock.Resources `json:"resources,omitempty"`
	Devices   []string           `json:"devices,omitempty"`
}

// AttemptStatus is what was observed of it.
type AttemptStatus struct {
	Tasks     []TaskStatus      `json:"tasks,omitempty"` // by rank
	Reasons   []penstock.Reason `json:"reasons,omitempty"`
	StartedAt time.Time         `json:"startedAt,omitzero"`
	EndedAt   time.Time         `json:"endedAt,omitzero"`
	// Outputs are those that the tasks have stored so far.
	Outputs []Collected `json:"outputs,omitempty"`
	// StopSent is when the tasks were told to end, and Stop why.
	StopSent time.Time        `json:"stopSent,omitzero"`
	Stop     *penstock.Reason `json:"stop,omitempty"`
}

// TaskStatus is one task of an attempt.
type TaskStatus struct {
	Rank int `json:"rank"`
	PID  int `json:"pid,omitempty"`
	// Limits tells how its resources are held, see Started.
	Limits string `json:"limits,omitempty"`
	// State is "", "running", "ready", "exited", "unstarted" (the command never
	// ran) or "gone" (nobody knows how it ended).
	State    string `json:"state,omitempty"`
	ExitCode int    `json:"exitCode"`
	Signal   string `json:"signal,omitempty"`
	Message  string `json:"message,omitempty"`
	// OverMemory says that the kernel killed it for want of memory.
	OverMemory bool `json:"overMemory,omitempty"`
	// Address is host:port where a serving task listens.
	Address  string    `json:"address,omitempty"`
	Started  time.Time `json:"startedAt,omitzero"`
	Ended    time.Time `json:"endedAt,omitzero"`
	CPUTime  Duration  `json:"cpuTime,omitzero"`
	MaxBytes int64     `json:"maxBytes,omitempty"`
	// Seq is the number of the last report taken from this task's agent.
	Seq int64 `json:"seq,omitempty"`
	// Run is the agent that got the task's order over the network; no other one
	// does.
	Run string `json:"run,omitempty"`
	// Node is where it runs, if the site's scheduler chose that.
	Node string `json:"node,omitempty"`
}

// Feed serves one staged dataset's samples over PENSTOCK_FEED, in an order that
// is a pure function of Seed, the epoch and the dataset's digest: whoever asks
// for a step gets the same samples, whatever was lost before.
type Feed struct {
	Data string `json:"data"`           // the DataRef's name; its format is tokens-u16
	Seed int64  `json:"seed,omitempty"` // of the order
	// Window is how many tokens a sample has.
	Window int `json:"window"`
	// Batch is how many samples all ranks take together in one step; the world
	// size must divide it.
	Batch int `json:"batch"`
}
