package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// hidden stands for a secret's value.
const hidden = "(hidden)"

// Diff gives the fields of labels and spec that differ, one change for each
// value that is no object or list, in the order of labels, then spec, by name
// and index. Either side may be the zero Object. Values of a Secret are never
// in it: that one changed is all that is told.
func Diff(old, new v1.Object) []v1.FieldChange {
	d := differ{secret: old.Kind == penstock.KindSecret || new.Kind == penstock.KindSecret}
	d.compare("metadata.labels", labelNode(old), labelNode(new))
	d.compare("spec", specNode(old), specNode(new))
	return d.changes
}

type differ struct {
	secret  bool
	changes []v1.FieldChange
}

func (d *differ) compare(path string, old, new *node) {
	from, to := children(path, old), children(path, new)
	if len(from)+len(to) == 0 {
		if before, after := show(old), show(new); before != after {
			d.changes = append(d.changes, v1.FieldChange{Path: path, From: d.hide(path, before), To: d.hide(path, after)})
		}
		return
	}
	if len(from) == 0 && old.shape != object && old.shape != list {
		d.compare(path, old, &node{})
	}
	paths := order(from, to)
	for _, inner := range paths {
		d.compare(inner, orNothing(from[inner]), orNothing(to[inner]))
	}
	if len(to) == 0 && new.shape != object && new.shape != list {
		d.compare(path, &node{}, new)
	}
}

func (d *differ) hide(path, value string) string {
	if d.secret && value != "" && within(path, "spec") {
		return hidden
	}
	return value
}

func orNothing(n *node) *node {
	if n == nil {
		return &node{}
	}
	return n
}

// children are the parts of an object or list, by path.
func children(path string, n *node) map[string]*node {
	parts := map[string]*node{}
	for _, e := range n.entries {
		parts[under(path, e.key)] = e.value
	}
	for i, item := range n.items {
		parts[at(path, i)] = item
	}
	return parts
}

// order sorts paths by name, and those of a list by index: [2] before [10].
func order(a, b map[string]*node) []string {
	paths := slices.Collect(maps.Keys(a))
	for p := range b {
		if _, both := a[p]; !both {
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		if strings.HasSuffix(a, "]") && strings.HasSuffix(b, "]") && len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return paths
}

// show is a value in one line, "" for one that isn't there.
func show(n *node) string {
	switch n.shape {
	case text:
		if n.text == "" || strings.ContainsFunc(n.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return strconv.Quote(n.text)
		}
		return n.text
	case number, boolean:
		return n.text
	case object:
		return "{}"
	case list:
		return "[]"
	}
	return ""
}

func labelNode(o v1.Object) *node {
	n := &node{}
	for _, key := range sortedKeys(o.Metadata.Labels) {
		n.entries = append(n.entries, entry{key: key, value: &node{shape: text, text: o.Metadata.Labels[key]}})
	}
	return n
}

// specNode takes a spec that isn't JSON for none.
func specNode(o v1.Object) *node {
	n, err := readJSON(o.Spec)
	if err != nil || n.shape != object {
		return &node{}
	}
	return n
}
