// Package checkpoint says which of a job's committed steps is newest, which may
// go, and how often it pays to save one. It is pure: the files are the agent's,
// the rows the store's.
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

	"github.com/go-json-experiment/json/jsontext"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Digest names a checkpoint by its files: the SHA-256 of the canonical JSON (RFC
// 8785) of the files in order of their paths, so the order in which they are
// given doesn't matter. Sizes are below 2^53, as those of all real files are.
func Digest(files []v1.File) penstock.Digest {
	sorted := append(make([]v1.File, 0, len(files)), files...)
	slices.SortFunc(sorted, func(a, b v1.File) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(string(a.Digest), string(b.Digest)), cmp.Compare(a.Size, b.Size))
	})
	raw, err := json.Marshal(sorted)
	canonical := jsontext.Value(raw)
	if err != nil || canonical.Canonicalize() != nil {
		return "" // strings and numbers always encode; an empty digest matches nothing
	}
	sum := sha256.Sum256(canonical)
	return penstock.DigestOf(sum[:])
}

// ParseStep reads the name of a finished step's folder, step-<n> with n a plain
// decimal from 0 on. What is still being written, step-<n>.tmp, isn't one.
func ParseStep(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits {
		return 0, false
	}
	return n, true
}

// newestFirst is a copy of have in falling order of steps.
func newestFirst(have []v1.Checkpoint) []v1.Checkpoint {
	return slices.SortedStableFunc(slices.Values(have), func(a, b v1.Checkpoint) int { return cmp.Compare(b.Step, a.Step) })
}

// Expired gives the checkpoints of one job that need not be kept, oldest first:
// all but the keep newest and those whose steps are leased, because somebody
// restores or exports them right now. The newest one stays whatever keep says.
func Expired(have []v1.Checkpoint, keep int, leased ...int64) []v1.Checkpoint {
	sorted := newestFirst(have)
	expired := slices.DeleteFunc(sorted[min(max(keep, 1), len(sorted)):], func(c v1.Checkpoint) bool { return slices.Contains(leased, c.Step) })
	slices.Reverse(expired)
	return expired
}

// Newest gives the newest checkpoint that usable has nothing against, and for
// each newer one that was passed over an error that says why. Without any, the
// checkpoint is empty. A checkpoint whose Digest isn't that of its files is
// passed over without asking. Whoever goes on from an older step should drop
// those that were passed over: they count as the newest ones until then.
func Newest(have []v1.Checkpoint, usable func(v1.Checkpoint) error) (v1.Checkpoint, []error) {
	var passed []error
	for _, c := range newestFirst(have) {
		err := whole(c)
		if err == nil {
			err = usable(c)
		}
		if err == nil {
			return c, passed
		}
		passed = append(passed, &penstock.Error{
			Code: penstock.Corrupt, Msg: fmt.Sprintf("the checkpoint of step %d is passed over: %s", c.Step, err), Err: err,
			Hint: "the work since an older step is done again; look at what holds the blobs",
		})
	}
	return v1.Checkpoint{}, passed
}

// whole says whether the files are those that were committed.
func whole(c v1.Checkpoint) error {
	if len(c.Files) == 0 {
		return fmt.Errorf("it has no files")
	}
	if got := Digest(c.Files); got != c.Digest {
		return fmt.Errorf("its %d files have the digest %s, not %s", len(c.Files), got, c.Digest)
	}
	return nil
}

// Interval is the time to train between two checkpoints that loses the least of
// it, where saving one stops the work for stall and something breaks every mtbf
// on average. It is Daly's estimate (Future Generation Computer Systems 22,
// 2006, equation 37): with x = stall / (2 mtbf),
//
//	sqrt(2 stall mtbf) (1 + sqrt(x)/3 + x/9) - stall   for x < 1, and mtbf else.
//
// For a short stall that is Young's sqrt(2 stall mtbf) (Communications of the
// ACM 17, 1974). A stall of nothing gives 0: save as often as you like. An mtbf
// of nothing or less is unknown, and gives 0 as well.
func Interval(stall, mtbf time.Duration) time.Duration {
	if stall <= 0 || mtbf <= 0 {
		return 0
	}
	d, m := stall.Seconds(), mtbf.Seconds()
	x := d / (2 * m)
	if x >= 1 {
		return mtbf
	}
	seconds := math.Sqrt(2*d*m)*(1+math.Sqrt(x)/3+x/9) - d
	return time.Duration(seconds * float64(time.Second))
}
