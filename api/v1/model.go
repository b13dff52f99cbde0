package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Model is a registry entry: the gate that its versions must pass, and where
// its aliases point.
type Model = Resource[ModelSpec, ModelStatus]

// ModelSpec declares the gate.
type ModelSpec struct {
	Description string `json:"description,omitempty"` // for people
	// Gates are what an alias needs before it moves, by alias. An alias that
	// isn't listed needs a clean scan only.
	Gates map[string]Gate `json:"gates,omitempty"`
}

// Gate is what a version must have shown.
type Gate struct {
	Metrics []Bound `json:"metrics,omitempty"` // all of them must hold
	// Approvals is how many approvals by approvers other than the author.
	Approvals int `json:"approvals,omitempty"`
}

// Bound holds one evaluation metric within limits; a nil limit is open.
type Bound struct {
	Metric string   `json:"metric"`        // a name in the evaluation's file
	Max    *float64 `json:"max,omitempty"` // the largest value that passes
	Min    *float64 `json:"min,omitempty"` // the smallest value that passes
}

// ModelStatus lists the aliases.
type ModelStatus struct {
	Aliases  map[string]penstock.Digest `json:"aliases,omitempty"`
	Versions int                        `json:"versions,omitempty"`
}

// ModelVersion is one immutable set of files. Its name is the model's name, a
// dash, and the first 12 digits of Digest.
type ModelVersion = Resource[ModelVersionSpec, ModelVersionStatus]

// ModelVersionSpec is the version and where it came from. Digest is the SHA-256
// of the canonical JSON of Files sorted by path.
type ModelVersionSpec struct {
	Model   string          `json:"model"`
	Digest  penstock.Digest `json:"digest"`
	Files   []File          `json:"files"`
	Lineage Lineage         `json:"lineage"`
}

// Lineage is what a version came from. The store holds the same edges as
// foreign keys.
type Lineage struct {
	Job        string            `json:"job,omitempty"`
	JobUID     penstock.UID      `json:"jobUid,omitempty"`
	Attempt    int               `json:"attempt,omitempty"`
	Step       int64             `json:"step,omitempty"`       // last committed checkpoint; -1 is none
	Checkpoint penstock.Digest   `json:"checkpoint,omitempty"` // of that step
	Datasets   []Input           `json:"datasets,omitempty"`
	Base       []Input           `json:"base,omitempty"`
	Code       penstock.Digest   `json:"code,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Author     string            `json:"author,omitempty"`
	// Trigger says what started the job, where something did: "monitor/drift".
	Trigger string `json:"trigger,omitempty"`
}

// ModelVersionStatus is what is known of the version's quality and safety.
type ModelVersionStatus struct {
	Scan        *Scan              `json:"scan,omitempty"`
	Metrics     map[string]float64 `json:"metrics,omitempty"`
	Evaluations []Evaluation       `json:"evaluations,omitempty"`
	Approvals   []Approval         `json:"approvals,omitempty"`
}

// Scan is the verdict on the files.
type Scan struct {
	Verdict  string    `json:"verdict" enum:"clean,malformed,malicious,inconclusive"`
	Ruleset  string    `json:"ruleset"`
	Findings []Finding `json:"findings,omitempty"`
	At       time.Time `json:"at"`
}

// Finding is one thing that the scan found, with the place.
type Finding struct {
	Path    string `json:"path"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
}

// Evaluation is the numbers that one job measured.
type Evaluation struct {
	Job     string             `json:"job"`
	JobUID  penstock.UID       `json:"jobUid"`
	Metrics map[string]float64 `json:"metrics"`
	At      time.Time          `json:"at"`
}

// Approval is one person's yes to one version for one alias.
type Approval struct {
	By      string    `json:"by"`
	Alias   string    `json:"alias"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

// AliasMove is one line of an alias's history.
type AliasMove struct {
	Model string          `json:"model"`
	Alias string          `json:"alias"`
	From  penstock.Digest `json:"from,omitempty"`
	To    penstock.Digest `json:"to"`
	By    string          `json:"by"`
	At    time.Time       `json:"at"`
	Note  string          `json:"note,omitempty"`
}
