// Package v1 holds the wire types of API version penstock/v1: what a manifest
// declares, what the server answers. It has types only; the client is in
// api/v1/client. Field names are stable: they are added to, never changed.
package v1

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/penstock/penstock"
)

// Version is the apiVersion that this package describes.
const Version = "penstock/v1"

// Resource is one object: what its owner wants (Spec) and what is so (Status).
type Resource[S, T any] struct {
	APIVersion string        `json:"apiVersion" enum:"penstock/v1"`
	Kind       penstock.Kind `json:"kind"`
	Metadata   Metadata      `json:"metadata"`
	Spec       S             `json:"spec"`
	Status     T             `json:"status,omitzero"`
}

// Object is a Resource of any kind, its spec and status not yet decoded.
type Object = Resource[json.RawMessage, json.RawMessage]

// Metadata is what every object carries.
type Metadata struct {
	Project string `json:"project,omitempty"`
	Name    string `json:"name"`
	// Labels are free words for finding and for cost attribution. The keys
	// model, dataset, environment and team are the FinOps labels; Penstock
	// fills in the ones it knows.
	Labels map[string]string `json:"labels,omitempty"`

	// The rest is set by the server and ignored in manifests.

	UID penstock.UID `json:"uid,omitempty"`
	// Owner is the object that this one was made for; it is deleted with it.
	Owner penstock.UID `json:"owner,omitempty"`
	// Generation counts changes of Spec.
	Generation int64 `json:"generation,omitempty"`
	// Revision is the number of the installation's last change to this object.
	// It is the ETag, and where a watch can go on from.
	Revision  int64          `json:"revision,omitempty"`
	Phase     penstock.Phase `json:"phase,omitempty"`
	CreatedBy string         `json:"createdBy,omitempty"`
	CreatedAt time.Time      `json:"createdAt,omitzero"`
	UpdatedAt time.Time      `json:"updatedAt,omitzero"`
	// DeletedAt is when deletion was asked for: the object is retiring.
	DeletedAt time.Time `json:"deletedAt,omitzero"`
}

// Ref is the object's name.
func (r Resource[S, T]) Ref() penstock.Ref {
	return penstock.Ref{Kind: r.Kind, Project: r.Metadata.Project, Name: r.Metadata.Name}
}

// As decodes an Object into the typed Resource of its kind.
func As[S, T any](o Object) (Resource[S, T], error) {
	r := Resource[S, T]{APIVersion: o.APIVersion, Kind: o.Kind, Metadata: o.Metadata}
	if len(o.Spec) > 0 {
		if err := json.Unmarshal(o.Spec, &r.Spec); err != nil {
			return r, fmt.Errorf("decode spec of %s: %w", o.Ref(), err)
		}
	}
	if len(o.Status) > 0 {
		if err := json.Unmarshal(o.Status, &r.Status); err != nil {
			return r, fmt.Errorf("decode status of %s: %w", o.Ref(), err)
		}
	}
	return r, nil
}

// Object encodes r, with keys in a fixed order: equal resources give equal bytes.
func (r Resource[S, T]) Object() (Object, error) {
	o := Object{APIVersion: Version, Kind: r.Kind, Metadata: r.Metadata}
	var err error
	if o.Spec, err = json.Marshal(r.Spec); err != nil {
		return o, fmt.Errorf("encode spec of %s: %w", r.Ref(), err)
	}
	if o.Status, err = json.Marshal(r.Status); err != nil {
		return o, fmt.Errorf("encode status of %s: %w", r.Ref(), err)
	}
	return o, nil
}

// Condition is one lasting statement about an object.
type Condition struct {
	Type    string    `json:"type"`
	Status  bool      `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since"`
}

// Duration is a time.Duration written as people write it: "90s", "12h", "30d".
// A day is 24 hours.
type Duration time.Duration

// MarshalText writes the duration in Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's form, and whole days such as "30d".
func (d *Duration) UnmarshalText(b []byte) error {
	var days int64
	if n, err := fmt.Sscanf(string(b), "%dd", &days); n == 1 && err == nil && fmt.Sprintf("%dd", days) == string(b) && days < 36500 {
		*d = Duration(time.Duration(days) * 24 * time.Hour)
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.40q is not a duration", b), Hint: "write 90s, 15m, 12h or 30d"}
	}
	*d = Duration(v)
	return nil
}

// File is one file of a version, a checkpoint or an output, by content. Path is
// relative, slash-separated and clean.
type File struct {
	Path   string          `json:"path"`
	Size   int64           `json:"size"`
	Digest penstock.Digest `json:"digest"`
}
