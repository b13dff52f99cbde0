// Package spec answers what was asked, exactly. It reads manifests strictly,
// fills in the defaults, checks every field, and gives objects whose spec has
// one canonical form: equal wishes are equal bytes.
//
// It is pure: no file, no clock, no network. What it refuses, it refuses with
// all faults at once (see Errors), each with its place and what to do about it.
package spec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The limits of one file, and of one object that comes over the API.
const (
	MaxBytes     = 1 << 20 // of a file, or of a spec
	MaxDocuments = 200
	MaxDepth     = 32 // of objects and lists in each other
)

// Parse reads the objects of one manifest file: YAML documents, or JSON values.
// The file's name is only used to say where a fault is. Fields that the server
// sets (status, metadata.uid, …) are ignored, so that what was read from the
// server can be applied again. The error is Errors, in order of lines.
func Parse(file string, data []byte) ([]v1.Object, error) {
	documents, faults := read(data)
	var objects []v1.Object
	for _, n := range documents {
		c := newChecker(file)
		objects = append(objects, c.document(n))
		faults = append(faults, c.sorted()...)
	}
	if len(faults) == 0 && len(objects) == 0 {
		faults = append(faults, fault{line: 1, msg: "holds no object", hint: "a manifest starts with apiVersion: " + v1.Version})
	}
	if len(faults) > 0 {
		return nil, newErrors(file, faults)
	}
	return objects, nil
}

// Locate gives file:line of the field at path in the i-th object that Parse gave
// for this file, or of the nearest field around it: so the command line turns
// the Where of a server's error, "spec.tasks[0].replicas", into a place that
// its user can go to. Without such an object it is the path itself.
func Locate(file string, data []byte, i int, path string) string {
	documents, faults := read(data)
	if len(faults) > 0 || i < 0 || i >= len(documents) {
		return path
	}
	c := newChecker(file)
	c.document(documents[i])
	return file + ":" + strconv.Itoa(max(1, c.line(path)))
}

// Check does to one object, as it came over the API, what Parse does to a
// document: Where in its errors is the path of the field. Here a folder of code
// needs the files that were made of it. The result has no status, and of the
// metadata that the server sets only Revision, by which the caller says what it
// had read; checking a result gives the same bytes.
func Check(o v1.Object) (v1.Object, error) {
	c := newChecker("")
	var spec *node
	switch {
	case len(o.Spec) > MaxBytes:
		c.fault("spec", "split it into several objects", "has %d bytes, more than %d", len(o.Spec), MaxBytes)
	case len(o.Spec) > 0:
		var err error
		if spec, err = readJSON(o.Spec); err != nil {
			c.faults = append(c.faults, fault{path: "spec", msg: err.Error()})
			c.broken = append(c.broken, "spec")
		}
	}
	given := declared{Project: o.Metadata.Project, Name: o.Metadata.Name, Labels: o.Metadata.Labels}
	checked := c.object(head{APIVersion: o.APIVersion, Kind: o.Kind, Metadata: given}, spec)
	if len(c.faults) > 0 {
		return v1.Object{}, newErrors("", c.faults)
	}
	checked.Metadata.Revision = o.Metadata.Revision
	return checked, nil
}

// declared is the part of v1.Metadata that a manifest may set.
type declared struct {
	Project string            `json:"project,omitempty"`
	Name    string            `json:"name"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// head is an object without its spec.
type head struct {
	APIVersion string        `json:"apiVersion"`
	Kind       penstock.Kind `json:"kind"`
	Metadata   declared      `json:"metadata"`
}

func (c *checker) document(n *node) v1.Object {
	if n.shape != object {
		c.mark("", n)
		c.fault("", "one document is one object, with apiVersion, kind, metadata and spec", "must be an object, not %s", c.describe(n))
		return v1.Object{}
	}
	envelope := &node{shape: object, line: n.line}
	var spec *node
	for _, e := range n.entries {
		switch e.key {
		case "spec":
			spec = e.value
			c.lines["spec"] = place{line: e.line}
		case "status":
		case "metadata":
			e.value = withoutServerFields(e.value)
			envelope.entries = append(envelope.entries, e)
		default:
			envelope.entries = append(envelope.entries, e)
		}
	}
	var h head
	c.decode("", envelope, reflect.ValueOf(&h).Elem(), "", "spec", "status")
	return c.object(h, spec)
}

func withoutServerFields(n *node) *node {
	kept := *n
	kept.entries = nil
	var mine []string
	for _, f := range fieldsOf(reflect.TypeFor[declared]()) {
		mine = append(mine, f.name)
	}
	for _, e := range n.entries {
		if !serverField(e.key, mine) {
			kept.entries = append(kept.entries, e)
		}
	}
	return &kept
}

func serverField(key string, mine []string) bool {
	for _, f := range fieldsOf(reflect.TypeFor[v1.Metadata]()) {
		if f.name == key {
			return !slices.Contains(mine, key)
		}
	}
	return false
}

// object checks a whole object and gives it in canonical form.
func (c *checker) object(h head, spec *node) v1.Object {
	if h.APIVersion != v1.Version && !c.isBroken("apiVersion") {
		c.fault("apiVersion", "write apiVersion: "+v1.Version, "is %.60q, which is not known", h.APIVersion)
	}
	o := v1.Object{APIVersion: v1.Version, Kind: h.Kind, Metadata: v1.Metadata{
		Project: h.Metadata.Project, Name: h.Metadata.Name, Labels: h.Metadata.Labels,
	}}
	if len(h.Metadata.Labels) == 0 {
		o.Metadata.Labels = nil
	}
	known := c.kind(h.Kind)
	c.hideValues = h.Kind == penstock.KindSecret
	c.metadata(h.Kind, o.Metadata)
	if !known {
		return o
	}
	if spec == nil || spec.shape == null {
		spec = &node{shape: object}
	}
	o.Spec = c.spec(o.Kind, o.Metadata.Name, spec)
	return o
}

func (c *checker) kind(k penstock.Kind) bool {
	if k.Declarable() {
		return true
	}
	var known []string
	for _, k := range penstock.Kinds() {
		if k.Declarable() {
			known = append(known, string(k))
		}
	}
	for _, made := range penstock.Kinds() {
		if k == made {
			c.fault("kind", "write one of "+strings.Join(known, ", "), "%s is made by Penstock and can't be declared", k)
			return false
		}
	}
	c.fault("kind", suggest(string(k), known), "%.60q is not a kind", string(k))
	return false
}

// spec decodes, completes and checks the spec of a declarable kind.
func (c *checker) spec(kind penstock.Kind, name string, n *node) json.RawMessage {
	switch kind {
	case penstock.KindProject:
		return typed(c, n, c.project)
	case penstock.KindPool:
		return typed(c, n, c.pool)
	case penstock.KindSecret:
		return typed(c, n, c.secret)
	case penstock.KindDataset:
		return typed(c, n, c.dataset)
	case penstock.KindModel:
		return typed(c, n, c.model)
	case penstock.KindJob:
		return typed(c, n, func(s *v1.JobSpec) { c.job("spec", name, s) })
	case penstock.KindEndpoint:
		return typed(c, n, c.endpoint)
	case penstock.KindPipeline:
		return typed(c, n, func(s *v1.PipelineSpec) { c.pipeline(name, s) })
	case penstock.KindMonitor:
		return typed(c, n, c.monitor)
	}
	c.fault("kind", "", "%s has no spec that can be declared", kind)
	return nil
}

func typed[S any](c *checker, n *node, check func(*S)) json.RawMessage {
	var s S
	if c.isBroken("spec") {
		return nil
	}
	if !c.decode("spec", n, reflect.ValueOf(&s).Elem(), "") {
		return nil
	}
	check(&s)
	b, err := json.Marshal(s)
	if err != nil && len(c.faults) == 0 {
		c.fault("spec", "", "can't be encoded: %s", err)
	}
	return b
}

func (c *checker) metadata(kind penstock.Kind, m v1.Metadata) {
	switch {
	case m.Project != "" && kind.Global():
		c.fault("metadata.project", "leave it out", "a %s belongs to no project", kind)
	case m.Project != "":
		c.name("metadata.project", m.Project)
	}
	if c.name("metadata.name", m.Name) {
		if longest := longestName(kind); len(m.Name) > longest {
			c.fault("metadata.name", "what Penstock makes for it gets longer names",
				"has %d characters, more than the %d that the name of a %s may have", len(m.Name), longest, kind)
		}
	}
	if len(m.Labels) > maxLabels {
		c.fault("metadata.labels", "", "has %d labels, more than %d", len(m.Labels), maxLabels)
	}
	for _, key := range sortedKeys(m.Labels) {
		path := under("metadata.labels", key)
		if !labelForm.MatchString(key) {
			c.fault(path, "use 1 to 63 letters, digits, '.', '_', '/' and '-', with a letter or digit at both ends", "%.80q can't be the key of a label", key)
		}
		c.text(path, m.Labels[key], 0, 255)
	}
}

const maxLabels = 64

// longestName leaves room for the names that are made from an object's own: an
// attempt is name-number, a version is name-digest (12 digits).
func longestName(kind penstock.Kind) int {
	switch kind {
	case penstock.KindJob:
		return 63 - len("-99999999")
	case penstock.KindDataset, penstock.KindModel, penstock.KindEndpoint:
		return 63 - len("-0123456789ab")
	}
	return 63
}

// under is the path of a field or key in the object at path.
func under(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return path + fmt.Sprintf("[%.80q]", key)
	case path == "":
		return key
	}
	return path + "." + key
}

// at is the path of an item of the list at path.
func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
