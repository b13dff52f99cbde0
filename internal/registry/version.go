// Package registry names what came out of the work: immutable versions by the
// digest of their files, aliases that are moved by compare-and-set and never
// forget where they pointed, and the lineage that says what a version was made
// from. It is pure logic; control keeps the results.
package registry

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The bounds of a version. A size is at most what a JSON number holds exactly,
// so that the digest doesn't depend on who reads it.
const (
	maxFiles = 100_000
	maxPath  = 1024
	maxSize  = 1 << 53
)

// VersionDigest names a set of files: the SHA-256 of the canonical JSON (RFC
// 8785) of the files in order of their paths. The order in which they are given
// doesn't matter. Files that could not be laid out as they are named are
// Invalid: a path must be relative, clean, of slashes, and may not be another
// one or lie below another file.
func VersionDigest(files []v1.File) (penstock.Digest, error) {
	if len(files) == 0 || len(files) > maxFiles {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("a version of %d files; 1 to %d are allowed", len(files), maxFiles)}
	}
	sorted := slices.SortedFunc(slices.Values(files), func(a, b v1.File) int { return strings.Compare(a.Path, b.Path) })
	seen := make(map[string]bool, len(sorted))
	for _, f := range sorted {
		if err := checkFile(f); err != nil {
			return "", err
		}
		if seen[f.Path] {
			return "", &penstock.Error{Code: penstock.Invalid, Where: f.Path, Msg: "the file is there twice"}
		}
		seen[f.Path] = true
	}
	for _, f := range sorted {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return "", &penstock.Error{Code: penstock.Invalid, Where: f.Path, Msg: fmt.Sprintf("it lies below %.80q, which is a file", dir)}
			}
		}
	}
	return digestOf(sorted)
}

func checkFile(f v1.File) error {
	p := f.Path
	switch {
	case p == "" || len(p) > maxPath || !utf8.ValidString(p) || strings.ContainsFunc(p, unprintable),
		path.IsAbs(p), path.Clean(p) != p, p == ".", p == "..", strings.HasPrefix(p, "../"), strings.Contains(p, `\`):
		return &penstock.Error{
			Code: penstock.Invalid, Where: fmt.Sprintf("%.80q", p), Msg: "it can't be the path of a version's file",
			Hint: fmt.Sprintf("use a relative path of at most %d bytes, with slashes and without ., .. and control characters", maxPath),
		}
	case f.Size < 0 || f.Size > maxSize:
		return &penstock.Error{Code: penstock.Invalid, Where: p, Msg: fmt.Sprintf("a size of %d bytes; 0 to %d are allowed", f.Size, int64(maxSize))}
	}
	if _, err := penstock.ParseDigest(string(f.Digest)); err != nil {
		return fmt.Errorf("file %s: %w", p, err)
	}
	return nil
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f }

func digestOf(files []v1.File) (penstock.Digest, error) {
	raw, err := json.Marshal(files)
	if err != nil {
		return "", fmt.Errorf("encode files: %w", err)
	}
	canonical := jsontext.Value(raw)
	if err := canonical.Canonicalize(); err != nil {
		return "", fmt.Errorf("encode files: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return penstock.DigestOf(sum[:]), nil
}

// VersionName is the name of the version's object: the model's or dataset's
// name, a dash, and the first 12 digits of the digest.
func VersionName(name string, d penstock.Digest) string { return name + "-" + d.Short() }
