package spec

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock"
)

// ModelRef says which version of a model is meant: the one that Alias points
// to, the one with Digest, or with neither the newest that is ready.
type ModelRef struct {
	Name   string
	Alias  string
	Digest penstock.Digest
}

// String is the form that ParseModelRef reads.
func (r ModelRef) String() string {
	switch {
	case r.Digest != "":
		return r.Name + "@" + string(r.Digest)
	case r.Alias != "":
		return r.Name + "@" + r.Alias
	}
	return r.Name
}

// ParseModelRef reads name, name@alias or name@sha256:… (64 lower-case hex
// digits). Names and aliases are DNS labels.
func ParseModelRef(s string) (ModelRef, error) {
	name, which, pinned := strings.Cut(s, "@")
	r := ModelRef{Name: name}
	err := penstock.CheckName(name)
	switch {
	case err != nil || !pinned:
	case strings.Contains(which, ":"):
		r.Digest, err = penstock.ParseDigest(which)
	default:
		r.Alias, err = which, penstock.CheckName(which)
	}
	if err != nil {
		return ModelRef{}, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("%.120q names no model version", s),
			Hint: "write name, name@alias or name@sha256:…", Err: err,
		}
	}
	return r, nil
}
