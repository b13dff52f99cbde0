package penstock

import (
	"fmt"
	"strings"
)

// ReasonCode names why something may not happen yet. It is part of the wire
// format: a code is never renamed.
type ReasonCode string

// The codes of Reasons, by the stage that gives them.
const (
	// admit
	QuotaExhausted  ReasonCode = "QuotaExhausted"
	BudgetExhausted ReasonCode = "BudgetExhausted"
	ProjectExpired  ReasonCode = "ProjectExpired"
	ResidencyDenied ReasonCode = "ResidencyDenied"
	// place
	NeverFits       ReasonCode = "NeverFits"
	NoCapacity      ReasonCode = "NoCapacity"
	NoPool          ReasonCode = "NoPool"
	BehindOthers    ReasonCode = "BehindOthers"
	DependencyUnmet ReasonCode = "DependencyUnmet"
	BackingOff      ReasonCode = "BackingOff"
	// run
	NodeLost        ReasonCode = "NodeLost"
	AgentLost       ReasonCode = "AgentLost"
	TaskFailed      ReasonCode = "TaskFailed"
	RetryAsked      ReasonCode = "RetryAsked"
	Reclaimed       ReasonCode = "Reclaimed"
	StoppedByUser   ReasonCode = "StoppedByUser"
	DeadlinePassed  ReasonCode = "DeadlinePassed"
	RetriesSpent    ReasonCode = "RetriesSpent"
	StartFailed     ReasonCode = "StartFailed"
	NotReady        ReasonCode = "NotReady"
	PreparingFailed ReasonCode = "PreparingFailed"
	// register, gate
	ScanRefused     ReasonCode = "ScanRefused"
	MetricMissing   ReasonCode = "MetricMissing"
	MetricOverBound ReasonCode = "MetricOverBound"
	ApprovalMissing ReasonCode = "ApprovalMissing"
	// watch
	Drifted         ReasonCode = "Drifted"
	ObjectiveMissed ReasonCode = "ObjectiveMissed"
)

// Class says who can do something about a Reason.
type ReasonClass string

// Wait: time alone may help. Change: the asker can ask for something else.
// Ask: somebody with more rights must act.
const (
	Wait   ReasonClass = "wait"
	Change ReasonClass = "change"
	Ask    ReasonClass = "ask"
)

// Reason is why the answer is no, or not yet. It is made by the code that said
// no, with the numbers that made it say so. A Reason is not an Error: waiting
// is a proper state.
type Reason struct {
	Code    ReasonCode  `json:"code" yaml:"code"`
	Class   ReasonClass `json:"class" yaml:"class" enum:"wait,change,ask"`
	Message string      `json:"message" yaml:"message"`
	// Numbers are the figures of the message, for programs: {"want": 8, "free": 2}.
	Numbers map[string]int64 `json:"numbers,omitempty" yaml:"numbers,omitempty"`
}

// Because makes a Reason whose message is formatted as by fmt.Sprintf.
func Because(code ReasonCode, class ReasonClass, format string, args ...any) Reason {
	return Reason{Code: code, Class: class, Message: fmt.Sprintf(format, args...)}
}

// With is r with one figure more.
func (r Reason) With(name string, n int64) Reason {
	numbers := make(map[string]int64, len(r.Numbers)+1)
	for k, v := range r.Numbers {
		numbers[k] = v
	}
	numbers[name] = n
	r.Numbers = numbers
	return r
}

// String is the one-line form: QuotaExhausted: vision uses 4 of 4 gpu.
func (r Reason) String() string { return string(r.Code) + ": " + r.Message }

// Join is the one-line form of several Reasons.
func Join(reasons []Reason) string {
	lines := make([]string, len(reasons))
	for i, r := range reasons {
		lines[i] = r.String()
	}
	return strings.Join(lines, "; ")
}
