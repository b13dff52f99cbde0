package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
)

// readObject decodes one object as strictly as a manifest is read, so that no
// field is dropped in silence. Of what the server sets, only the revision that
// the caller had read counts.
func readObject(raw json.RawMessage) (v1.Object, error) {
	objects, err := spec.Parse("", raw)
	if err != nil {
		return v1.Object{}, err
	}
	if len(objects) != 1 {
		return v1.Object{}, invalid("", "", "the body holds %d objects, not one", len(objects))
	}
	var read struct {
		Metadata struct {
			Revision int64 `json:"revision"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &read); err != nil {
		return v1.Object{}, invalid("metadata.revision", "leave it out, or send the one that was read", "must be a whole number")
	}
	objects[0].Metadata.Revision = read.Metadata.Revision
	return objects[0], nil
}

// readNamed decodes the object that the path names.
func readNamed(raw json.RawMessage, ref penstock.Ref) (v1.Object, error) {
	o, err := readObject(raw)
	if err != nil {
		return o, err
	}
	if o.Metadata.Project == "" {
		o.Metadata.Project = ref.Project
	}
	if o.Ref() != ref {
		return o, invalid("metadata", "send the object to its own path", "the body is %s, the path names %s", o.Ref(), ref)
	}
	return o, nil
}

// readApply decodes the body of an apply.
func readApply(raw json.RawMessage) (objects []v1.Object, dryRun bool, err error) {
	var in struct {
		Objects []json.RawMessage `json:"objects"`
		DryRun  bool              `json:"dryRun"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, false, invalid("body", "send {\"objects\": [...], \"dryRun\": true}", "%s", jsonFault(err))
	}
	for i, one := range in.Objects {
		o, err := readObject(one)
		if err != nil {
			return nil, false, inItem(fmt.Sprintf("objects[%d]", i), err)
		}
		objects = append(objects, o)
	}
	return objects, in.DryRun, nil
}

// jsonFault is a decoder's error without the names of Go types.
func jsonFault(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Sprintf("%s can't be %s", wrong.Field, wrong.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// inItem puts the place of a fault in an item into the list around it.
func inItem(item string, err error) error {
	var e *penstock.Error
	if !errors.As(err, &e) {
		return err
	}
	located := *e
	located.Where = strings.TrimSuffix(item+"."+e.Where, ".")
	return &located
}
