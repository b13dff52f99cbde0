package dataset

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// collect lists the paths of the documents, in order.
func collect(ctx context.Context, src fs.FS, s v1.Source) ([]string, error) {
	include, err := parsePatterns(s.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := parsePatterns(s.Exclude)
	if err != nil {
		return nil, err
	}
	var paths []string
	err = fs.WalkDir(src, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return canceled(ctx)
		case err != nil:
			return unlistable(name, err)
		case e.IsDir() && excludesAllOf(exclude, name):
			return fs.SkipDir
		case !e.Type().IsRegular(), matchAny(exclude, name):
			return nil
		case len(include) == 0 || matchAny(include, name):
			paths = append(paths, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(paths) // a walk takes a/b before a.go
	if s.MaxFiles > 0 && len(paths) > s.MaxFiles {
		paths = slices.Clip(paths[:s.MaxFiles])
	}
	return paths, nil
}

// excludesAllOf saves walking, and asking for rights, where nothing is wanted.
func excludesAllOf(exclude []pattern, dir string) bool {
	for _, p := range exclude {
		if last := len(p) - 1; last > 0 && p[last] == "**" && p[:last].match(dir) {
			return true
		}
	}
	return false
}

// unlistable is an error, not a drop: nobody knows how many documents it is about.
func unlistable(name string, err error) error {
	return &penstock.Error{
		Code: penstock.Unavailable, Where: name, Msg: "the folder can't be listed", Err: err,
		Hint: "make it readable, or exclude it: exclude: [\"" + name + "/**\"]",
	}
}

func canceled(ctx context.Context) error {
	return &penstock.Error{Code: penstock.Canceled, Msg: "the preparation was given up", Err: context.Cause(ctx)}
}

// maxDocument bounds what is held of one document, in bytes before cleaning.
const maxDocument = 32 << 20

// reader reads documents into one buffer.
type reader struct {
	src      fs.FS
	min, max int64 // of the cleaned text; max 0 is no bound
	buffer   bytes.Buffer
}

// read gives a document's cleaned text, good until the next call, or the reason
// to drop it.
func (r *reader) read(name string) (text []byte, drop string) {
	r.buffer.Reset()
	f, err := r.src.Open(name)
	if err != nil {
		return nil, "unreadable"
	}
	defer f.Close()
	if _, err := r.buffer.ReadFrom(io.LimitReader(f, maxDocument+1)); err != nil {
		return nil, "unreadable"
	}
	raw := r.buffer.Bytes()
	if len(raw) > maxDocument {
		return nil, "too_large"
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return nil, "binary"
	}
	if !utf8.Valid(raw) {
		return nil, "not_utf8"
	}
	text = clean(raw)
	switch n := int64(len(text)); {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, "empty"
	case n < r.min:
		return nil, "too_small"
	case r.max > 0 && n > r.max:
		return nil, "too_large"
	}
	return text, ""
}

// clean strips the end of each line, in place. Cleaning twice changes nothing.
func clean(b []byte) []byte {
	out := b[:0]
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte{'\n'})
		out = append(out, bytes.TrimRight(line, " \t\r")...)
		if found {
			out = append(out, '\n')
		}
		b = rest
	}
	return out
}

// none says that nothing is left to make a version of, and why.
func none(source v1.Source, counts v1.Counts) error {
	if counts.In == 0 {
		return &penstock.Error{
			Code: penstock.Invalid, Where: source.Path, Msg: "no file is there that the patterns match",
			Hint: fmt.Sprintf("look at include %q and exclude %q: they are matched with the path below the source's folder", source.Include, source.Exclude),
		}
	}
	var why []string
	for _, reason := range sortedKeys(counts.Dropped) {
		why = append(why, fmt.Sprintf("%d %s", counts.Dropped[reason], reason))
	}
	return &penstock.Error{
		Code: penstock.Invalid, Where: source.Path, Msg: fmt.Sprintf("all %d documents were dropped: %s", counts.In, strings.Join(why, ", ")),
		Hint: "look at minBytes, maxBytes and the patterns",
	}
}
