package registry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/registry"
	"github.com/penstock/penstock/internal/spec"
)

func digest(n int) penstock.Digest {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d", n))
	return penstock.DigestOf(sum[:])
}

func TestVersionDigestIsTheSumOfTheCanonicalJSON(t *testing.T) {
	files := []v1.File{{Path: "b/<w>.gguf", Size: 12, Digest: digest(1)}, {Path: "a.txt", Size: 0, Digest: digest(2)}}
	canonical := fmt.Sprintf(`[{"digest":%q,"path":"a.txt","size":0},{"digest":%q,"path":"b/<w>.gguf","size":12}]`, digest(2), digest(1))
	sum := sha256.Sum256([]byte(canonical))
	got, err := registry.VersionDigest(files)
	if err != nil || got != penstock.DigestOf(sum[:]) {
		t.Errorf("digest is %s, %v; want that of %s", got, err, canonical)
	}
	if files[0].Path != "b/<w>.gguf" {
		t.Error("the caller's files were reordered")
	}
}

func TestVersionDigestDependsOnContentAndNotOnOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}\.[a-z]{1,3}`), 1, 8, rapid.ID).Draw(r, "names")
		files := make([]v1.File, len(names))
		for i, n := range names {
			files[i] = v1.File{Path: n, Size: int64(i), Digest: digest(i)}
		}
		want, err := registry.VersionDigest(files)
		if err != nil {
			r.Fatal(err)
		}
		got, err := registry.VersionDigest(rapid.Permutation(files).Draw(r, "order"))
		if err != nil || got != want {
			r.Fatalf("in another order the digest is %s, not %s (%v)", got, want, err)
		}
		i := rapid.IntRange(0, len(files)-1).Draw(r, "changed")
		switch rapid.IntRange(0, 2).Draw(r, "field") {
		case 0:
			files[i].Size++
		case 1:
			files[i].Digest = digest(1000)
		case 2:
			files[i].Path += "x"
		}
		if got, err := registry.VersionDigest(files); err == nil && got == want {
			r.Fatalf("other files have the same digest")
		}
	})
}

func TestFilesThatCannotBeLaidOutAreRefused(t *testing.T) {
	one := func(p string) []v1.File { return []v1.File{{Path: p, Size: 1, Digest: digest(1)}} }
	for name, files := range map[string][]v1.File{
		"none": nil, "empty": one(""), "dot": one("."), "up": one(".."), "up and away": one("../x"), "up within": one("a/../x"),
		"absolute": one("/etc/passwd"), "double slash": one("a//b"), "trailing slash": one("a/"), "dot slash": one("./a"),
		"backslash": one(`a\b`), "newline": one("a\nb"), "zero": one("a\x00b"), "not UTF-8": one("a\xff"), "long": one(strings.Repeat("a", 1025)),
		"twice":             append(one("a"), one("a")...),
		"below a file":      append(one("a/b/c"), one("a")...),
		"negative size":     {{Path: "a", Size: -1, Digest: digest(1)}},
		"size beyond JSON":  {{Path: "a", Size: 1<<53 + 1, Digest: digest(1)}},
		"no digest":         {{Path: "a", Size: 1}},
		"hostile digest":    {{Path: "a", Size: 1, Digest: "sha256:../../x"}},
		"63 digits":         {{Path: "a", Size: 1, Digest: digest(1)[:70]}},
		"65 digits":         {{Path: "a", Size: 1, Digest: digest(1) + "0"}},
		"upper-case digits": {{Path: "a", Size: 1, Digest: "sha256:" + penstock.Digest(strings.ToUpper(digest(1).Hex()))}},
	} {
		if d, err := registry.VersionDigest(files); penstock.CodeOf(err) != penstock.Invalid || d != "" {
			t.Errorf("%s: %s, %v; want Invalid", name, d, err)
		}
	}
	if _, err := registry.VersionDigest([]v1.File{{Path: "a/b..c/.hidden", Size: 1, Digest: digest(1)}, {Path: "a/b", Digest: digest(2)}, {Path: "ab", Digest: digest(2)}}); err != nil {
		t.Errorf("good paths: %v", err)
	}
}

func version(n int, phase penstock.Phase) v1.ModelVersion {
	v := v1.ModelVersion{Spec: v1.ModelVersionSpec{Model: "tiny", Digest: digest(n)}}
	v.Metadata.Phase = phase
	return v
}

func TestResolveTakesAliasDigestOrTheNewestReady(t *testing.T) {
	model := v1.Model{Status: v1.ModelStatus{Aliases: map[string]penstock.Digest{"production": digest(1), "lost": digest(9)}}}
	versions := []v1.ModelVersion{version(1, penstock.PhaseReady), version(2, penstock.PhaseReady), version(3, penstock.PhaseRefused), version(4, penstock.PhaseScanning)}
	for ref, want := range map[spec.ModelRef]penstock.Digest{
		{Name: "tiny"}:                      digest(2),
		{Name: "tiny", Alias: "production"}: digest(1),
		{Name: "tiny", Digest: digest(3)}:   digest(3),
		{Name: "tiny", Digest: digest(7)}:   "",
		{Name: "tiny", Alias: "staging"}:    "",
		{Name: "tiny", Alias: "lost"}:       "",
	} {
		got, err := registry.Resolve(ref, model, versions)
		if got != want || want == "" && penstock.CodeOf(err) != penstock.NotFound || want != "" && err != nil {
			t.Errorf("%s resolves to %q, %v; want %q", ref, got, err, want)
		}
	}
	if _, err := registry.Resolve(spec.ModelRef{Name: "tiny"}, model, versions[2:]); penstock.CodeOf(err) != penstock.NotFound {
		t.Errorf("no version is ready: %v", err)
	}
	var e *penstock.Error
	if _, err := registry.Resolve(spec.ModelRef{Name: "tiny", Alias: "staging"}, model, versions); !errors.As(err, &e) || e.Hint != "the aliases are lost, production" {
		t.Errorf("the error doesn't say what aliases there are: %+v", e)
	}
}

func TestOfTwoMovesFromOnePlaceOneWins(t *testing.T) {
	start := v1.Model{Metadata: v1.Metadata{Name: "tiny"}}
	first, err := registry.Move(start, "production", "", digest(1))
	if err != nil || first.Status.Aliases["production"] != digest(1) || start.Status.Aliases != nil {
		t.Fatalf("first move: %+v, %v; start %+v", first.Status, err, start.Status)
	}
	second, err := registry.Move(first, "production", digest(1), digest(2))
	if err != nil || second.Status.Aliases["production"] != digest(2) {
		t.Fatalf("second move: %+v, %v", second.Status, err)
	}
	if first.Status.Aliases["production"] != digest(1) {
		t.Error("moving changed the model that was given")
	}
	late, err := registry.Move(second, "production", digest(1), digest(3))
	if penstock.CodeOf(err) != penstock.Conflict || !strings.Contains(err.Error(), digest(2).Short()) {
		t.Errorf("the late move: %v; want Conflict that names %s", err, digest(2).Short())
	}
	if diff := cmp.Diff(second, late); diff != "" {
		t.Errorf("a refused move changes the model (-want +got)\n%s", diff)
	}
	for _, bad := range []struct {
		alias string
		to    penstock.Digest
	}{{"Prod", digest(1)}, {"", digest(1)}, {"prod", ""}, {"prod", "sha256:x"}} {
		if _, err := registry.Move(start, bad.alias, "", bad.to); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("move %q to %q: %v; want Invalid", bad.alias, bad.to, err)
		}
	}
}

func TestHistoryAnswersWhatWasProductionAtATime(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 3, n, 12, 0, 0, 0, time.UTC) }
	moves := []v1.AliasMove{
		{Alias: "production", To: digest(1), At: day(2)},
		{Alias: "staging", To: digest(9), At: day(3)},
		{Alias: "production", From: digest(1), To: digest(2), At: day(5)},
		{Alias: "production", From: digest(2), To: digest(3), At: day(5)},
		{Alias: "production", From: digest(3), To: digest(1), At: day(8)},
	}
	for _, c := range []struct {
		at   time.Time
		want penstock.Digest
	}{
		{day(1), ""}, {day(2).Add(-1), ""}, {day(2), digest(1)}, {day(4), digest(1)}, {day(5), digest(3)}, {day(7), digest(3)}, {day(30), digest(1)},
	} {
		got, found := registry.At(moves, "production", c.at)
		if got.To != c.want || found != (c.want != "") {
			t.Errorf("at %s production was %q, want %q", c.at, got.To, c.want)
		}
	}
}

func TestHistoryAgreesWithReplayingTheMoves(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		model, start := v1.Model{}, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		var moves []v1.AliasMove
		was := map[int]penstock.Digest{} // by hour
		for hour := range rapid.IntRange(0, 20).Draw(r, "hours") {
			if rapid.Bool().Draw(r, "moves") {
				from, to := model.Status.Aliases["production"], digest(rapid.IntRange(0, 3).Draw(r, "to"))
				var err error
				if model, err = registry.Move(model, "production", from, to); err != nil {
					r.Fatal(err)
				}
				moves = append(moves, v1.AliasMove{Alias: "production", From: from, To: to, At: start.Add(time.Duration(hour) * time.Hour)})
			}
			was[hour] = model.Status.Aliases["production"]
		}
		shuffled := rapid.Permutation(moves).Draw(r, "order")
		for hour, want := range was {
			if got, _ := registry.At(shuffled, "production", start.Add(time.Duration(hour)*time.Hour+time.Minute)); got.To != want {
				r.Fatalf("in hour %d it was %q, history says %q", hour, want, got.To)
			}
		}
	})
}

func TestLineageNamesAllThatAVersionCameFrom(t *testing.T) {
	data := v1.Input{Name: "text", Kind: penstock.KindDatasetVersion, UID: "u1", Digest: digest(1)}
	base := v1.Input{Name: "base", Kind: penstock.KindModelVersion, UID: "u2", Digest: digest(2)}
	job := v1.Job{
		Metadata: v1.Metadata{Name: "train-7", UID: "job", CreatedBy: "ann", Labels: map[string]string{"trigger": "monitor/drift"}},
		Spec: v1.JobSpec{
			Parameters: map[string]string{"lr": "0.1"},
			Tasks:      []v1.TaskSet{{Name: "helper"}, {Name: "worker", Code: &v1.Code{Digest: digest(3)}}},
		},
		Status: v1.JobStatus{Inputs: []v1.Input{base, data}},
	}
	attempt := v1.Attempt{Spec: v1.AttemptSpec{Number: 2}}
	want := v1.Lineage{
		Job: "train-7", JobUID: "job", Attempt: 2, Step: 400, Checkpoint: digest(4), Datasets: []v1.Input{data}, Base: []v1.Input{base},
		Code: digest(3), Parameters: map[string]string{"lr": "0.1"}, Author: "ann", Trigger: "monitor/drift",
	}
	if diff := cmp.Diff(want, registry.Lineage(job, attempt, &v1.Checkpoint{Step: 400, Digest: digest(4)})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := registry.Lineage(v1.Job{}, attempt, nil); got.Step != -1 || got.Checkpoint != "" {
		t.Errorf("without a checkpoint the step is %d of %q, want -1", got.Step, got.Checkpoint)
	}
}

func TestVersionNameIsTheNameAndTheShortDigest(t *testing.T) {
	name := registry.VersionName("tiny", digest(1))
	if want := "tiny-" + digest(1).Hex()[:12]; name != want {
		t.Errorf("%s, want %s", name, want)
	}
	if err := penstock.CheckName(name); err != nil {
		t.Error(err)
	}
}
