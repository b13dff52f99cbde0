package penstock

import (
	"maps"
	"slices"
	"testing"
)

// arrows is the table of a kind.
func arrows(k Kind) map[Phase][]Phase {
	if own, ok := transitions[k]; ok {
		return own
	}
	return restTransitions
}

func TestEveryPhaseOfATableCanBeReached(t *testing.T) {
	for _, k := range Kinds() {
		table := arrows(k)
		reached, todo := map[Phase]bool{"": true}, []Phase{""}
		for len(todo) > 0 {
			from := todo[0]
			todo = todo[1:]
			for _, to := range table[from] {
				if !reached[to] {
					reached[to], todo = true, append(todo, to)
				}
			}
		}
		for from, next := range table {
			if !reached[from] {
				t.Errorf("%s: no way leads to %s", k, from)
			}
			if from != "" && !slices.Contains(Phases(), from) {
				t.Errorf("%s: %s is no phase", k, from)
			}
			for i, to := range next {
				if !slices.Contains(Phases(), to) || to == from || slices.Contains(next[:i], to) {
					t.Errorf("%s: the arrow from %s to %s is wrong or told twice", k, from, to)
				}
			}
		}
	}
}

func TestNextAllowsTheArrowsAndStaying(t *testing.T) {
	all := append(Phases(), "", "Nonsense")
	for _, k := range Kinds() {
		for _, from := range all {
			for _, to := range all {
				want := from == to || slices.Contains(arrows(k)[from], to)
				if k.Next(from, to) != want {
					t.Errorf("%s from %q to %q: %v", k, from, to, !want)
				}
			}
		}
	}
}

func TestNothingFollowsWhatIsOver(t *testing.T) {
	for _, k := range []Kind{KindJob, KindAttempt, KindDatasetVersion, KindModelVersion} {
		for _, p := range Phases() {
			if next := arrows(k)[p]; p.Final() && len(next) > 0 {
				t.Errorf("%s: %s is final, and %v follow", k, p, next)
			}
		}
	}
}

// TestWorkCanAlwaysEnd: from wherever a job or an attempt is, a final phase can
// be reached.
func TestWorkCanAlwaysEnd(t *testing.T) {
	for _, k := range []Kind{KindJob, KindAttempt, KindModelVersion} {
		ends := map[Phase]bool{}
		for changed := true; changed; {
			changed = false
			for from, next := range arrows(k) {
				if !ends[from] && slices.ContainsFunc(next, func(to Phase) bool { return to.Final() || ends[to] }) {
					ends[from], changed = true, true
				}
			}
		}
		for from := range arrows(k) {
			if !ends[from] {
				t.Errorf("%s can't end from %s", k, from)
			}
		}
	}
}

func TestJobsTakeTheWayInTheDrawing(t *testing.T) {
	for _, way := range [][]Phase{
		{"", PhasePending, PhaseQueued, PhaseStarting, PhaseRunning, PhaseSucceeded},
		{PhaseStarting, PhaseQueued}, {PhaseRunning, PhaseQueued}, {PhaseRunning, PhaseStopping, PhaseStopped},
	} {
		for i, from := range way[:len(way)-1] {
			if !KindJob.Next(from, way[i+1]) {
				t.Errorf("a job can't go from %q to %s", from, way[i+1])
			}
		}
	}
	for _, not := range [][2]Phase{{PhasePending, PhaseRunning}, {PhaseSucceeded, PhaseQueued}, {PhaseStopping, PhaseRunning}, {PhaseStopped, PhasePending}} {
		if KindJob.Next(not[0], not[1]) {
			t.Errorf("a job goes from %s to %s", not[0], not[1])
		}
	}
}

func TestKindsAreListedOnceInTheOrderOfApplying(t *testing.T) {
	kinds := Kinds()
	for _, needs := range [][2]Kind{{KindProject, KindJob}, {KindPool, KindJob}, {KindSecret, KindJob}, {KindDataset, KindJob}, {KindModel, KindEndpoint}, {KindEndpoint, KindMonitor}, {KindJob, KindPipeline}} {
		if slices.Index(kinds, needs[0]) >= slices.Index(kinds, needs[1]) {
			t.Errorf("%s comes after %s", needs[0], needs[1])
		}
	}
	seen := map[Kind]bool{}
	for _, k := range kinds {
		if seen[k] {
			t.Errorf("%s is listed twice", k)
		}
		seen[k] = true
		if made := k == KindAttempt || k == KindDatasetVersion || k == KindModelVersion; k.Declarable() == made {
			t.Errorf("%s is declarable: %v", k, k.Declarable())
		}
	}
	for k := range maps.Keys(transitions) {
		if !seen[k] {
			t.Errorf("%s has transitions and isn't listed", k)
		}
	}
	if Kind("Nonsense").Declarable() {
		t.Error("an unknown kind is declarable")
	}
}

func TestEachRoleIncludesTheOnesBefore(t *testing.T) {
	for i, r := range Roles() {
		for k, other := range Roles() {
			if r.Includes(other) != (i >= k) {
				t.Errorf("%s includes %s: %v", r, other, i < k)
			}
		}
		if r.Includes("root") || Role("root").Includes(r) || r.Includes("") {
			t.Errorf("%s has to do with an unknown role", r)
		}
	}
}
