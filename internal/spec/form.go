package spec

import (
	"cmp"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The forms of words that end in paths, environments and reports.
var (
	plainKey     = regexp.MustCompile(`^[A-Za-z0-9_$-]{1,63}$`)
	labelForm    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
	envForm      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	resourceForm = regexp.MustCompile(`^[a-z]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	keyForm      = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)
	hostForm     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,7}$`)
	deviceForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
)

// Bounds that keep every sum of what one object asks within an Amount.
const (
	maxAmount   penstock.Amount = 1 << 48 // of one resource in one task or machine
	maxQuota    penstock.Amount = 1 << 60 // of one resource in a quota
	maxTasks                    = 10_000  // of a gang
	maxPriority                 = 1000
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// defaulted sets what was left out. A 0 that was written stays, for the check of
// the range to refuse: nobody who writes replicas: 0 wants one.
func defaulted[T comparable](c *checker, path string, v *T, standard T) {
	var zero T
	if *v == zero && !c.given(path) {
		*v = standard
	}
}

// between checks low ≤ v ≤ high.
func between[T cmp.Ordered](c *checker, path string, v, low, high T) {
	if v < low || v > high {
		c.fault(path, "", "must be from %v to %v, not %v", low, high, v)
	}
}

// atLeast checks low ≤ v.
func atLeast[T cmp.Ordered](c *checker, path string, v, low T) {
	if v < low {
		c.fault(path, "", "must be %v or more, not %v", low, v)
	}
}

func (c *checker) duration(path string, d v1.Duration, low, high time.Duration) {
	between(c, path, time.Duration(d), low, high)
}

// name checks the name of an object, which is also a part of paths.
func (c *checker) name(path, s string) bool {
	if err := penstock.CheckName(s); err != nil {
		c.wrap(path, err)
		return false
	}
	return true
}

// seen refuses names that come twice in one list.
type seen map[string]string

func (s seen) add(c *checker, path, name string) {
	if first, twice := s[name]; twice {
		c.fault(path, "", "%.80q is there already, at %s", name, first)
		return
	}
	s[name] = path
}

func (s seen) names() []string { return sortedKeys(s) }

// text checks one printable line of low to high bytes.
func (c *checker) text(path, s string, low, high int) {
	switch {
	case len(s) < low && s == "":
		c.fault(path, "", "must not be empty")
	case len(s) > high:
		c.fault(path, "", "has %d bytes, more than %d", len(s), high)
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		c.fault(path, "", "%.60q has characters that can't be printed", s)
	}
}

// argument checks a word that a process is given: it can't hold a NUL.
func (c *checker) argument(path, s string) {
	if strings.ContainsRune(s, 0) {
		c.fault(path, "", "can't hold a NUL")
	}
}

// inside checks a path that must stay within the folder it is looked up in.
func (c *checker) inside(field, p string) {
	clean := path.Clean(p)
	switch {
	case p == "" || clean == ".":
		c.fault(field, "", "must name a file")
	case strings.HasPrefix(p, "/") || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(p, "\\\x00"):
		c.fault(field, "write a relative path with '/', without ..", "%.80q leads out of its folder", p)
	case clean != p:
		c.fault(field, "write "+clean, "%.80q is not the shortest form of the path", p)
	}
}

// resource checks the name of a resource.
func (c *checker) resource(path string, r penstock.Resource) bool {
	if resourceForm.MatchString(string(r)) {
		return true
	}
	hint := "use cpu, memory, or a type of accelerator in lower case, such as h100"
	if lower := strings.ToLower(string(r)); resourceForm.MatchString(lower) {
		hint = "did you mean " + lower + "?"
	}
	c.refuse(path, hint, "%.60q can't be a resource", string(r))
	return false
}

// needs checks what one task takes or one machine has.
func (c *checker) needs(path string, r penstock.Resources) {
	for _, name := range r.Names() {
		inner, a := under(path, string(name)), r[name]
		switch {
		case a <= 0:
			c.fault(inner, "leave it out", "must be more than 0")
		case a > maxAmount:
			c.fault(inner, "", "%s is more than the %s that can be counted", name.Format(a), name.Format(maxAmount))
		}
	}
}

// standardNeeds is what a task gets that says nothing: work that takes nothing
// would escape every quota.
func (c *checker) standardNeeds(path string, r *penstock.Resources) {
	if len(*r) == 0 && !c.given(path) {
		*r = penstock.Resources{penstock.CPU: 1000}
	}
	if len(*r) == 0 {
		c.fault(path, "write for instance {cpu: 1, memory: 1Gi}, or leave it out for 1 CPU", "must not be empty")
	}
	c.needs(path, *r)
	for _, name := range r.Names() {
		if a := (*r)[name]; name.Accelerator() && a > 1000 && a%1000 != 0 {
			c.fault(under(path, string(name)), "write a whole number, or less than 1", "%s devices: only one device can be shared", name.Format(a))
		}
	}
}

// command checks the words that start a program.
func (c *checker) command(path string, words []string) {
	if len(words) == 0 || words[0] == "" {
		c.fault(path, "write the program and its arguments, such as [python, train.py]", "must not be empty")
	}
	for i, w := range words {
		c.argument(at(path, i), w)
	}
}

func (c *checker) digest(path string, d penstock.Digest) {
	if _, err := penstock.ParseDigest(string(d)); err != nil {
		c.wrap(path, err)
	}
}

// reference checks a ModelRef's text.
func (c *checker) reference(path, s string) ModelRef {
	ref, err := ParseModelRef(s)
	if err != nil {
		c.wrap(path, err)
	}
	return ref
}
