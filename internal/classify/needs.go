package classify

import "github.com/penstock/penstock"

// Needs is what a class of work needs from those who admit, place and run it,
// where its owner says nothing.
type Needs struct {
	// Preemptible: nobody waits for this work, so it may give way to other work
	// without having said so.
	Preemptible bool
	// Retries is how often a failed task is worth another start.
	Retries int
	// RestartsForEver: the work never ends by itself, so that a task that ended
	// is started again without being counted.
	RestartsForEver bool
	// Movable: a new attempt on other devices loses at most what was done since
	// the last checkpoint. Work that isn't movable starts from nothing.
	Movable bool
}

// NeedsOf gives the needs of a class; those of an unknown one are zero, which asks
// for the most caution.
func NeedsOf(class penstock.Class) Needs {
	switch class {
	case penstock.ClassTraining, penstock.ClassFineTuning:
		return Needs{Retries: 3, Movable: true}
	case penstock.ClassDataPreparation:
		return Needs{Preemptible: true, Retries: 2}
	case penstock.ClassBatchInference:
		return Needs{Preemptible: true, Retries: 3}
	case penstock.ClassEvaluation:
		return Needs{Retries: 1}
	case penstock.ClassOnlineInference:
		return Needs{RestartsForEver: true, Movable: true}
	case penstock.ClassMonitoring:
		return Needs{RestartsForEver: true, Movable: true, Preemptible: true}
	}
	return Needs{}
}
