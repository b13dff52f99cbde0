package dataset

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Manifest is the name of the file that describes a version: a
// v1.DatasetVersionSpec in JSON.
const Manifest = "version.json"

// Digest names a version: the SHA-256 of the canonical JSON (RFC 8785) of its
// spec without Digest and without the dataset's name: the same recipe on the
// same files is the same data, whatever it is called.
func Digest(spec v1.DatasetVersionSpec) penstock.Digest {
	spec.Digest, spec.Dataset = "", ""
	return digestOf(spec)
}

// digestOf is the digest of v's canonical JSON. The values that it is used with
// always encode; were one not to, the empty result would match no digest.
func digestOf(v any) penstock.Digest {
	raw, err := json.Marshal(v)
	canonical := jsontext.Value(raw)
	if err != nil || canonical.Canonicalize() != nil {
		return ""
	}
	sum := sha256.Sum256(canonical)
	return penstock.DigestOf(sum[:])
}

// recipe is the digest of what was done, wherever the files lay.
func recipe(spec v1.DatasetSpec) penstock.Digest {
	return digestOf(struct {
		Include  []string   `json:"include,omitempty"`
		Exclude  []string   `json:"exclude,omitempty"`
		MaxFiles int        `json:"maxFiles,omitempty"`
		Prepare  v1.Prepare `json:"prepare"`
	}{spec.Source.Include, spec.Source.Exclude, spec.Source.MaxFiles, spec.Prepare})
}

// maxSize is the largest size that a JSON number holds exactly, so that the
// digest doesn't depend on who reads it.
const maxSize = 1 << 53

// Verify says whether files are exactly what a version's manifest says: each
// shard with its size and digest, the manifest itself, and nothing else; and
// whether the manifest agrees with itself. What doesn't is Invalid.
func Verify(spec v1.DatasetVersionSpec, files []v1.File) error {
	if want := Digest(spec); spec.Digest != want {
		return invalid("", "the manifest says that its digest is %.80q; it is %s", string(spec.Digest), want)
	}
	if err := verifyCounts(spec); err != nil {
		return err
	}
	stored := make(map[string]v1.File, len(files))
	for _, f := range files {
		if _, twice := stored[f.Path]; twice {
			return invalid(f.Path, "the file is there twice")
		}
		stored[f.Path] = f
	}
	delete(stored, Manifest)
	for _, split := range sortedKeys(spec.Splits) {
		for _, shard := range spec.Splits[split].Shards {
			got, ok := stored[shard.Path]
			switch {
			case !ok:
				return invalid(shard.Path, "the manifest has this shard of %s once more than there is", split)
			case got != shard:
				return invalid(shard.Path, "the manifest says %d bytes with digest %s; stored are %d with %s", shard.Size, shard.Digest, got.Size, got.Digest)
			}
			delete(stored, shard.Path)
		}
	}
	for _, name := range sortedKeys(stored) {
		return invalid(name, "the manifest doesn't have this file")
	}
	return nil
}

// verifyCounts checks the sums, and that sizes and tokens agree.
func verifyCounts(spec v1.DatasetVersionSpec) error {
	if _, ok := formats[spec.Format]; !ok {
		return invalid("", "format %.40q is unknown", spec.Format)
	}
	documents, dropped := int64(0), int64(0)
	for _, split := range sortedKeys(spec.Splits) {
		s := spec.Splits[split]
		size := int64(0)
		for _, shard := range s.Shards {
			if shard.Size <= 0 || shard.Size > maxSize-size {
				return invalid(shard.Path, "a shard of %d bytes", shard.Size)
			}
			size += shard.Size
		}
		if spec.Format == "tokens-u16" && size != 2*s.Tokens {
			return invalid(split, "%d tokens of 2 bytes in %d bytes of shards", s.Tokens, size)
		}
		documents += s.Documents
	}
	for _, n := range spec.Counts.Dropped {
		dropped += n
	}
	if c := spec.Counts; documents != c.Out || c.In != c.Out+dropped {
		return invalid("", "the counts don't add up: %d in, %d out, %d dropped, %d in the splits", c.In, c.Out, dropped, documents)
	}
	return nil
}

func invalid(where, format string, args ...any) error {
	return &penstock.Error{
		Code: penstock.Invalid, Where: where, Msg: fmt.Sprintf(format, args...),
		Hint: "prepare the dataset again; what made this version wrote something else than it says",
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
