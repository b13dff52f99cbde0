package checkpoint

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestOnlyFinishedStepsHaveANumber(t *testing.T) {
	for name, want := range map[string]int64{
		"step-0": 0, "step-7": 7, "step-120000": 120000,
		"step-7.tmp": -1, "step-07": -1, "step--7": -1, "step-": -1, "step": -1, "STEP-7": -1, "step-7 ": -1, "step-99999999999999999999": -1, "../step-7": -1,
	} {
		n, ok := ParseStep(name)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("ParseStep(%q) = %d, %v; want %d", name, n, ok, want)
		}
	}
}

func TestDigestDependsOnContentNotOnOrder(t *testing.T) {
	a, b := v1.File{Path: "a", Size: 1, Digest: "sha256:aa"}, v1.File{Path: "b", Size: 2, Digest: "sha256:bb"}
	if Digest([]v1.File{a, b}) != Digest([]v1.File{b, a}) {
		t.Error("the order of the files changes the digest")
	}
	c := b
	c.Size = 3
	if Digest([]v1.File{a, b}) == Digest([]v1.File{a, c}) {
		t.Error("other content has the same digest")
	}
}

func steps(t *rapid.T) []v1.Checkpoint {
	numbers := rapid.SliceOfDistinct(rapid.Int64Range(0, 1000), rapid.ID[int64]).Draw(t, "steps")
	have := make([]v1.Checkpoint, len(numbers))
	for i, n := range numbers {
		have[i] = v1.Checkpoint{Step: n, Digest: penstock.Digest("d")}
	}
	return have
}

func TestTheNewestStepNeverExpires(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, keep := steps(t), rapid.IntRange(-1, 5).Draw(t, "keep")
		expired := Expired(have, keep)
		if want := max(0, len(have)-max(1, keep)); len(expired) != want {
			t.Fatalf("%d of %d expired with keep %d, want %d", len(expired), len(have), keep, want)
		}
		gone := map[int64]bool{}
		for _, c := range expired {
			gone[c.Step] = true
		}
		for _, c := range have {
			for _, e := range expired {
				if !gone[c.Step] && c.Step < e.Step {
					t.Fatalf("step %d stays although the newer step %d goes", c.Step, e.Step)
				}
			}
		}
	})
}

func TestARestartTakesTheNewestUsableStepAndTellsWhatItPassed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := steps(t)
		rand.Shuffle(len(have), func(i, j int) { have[i], have[j] = have[j], have[i] })
		broken := map[int64]bool{}
		for _, c := range have {
			broken[c.Step] = rapid.Bool().Draw(t, "broken")
		}
		got, passed := Newest(have, func(c v1.Checkpoint) error {
			if broken[c.Step] {
				return errors.New("torn")
			}
			return nil
		})
		want, skipped := int64(-1), 0
		for _, c := range have {
			if !broken[c.Step] {
				want = max(want, c.Step)
			}
		}
		for _, c := range have {
			if broken[c.Step] && c.Step > want {
				skipped++
			}
		}
		if len(passed) != skipped || want >= 0 && got.Step != want || want < 0 && got.Digest != "" {
			t.Fatalf("got step %d after %d errors; want step %d after %d", got.Step, len(passed), want, skipped)
		}
	})
}

func TestIntervalIsYoungs(t *testing.T) {
	if diff := cmp.Diff(20*time.Minute, Interval(10*time.Second, 20*time.Hour).Round(time.Minute)); diff != "" {
		t.Error(diff)
	}
	if Interval(0, time.Hour) != 0 {
		t.Error("without a stall there is nothing to weigh")
	}
}
