package checkpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func digest(text string) penstock.Digest {
	sum := sha256.Sum256([]byte(text))
	return penstock.DigestOf(sum[:])
}

func TestTheDigestIsOfTheCanonicalJSONOfTheSortedFiles(t *testing.T) {
	files := []v1.File{{Path: "opt<im>.bin", Size: 12, Digest: digest("o")}, {Path: "model.bin", Size: 1 << 40, Digest: digest("m")}}
	canonical := fmt.Sprintf(`[{"digest":%q,"path":"model.bin","size":1099511627776},{"digest":%q,"path":"opt<im>.bin","size":12}]`, digest("m"), digest("o"))
	if got, want := Digest(files), digest(canonical); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if got, want := Digest(nil), digest("[]"); got != want {
		t.Errorf("digest of no files %s, want %s", got, want)
	}
	if files[0].Path != "opt<im>.bin" {
		t.Error("the caller's files were sorted")
	}
}

func TestTheDigestDependsOnEachFieldButNotOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.SliceOfN(drawFile(), 1, 8).Draw(t, "files")
		want := Digest(files)
		shuffled := rapid.Permutation(files).Draw(t, "shuffled")
		if got := Digest(shuffled); got != want {
			t.Fatalf("another order has the digest %s, not %s", got, want)
		}
		i := rapid.IntRange(0, len(files)-1).Draw(t, "changed")
		for _, change := range []func(f *v1.File){
			func(f *v1.File) { f.Path += "x" }, func(f *v1.File) { f.Size++ }, func(f *v1.File) { f.Digest = digest(string(f.Digest)) },
		} {
			other := slices.Clone(files)
			change(&other[i])
			if Digest(other) == want {
				t.Fatalf("%v has the same digest as %v", other, files)
			}
		}
		if Digest(files[1:]) == want {
			t.Fatal("a file less has the same digest")
		}
	})
}

func drawFile() *rapid.Generator[v1.File] {
	return rapid.Custom(func(t *rapid.T) v1.File {
		return v1.File{
			Path: rapid.StringMatching(`[a-z<é]{1,5}(/[a-z]{1,3})?`).Draw(t, "path"), Size: rapid.Int64Range(0, 1<<50).Draw(t, "size"),
			Digest: digest(rapid.String().Draw(t, "text")),
		}
	})
}

func TestOnlyAFinishedStepIsAStep(t *testing.T) {
	for name, want := range map[string]int64{"step-0": 0, "step-7": 7, "step-100": 100, "step-9223372036854775807": math.MaxInt64} {
		if got, ok := ParseStep(name); !ok || got != want {
			t.Errorf("%q: %d, %v; want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{
		"", "step-", "step", "step-7.tmp", "step-07", "step-+7", "step--7", "step- 7", "step-7 ", "step-0x7", "step-1_000", "step-7/x",
		"Step-7", "xstep-7", "step-9223372036854775808", "step-7.5", "step-٧", "latest",
	} {
		if got, ok := ParseStep(name); ok {
			t.Errorf("%q is taken for step %d", name, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		if got, ok := ParseStep(fmt.Sprintf("step-%d", n)); !ok || got != n {
			t.Fatalf("got %d, %v", got, ok)
		}
	})
}

// committed are whole checkpoints of some steps.
func committed(steps ...int64) []v1.Checkpoint {
	have := []v1.Checkpoint{}
	for _, step := range steps {
		files := []v1.File{{Path: "model.bin", Size: step, Digest: digest(fmt.Sprint(step))}}
		have = append(have, v1.Checkpoint{Step: step, Files: files, Digest: Digest(files)})
	}
	return have
}

func stepsOf(have []v1.Checkpoint) []int64 {
	steps := []int64{}
	for _, c := range have {
		steps = append(steps, c.Step)
	}
	return steps
}

func drawSteps(t *rapid.T) []int64 {
	return rapid.SliceOfNDistinct(rapid.Int64Range(0, 30), 0, 12, rapid.ID).Draw(t, "steps")
}

func TestExpiredNamesTheOldestFirst(t *testing.T) {
	for _, c := range []struct {
		have   []int64
		keep   int
		leased []int64
		want   []int64
	}{
		{have: []int64{30, 10, 20}, keep: 2, want: []int64{10}},
		{have: []int64{10, 20, 30, 40}, keep: 1, want: []int64{10, 20, 30}},
		{have: []int64{10, 20, 30, 40}, keep: 1, leased: []int64{20, 99}, want: []int64{10, 30}},
		{have: []int64{10, 20}, keep: 0, want: []int64{10}},
		{have: []int64{10, 20}, keep: -5, want: []int64{10}},
		{have: []int64{10, 20}, keep: 5, want: []int64{}},
		{keep: 2, want: []int64{}},
	} {
		if diff := cmp.Diff(c.want, stepsOf(Expired(committed(c.have...), c.keep, c.leased...))); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c, diff)
		}
	}
}

func TestNeitherTheNewestNorALeasedStepEverExpires(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps, leased := drawSteps(t), rapid.SliceOfN(rapid.Int64Range(0, 30), 0, 4).Draw(t, "leased")
		keep := rapid.IntRange(-1, 14).Draw(t, "keep")
		have := committed(steps...)
		expired := stepsOf(Expired(have, keep, leased...))
		if diff := cmp.Diff(steps, append([]int64{}, stepsOf(have)...)); diff != "" {
			t.Fatalf("the caller's list changed:\n%s", diff)
		}
		kept := slices.DeleteFunc(slices.Clone(steps), func(s int64) bool { return slices.Contains(expired, s) })
		if len(kept)+len(expired) != len(steps) {
			t.Fatalf("of %v, %v expired and %v stay", steps, expired, kept)
		}
		if len(steps) > 0 && !slices.Contains(kept, slices.Max(steps)) {
			t.Fatalf("the newest of %v expired", steps)
		}
		for _, s := range leased {
			if slices.Contains(expired, s) {
				t.Fatalf("leased step %d expired", s)
			}
		}
		// Nothing that stays without a lease is older than what went, and no
		// more stays than was asked for.
		unleased := slices.DeleteFunc(slices.Clone(kept), func(s int64) bool { return slices.Contains(leased, s) })
		if len(unleased) > max(keep, 1) {
			t.Fatalf("%v stay without a lease, keep is %d", unleased, keep)
		}
		if len(expired) > 0 && len(unleased) > 0 && slices.Min(unleased) < slices.Max(expired) {
			t.Fatalf("%v stays while %v goes", unleased, expired)
		}
	})
}

func TestNewestFallsBackAndSaysSo(t *testing.T) {
	have := committed(10, 40, 20, 30, 50)
	have[4].Files = nil
	have[1].Files = append(have[1].Files, v1.File{Path: "more"})
	gone := &penstock.Error{Code: penstock.NotFound, Msg: "there is no blob 1234"}
	got, passed := Newest(have, func(c v1.Checkpoint) error {
		switch {
		case c.Step > 30:
			t.Errorf("asked about step %d, whose digest is wrong", c.Step)
		case c.Step == 30:
			return gone
		}
		return nil
	})
	if got.Step != 20 || len(passed) != 3 {
		t.Fatalf("got step %d, passed over %v", got.Step, passed)
	}
	for i, want := range []string{"step 50 is passed over: it has no files", "step 40 is passed over: its 2 files", "step 30 is passed over: there is no blob 1234"} {
		if !strings.Contains(passed[i].Error(), want) {
			t.Errorf("said %q, want %q", passed[i], want)
		}
	}
	if !errors.Is(passed[2], gone) {
		t.Errorf("%v doesn't have its cause", passed[2])
	}
}

func TestNewestIsTheHighestUsableStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := drawSteps(t)
		bad := rapid.SliceOf(rapid.SampledFrom(append([]int64{-1}, steps...))).Draw(t, "bad")
		got, passed := Newest(committed(steps...), func(c v1.Checkpoint) error {
			if slices.Contains(bad, c.Step) {
				return errors.New("damaged")
			}
			return nil
		})
		want, newer := int64(-1), 0
		for _, s := range steps {
			if !slices.Contains(bad, s) {
				want = max(want, s)
			}
		}
		for _, s := range steps {
			if s > want {
				newer++
			}
		}
		if want < 0 && got.Digest != "" || want >= 0 && (got.Step != want || got.Digest == "") || len(passed) != newer {
			t.Fatalf("steps %v, bad %v: got %d with %d passed over, want %d with %d", steps, bad, got.Step, len(passed), want, newer)
		}
	})
}

// wasted is what a unit of work costs in time, by the model that Daly's estimate
// is for: M e^(R/M) (e^((interval+stall)/M) - 1) / interval. The time R that a
// restart takes has no part in where the minimum lies.
func wasted(interval, stall, mtbf float64) float64 {
	return mtbf * math.Expm1((interval+stall)/mtbf) / interval
}

func TestIntervalIsWhereTheLeastTimeIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.Float64Range(1, 1e6).Draw(t, "mtbf")
		d := m * math.Pow(10, rapid.Float64Range(-6, -0.3).Draw(t, "stall")) // up to half of mtbf
		stall, mtbf := time.Duration(d*1e9), time.Duration(m*1e9)
		got := wasted(Interval(stall, mtbf).Seconds(), d, m)
		// Golden-section search for the model's own minimum.
		const ratio = 0.6180339887498949
		low, high := d/1000, 10*m
		for range 200 {
			a, b := high-ratio*(high-low), low+ratio*(high-low)
			if wasted(a, d, m) < wasted(b, d, m) {
				high = b
			} else {
				low = a
			}
		}
		if best := wasted(low, d, m); got > best*1.0005 {
			t.Fatalf("stall %s, mtbf %s: %s costs %.6f, the best costs %.6f", stall, mtbf, Interval(stall, mtbf), got, best)
		}
	})
}

func TestIntervalOfWellKnownCases(t *testing.T) {
	for _, c := range []struct{ stall, mtbf, want time.Duration }{
		{0, time.Hour, 0}, {-1, time.Hour, 0}, {time.Second, 0, 0}, {time.Second, -time.Hour, 0},
		{2 * time.Hour, time.Hour, time.Hour}, {3 * time.Hour, time.Hour, time.Hour},
	} {
		if got := Interval(c.stall, c.mtbf); got != c.want {
			t.Errorf("stall %s, mtbf %s: %s, want %s", c.stall, c.mtbf, got, c.want)
		}
	}
	// Young: a stall of 1 s and a failure a day, sqrt(2·86400) s; the rest of
	// Daly's formula takes off two thirds of a second.
	if got := Interval(time.Second, 24*time.Hour).Seconds(); math.Abs(got-(math.Sqrt(2*86400)-2.0/3)) > 0.01 {
		t.Errorf("got %.3f s", got)
	}
}

// TestTheIntervalLosesLeastInASimulation lets a machine break at random times,
// and compares the interval with a third and with three times of it.
func TestTheIntervalLosesLeastInASimulation(t *testing.T) {
	const stall, mtbf, work = 30.0, 3600.0, 2e6
	run := func(interval float64) (took float64) {
		r := rand.New(rand.NewPCG(3, 4))
		breaks := r.ExpFloat64() * mtbf
		for done := 0.0; done < work; {
			if segment := interval + stall; took+segment <= breaks {
				took, done = took+segment, done+interval
			} else {
				took = breaks
				breaks += r.ExpFloat64() * mtbf
			}
		}
		return took
	}
	best := Interval(30*time.Second, time.Hour).Seconds()
	if got := run(best); got >= run(best/3) || got >= run(best*3) {
		t.Errorf("%.0f s takes %.0f, a third of it %.0f, three times of it %.0f", best, got, run(best/3), run(best*3))
	}
}
