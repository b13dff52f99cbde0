// Package checkpoint decides about the steps that a job has saved: what names a
// step, which one a restart takes, and which ones may go. It is pure; the bytes
// are the agent's and blob's, the records the store's.
package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Digest names a set of files by content: the SHA-256 of the canonical JSON of
// the files, sorted by path.
func Digest(files []v1.File) penstock.Digest {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b v1.File) int { return cmp.Compare(a.Path, b.Path) })
	canonical, _ := json.Marshal(sorted) // strings and numbers always encode
	sum := sha256.Sum256(canonical)
	return penstock.DigestOf(sum[:])
}

// ParseStep reads the number of a folder named step-<n>, n from 0 on, written
// without leading zeros. Anything else, a step-<n>.tmp among it, is no step.
func ParseStep(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n >= 0 && strconv.FormatInt(n, 10) == digits
}

// Expired lists the steps beyond the newest keep, oldest last. The newest never
// expires, whatever keep says.
func Expired(have []v1.Checkpoint, keep int) []v1.Checkpoint {
	sorted := newestFirst(have)
	return sorted[min(len(sorted), max(1, keep)):]
}

// Newest is the newest step that usable accepts. What was passed over on the way
// to it is told in the errors: whoever restarts must say that it went further
// back. Without any usable step it is the zero Checkpoint.
func Newest(have []v1.Checkpoint, usable func(v1.Checkpoint) error) (v1.Checkpoint, []error) {
	var passed []error
	for _, c := range newestFirst(have) {
		err := usable(c)
		if err == nil {
			return c, passed
		}
		passed = append(passed, fmt.Errorf("step %d of attempt %d: %w", c.Step, c.Attempt, err))
	}
	return v1.Checkpoint{}, passed
}

func newestFirst(have []v1.Checkpoint) []v1.Checkpoint {
	sorted := slices.Clone(have)
	slices.SortFunc(sorted, func(a, b v1.Checkpoint) int {
		return cmp.Or(cmp.Compare(b.Step, a.Step), cmp.Compare(b.Attempt, a.Attempt))
	})
	return sorted
}

// Interval is how far apart checkpoints should be so that the least time is
// lost: √(2 × stall × mtbf), where stall is how long one holds training up and
// mtbf the mean time between failures of the gang. Source: J. W. Young, "A first
// order approximation to the optimum checkpoint interval", CACM 17 (1974).
func Interval(stall, mtbf time.Duration) time.Duration {
	if stall <= 0 || mtbf <= 0 {
		return 0
	}
	return time.Duration(math.Sqrt(2 * float64(stall) * float64(mtbf)))
}
