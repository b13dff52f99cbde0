// Package scan judges the files of a model version by their bytes: is each one
// what it claims to be, and can loading it run somebody else's code?
//
// It is an allow-list. Safetensors, GGUF and plain text are clean when every
// rule of their format holds; all else is blocked, with the reason. Lists of
// known evil lose against new evil (two thirds of a public set of malicious
// pickles passed one), so they only sharpen the verdict here, from
// "inconclusive" to "malicious", and never clear a file.
//
// The package is pure: bytes come as an io.ReaderAt with a size, no time is
// read and nothing is kept. What it allocates is bounded by the bytes that are
// there, never by what a header claims.
package scan

import (
	"errors"
	"fmt"
	"io"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Ruleset names the rules of this package. It goes up when a verdict may
// change, so that versions judged by older rules can be judged again.
const Ruleset = "penstock-scan/1"

// The verdicts, best first. Everything but Clean is blocked.
const (
	Clean        = "clean"
	Inconclusive = "inconclusive" // a format that can hold code, isn't known, or could not be read
	Malformed    = "malformed"    // breaks the rules of its own format
	Malicious    = "malicious"    // names something that only an attack needs
)

// File is one file of a version. Path is only used for the finding and for the
// promise that its extension makes; what the file is, its bytes say.
type File struct {
	Path string
	Size int64
	io.ReaderAt
}

// Scan judges all files. The verdict is that of the worst one, and there is a
// finding for each file that isn't clean. No files at all is inconclusive. At
// is left for the caller to set.
func Scan(files []File) v1.Scan {
	s := v1.Scan{Verdict: Clean, Ruleset: Ruleset}
	if len(files) == 0 {
		s.Findings = append(s.Findings, v1.Finding{Verdict: Inconclusive, Detail: "the version has no files"})
	}
	for _, f := range files {
		if j := judge(f); j.verdict != Clean {
			s.Findings = append(s.Findings, v1.Finding{Path: f.Path, Verdict: j.verdict, Detail: j.detail})
		}
	}
	for _, found := range s.Findings {
		if rank(found.Verdict) > rank(s.Verdict) {
			s.Verdict = found.Verdict
		}
	}
	return s
}

func rank(verdict string) int {
	for i, v := range []string{Clean, Inconclusive, Malformed, Malicious} {
		if v == verdict {
			return i
		}
	}
	return rank(Malicious)
}

// Info is what a model file says of itself, after it has passed the rules.
type Info struct {
	Format       string // "gguf" or "safetensors"
	Architecture string // "llama"; empty where the format doesn't tell
	Tensors      int
	Parameters   int64 // elements of all tensors
}

// judgement is the verdict on one file and why.
type judgement struct{ verdict, detail string }

// judgementOf turns what a parser said into a verdict: bad bytes are
// malformed, bytes that could not be had are no verdict at all.
func judgementOf(err error) judgement {
	switch {
	case err == nil:
		return judgement{verdict: Clean}
	case penstock.CodeOf(err) == penstock.Invalid:
		return judgement{Malformed, err.Error()}
	}
	return judgement{Inconclusive, "the file could not be read to its end"}
}

// malformed is the error for bytes that break a rule; where is a byte offset or
// a tensor.
func malformed(where, format string, args ...any) error {
	return &penstock.Error{
		Code: penstock.Invalid, Where: where, Msg: fmt.Sprintf(format, args...),
		Hint: "write the file again with the format's own library, and check that it was copied whole",
	}
}

// unreadable is the error for a reader that failed or ended before its size.
func unreadable(offset int64, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &penstock.Error{Code: penstock.Unavailable, Where: byteAt(offset), Msg: "can't read the file", Err: err}
}

func byteAt(offset int64) string { return fmt.Sprintf("byte %d", offset) }
