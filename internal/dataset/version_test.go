package dataset

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestTheDigestIsOfTheCanonicalJSONWithoutItselfAndTheName(t *testing.T) {
	spec := v1.DatasetVersionSpec{
		Dataset: "go", Format: "tokens-u16", Recipe: "sha256:00",
		Splits: map[string]v1.SplitFiles{"b": {Shards: []v1.File{{Path: "<b>", Size: 4, Digest: "sha256:01"}}, Documents: 1, Tokens: 2}, "a": {Shards: []v1.File{}}},
		Counts: v1.Counts{In: 2, Out: 1, Dropped: map[string]int64{"empty": 1}, Bytes: 1},
	}
	// printf '%s' '{"counts":{"bytes":1,"dropped":{"empty":1},"in":2,"out":1},"dataset":"","format":"tokens-u16","recipe":"sha256:00","splits":{"a":{"documents":0,"shards":[],"tokens":0},"b":{"documents":1,"shards":[{"digest":"sha256:01","path":"<b>","size":4}],"tokens":2}}}' | sha256sum
	const want = "sha256:e73985bf9a43f78dc0016bbb2222fc5c4db4c490aee41bc17abeacb6525cb9e7"
	if got := Digest(spec); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	spec.Digest, spec.Dataset = "sha256:something else", "twin"
	if got := Digest(spec); got != want {
		t.Errorf("with a digest in it and another name: %s, want %s", got, want)
	}
}

// TestVerifyFindsEachDifference changes one thing at a time in what was uploaded
// or in what the manifest says.
func TestVerifyFindsEachDifference(t *testing.T) {
	spec := plain()
	spec.Prepare.ShardBytes, spec.Prepare.Split = 1024, map[string]int{"train": 50, "heldout": 50}
	files := map[string]string{}
	for i := range 20 {
		files[string(rune('a'+i))] = strings.Repeat(string(rune('a'+i)), 100)
	}
	good, written := mustPrepare(t, spec, tree(files))
	stored := fileList(written)
	if err := Verify(good, stored); err != nil {
		t.Fatalf("what was written: %v", err)
	}
	uploads := map[string]func(f []v1.File) []v1.File{
		"nothing":              func([]v1.File) []v1.File { return nil },
		"a shard is missing":   func(f []v1.File) []v1.File { return f[1:] },
		"a shard is shorter":   func(f []v1.File) []v1.File { f[0].Size -= 2; return f },
		"a shard has changed":  func(f []v1.File) []v1.File { f[0].Digest = f[1].Digest; return f },
		"a shard is renamed":   func(f []v1.File) []v1.File { f[0].Path = "sub/" + f[0].Path; return f },
		"a file more":          func(f []v1.File) []v1.File { return append(f, v1.File{Path: "more", Size: 1, Digest: f[0].Digest}) },
		"the same file twice":  func(f []v1.File) []v1.File { return append(f, f[0]) },
		"a second, other file": func(f []v1.File) []v1.File { return append(f, v1.File{Path: f[0].Path, Digest: f[1].Digest}) },
	}
	for name, change := range uploads {
		wantInvalid(t, name, Verify(good, change(slices.Clone(stored))))
	}
	train := func(change func(s *v1.SplitFiles)) func(*v1.DatasetVersionSpec) {
		return func(v *v1.DatasetVersionSpec) {
			s := v.Splits["train"]
			s.Shards = slices.Clone(s.Shards)
			change(&s)
			v.Splits["train"] = s
		}
	}
	manifests := map[string]func(v *v1.DatasetVersionSpec){
		"a document more in":     func(v *v1.DatasetVersionSpec) { v.Counts.In++ },
		"a document more out":    func(v *v1.DatasetVersionSpec) { v.Counts.Out++ },
		"a document more lost":   func(v *v1.DatasetVersionSpec) { v.Counts.Dropped = map[string]int64{"empty": 1} },
		"an unknown format":      func(v *v1.DatasetVersionSpec) { v.Format = "mds" },
		"a document more":        train(func(s *v1.SplitFiles) { s.Documents++ }),
		"a token more":           train(func(s *v1.SplitFiles) { s.Tokens++ }),
		"a shard twice":          train(func(s *v1.SplitFiles) { s.Shards = append(s.Shards, s.Shards[0]); s.Tokens += s.Shards[0].Size / 2 }),
		"a shard of nothing":     train(func(s *v1.SplitFiles) { s.Shards = append(s.Shards, v1.File{Path: "x"}) }),
		"a shard of minus bytes": train(func(s *v1.SplitFiles) { s.Shards[0].Size = -s.Shards[0].Size }),
		"a shard of too many":    train(func(s *v1.SplitFiles) { s.Shards[0].Size = 1 << 62 }),
		"no splits":              func(v *v1.DatasetVersionSpec) { v.Splits = nil },
	}
	for name, change := range manifests {
		bad := good
		bad.Splits = maps.Clone(good.Splits)
		change(&bad)
		wantInvalid(t, name+", with the old digest", Verify(bad, stored))
		bad.Digest = Digest(bad)
		wantInvalid(t, name, Verify(bad, stored))
	}
}

func wantInvalid(t *testing.T, what string, err error) {
	t.Helper()
	if penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("%s: %v, want invalid", what, err)
	}
}
