package penstock

import "slices"

// Phase is where an object stands in its life. Only internal/control changes
// one, and only along the arrows that Next allows.
//
//	Job       Pending ─► Queued ─► Starting ─► Running ─► Succeeded | Failed
//	                       ▲           │          │
//	                       └───────────┴──────────┘  an attempt was lost or asked for a retry
//	          any of them ─► Stopping ─► Stopped
//
//	Attempt   Starting ─► Running ─► Succeeded | Failed | Lost | Stopped
//	                └──► Stopping ──────────┘
//
//	Dataset   Pending ─► Preparing ─► Ready | Failed
//	Endpoint  Pending ─► Starting ─► Ready ◄─► Degraded,  ─► Stopping ─► Stopped
//	versions  Scanning ─► Ready | Refused,  Ready ─► Refused (a later verdict revokes)
//	the rest  Pending ─► Ready ◄─► Degraded
type Phase string

// The phases.
const (
	PhasePending   Phase = "Pending"
	PhaseQueued    Phase = "Queued"
	PhaseStarting  Phase = "Starting"
	PhaseRunning   Phase = "Running"
	PhaseStopping  Phase = "Stopping"
	PhaseSucceeded Phase = "Succeeded"
	PhaseFailed    Phase = "Failed"
	PhaseStopped   Phase = "Stopped"
	PhaseLost      Phase = "Lost"
	PhasePreparing Phase = "Preparing"
	PhaseScanning  Phase = "Scanning"
	PhaseReady     Phase = "Ready"
	PhaseDegraded  Phase = "Degraded"
	PhaseRefused   Phase = "Refused"
)

// Phases lists every phase.
func Phases() []Phase {
	return []Phase{
		PhasePending, PhaseQueued, PhaseStarting, PhaseRunning, PhaseStopping, PhaseSucceeded, PhaseFailed,
		PhaseStopped, PhaseLost, PhasePreparing, PhaseScanning, PhaseReady, PhaseDegraded, PhaseRefused,
	}
}

// Final reports whether the work is over. Nothing follows for a Job, an Attempt
// or a version; a Dataset and an Endpoint can be started anew.
func (p Phase) Final() bool {
	return p == PhaseSucceeded || p == PhaseFailed || p == PhaseStopped || p == PhaseLost || p == PhaseRefused
}

var transitions = map[Kind]map[Phase][]Phase{
	KindJob: {
		"":            {PhasePending},
		PhasePending:  {PhaseQueued, PhaseFailed, PhaseStopped},
		PhaseQueued:   {PhaseStarting, PhaseFailed, PhaseStopped},
		PhaseStarting: {PhaseRunning, PhaseQueued, PhaseSucceeded, PhaseFailed, PhaseStopping},
		PhaseRunning:  {PhaseQueued, PhaseSucceeded, PhaseFailed, PhaseStopping},
		PhaseStopping: {PhaseStopped},
	},
	KindAttempt: {
		"":            {PhaseStarting},
		PhaseStarting: {PhaseRunning, PhaseStopping, PhaseSucceeded, PhaseFailed, PhaseLost},
		PhaseRunning:  {PhaseStopping, PhaseSucceeded, PhaseFailed, PhaseLost},
		PhaseStopping: {PhaseSucceeded, PhaseFailed, PhaseLost, PhaseStopped},
	},
	KindDataset: {
		"":             {PhasePending},
		PhasePending:   {PhasePreparing, PhaseReady, PhaseFailed},
		PhasePreparing: {PhaseReady, PhaseFailed},
		PhaseReady:     {PhasePending, PhasePreparing},
		PhaseFailed:    {PhasePending, PhasePreparing},
	},
	KindEndpoint: {
		"":            {PhasePending},
		PhasePending:  {PhaseStarting, PhaseFailed, PhaseStopping, PhaseStopped},
		PhaseStarting: {PhaseReady, PhaseDegraded, PhaseFailed, PhaseStopping},
		PhaseReady:    {PhaseDegraded, PhaseStarting, PhaseStopping},
		PhaseDegraded: {PhaseReady, PhaseStarting, PhaseStopping, PhaseFailed},
		PhaseFailed:   {PhaseStarting, PhaseStopping, PhaseStopped},
		PhaseStopping: {PhaseStopped},
		PhaseStopped:  {PhasePending},
	},
	KindDatasetVersion: {"": {PhaseReady}},
	KindModelVersion: {
		"":            {PhaseScanning},
		PhaseScanning: {PhaseReady, PhaseRefused},
		PhaseReady:    {PhaseRefused},
	},
}

var restTransitions = map[Phase][]Phase{
	"":            {PhasePending, PhaseReady},
	PhasePending:  {PhaseReady, PhaseDegraded},
	PhaseReady:    {PhaseDegraded},
	PhaseDegraded: {PhaseReady},
}

// Next reports whether an object of kind k may go from one phase to another.
// Staying where one is, is always allowed.
func (k Kind) Next(from, to Phase) bool {
	arrows, own := transitions[k]
	if !own {
		arrows = restTransitions
	}
	return from == to || slices.Contains(arrows[from], to)
}
