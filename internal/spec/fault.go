package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
)

// Errors are all faults that were found, in a stable order: never empty, each
// with code Invalid. errors.As finds the first one as a *penstock.Error.
type Errors []*penstock.Error

// maxFaults bounds how many faults are told one by one.
const maxFaults = 50

// Error is one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, fault := range e {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, fault := range e {
		all[i] = fault
	}
	return all
}

// fault is what is wrong with the field at path, or with a line where there is
// no field yet.
type fault struct {
	path string
	line int
	msg  string
	hint string
}

// newErrors writes a fault of a file as "file:line: path: what", and one of an
// object without a file as "path: what".
func newErrors(file string, faults []fault) Errors {
	var all Errors
	for _, f := range faults[:min(len(faults), maxFaults)] {
		e := &penstock.Error{Code: penstock.Invalid, Where: f.path, Msg: f.msg, Hint: f.hint}
		if file != "" {
			e.Where = file + ":" + strconv.Itoa(max(1, f.line))
			if f.path != "" {
				e.Msg = f.path + ": " + f.msg
			}
		}
		all = append(all, e)
	}
	if more := len(faults) - maxFaults; more > 0 {
		all = append(all, &penstock.Error{
			Code: penstock.Invalid, Where: file, Msg: fmt.Sprintf("%d more faults", more), Hint: "mend these first",
		})
	}
	return all
}

// checker gathers the faults of one object.
type checker struct {
	file   string           // "" for an object of the API
	lines  map[string]place // by path
	broken []string         // paths whose value couldn't be read
	faults []fault

	hideValues bool // a secret's values are not for messages
}

// place is where a field was given.
type place struct {
	line  int
	given bool // with a value, and not with null
}

func newChecker(file string) *checker { return &checker{file: file, lines: map[string]place{}} }

// mark remembers where the value at path is.
func (c *checker) mark(path string, n *node) {
	c.lines[path] = place{line: n.line, given: n.shape != null}
}

func (c *checker) given(path string) bool { return c.lines[path].given }

// fault adds what is wrong with the field at path. It is quiet about a field
// that couldn't be read: that is told already, and its value means nothing.
func (c *checker) fault(path, hint, format string, args ...any) {
	if c.isBroken(path) {
		return
	}
	c.faults = append(c.faults, fault{path: path, line: c.line(path), msg: fmt.Sprintf(format, args...), hint: hint})
}

// refuse is fault for a value that can't be read at all.
func (c *checker) refuse(path, hint, format string, args ...any) {
	c.fault(path, hint, format, args...)
	c.hush(path)
}

// hush keeps quiet about path from here on.
func (c *checker) hush(path string) {
	if len(c.broken) < maxFaults {
		c.broken = append(c.broken, path)
	}
}

// wrap is fault for an error of the vocabulary.
func (c *checker) wrap(path string, err error) {
	var e *penstock.Error
	if errors.As(err, &e) {
		c.fault(path, e.Hint, "%s", e.Msg)
		return
	}
	c.fault(path, "", "%s", err)
}

func (c *checker) isBroken(path string) bool {
	return slices.ContainsFunc(c.broken, func(b string) bool { return within(path, b) || within(b, path) })
}

// within reports whether path is outer or a field somewhere in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// line is the line of the field at path, or of the nearest field around it.
func (c *checker) line(path string) int {
	for {
		if p, ok := c.lines[path]; ok || path == "" {
			return p.line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

func (c *checker) sorted() []fault {
	slices.SortStableFunc(c.faults, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	return c.faults
}
