package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// schemaName names a type in the API's description: Resource[JobSpec, JobStatus]
// is Job and List[JobSpec, JobStatus] is JobList, as they are for people.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[struct{}]() {
		return "Nothing"
	}
	generic, arguments, _ := strings.Cut(t.Name(), "[")
	spec, _, _ := strings.Cut(arguments, ",")
	spec = spec[strings.LastIndexByte(spec, '.')+1:]
	spec = strings.TrimSuffix(spec, "Spec")
	if spec == "RawMessage" {
		spec = "Object"
	}
	switch generic {
	case "Resource":
		return spec
	case "List":
		return spec + "List"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// newRegistry knows how the types look on the wire that write themselves.
func newRegistry() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", schemaName)
	for _, alias := range []struct{ t, as reflect.Type }{
		{reflect.TypeFor[penstock.Resources](), reflect.TypeFor[map[string]string]()},
		{reflect.TypeFor[json.RawMessage](), reflect.TypeFor[any]()},
		{reflect.TypeFor[v1.Duration](), reflect.TypeFor[string]()},
		{reflect.TypeFor[penstock.Money](), reflect.TypeFor[string]()},
	} {
		r.RegisterTypeAlias(alias.t, alias.as)
	}
	return r
}

// describeProblems says of every operation that its errors are Problems. They
// are huma's own model until then.
func describeProblems(api *huma.OpenAPI, o *huma.Operation) {
	registry := api.Components.Schemas
	problem := registry.Schema(reflect.TypeFor[v1.Problem](), true, "")
	o.Responses["default"] = &huma.Response{
		Description: "Error", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
	}
	delete(registry.Map(), "ErrorModel")
	delete(registry.Map(), "ErrorDetail")
}

// refusal is a call that huma found wrong before any handler of ours saw it, in
// the words of the rest of the API. Values are left out: they may be secret.
func refusal(m *huma.ErrorModel) *failure {
	e := &penstock.Error{Code: refusalCode(m.Status), Msg: m.Detail}
	for _, d := range m.Errors {
		if e.Where == "" {
			e.Where = d.Location
		}
		e.Msg += ": " + strings.TrimSpace(strings.TrimPrefix(d.Location+" ", e.Where+" ")+d.Message)
	}
	return problem(e)
}

func refusalCode(status int) penstock.Code {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return penstock.TooLarge
	case status >= 500:
		return penstock.Internal
	}
	return penstock.Invalid
}

// humaContext is embedded under a name that its method Context doesn't have.
type humaContext = huma.Context

// ourStatus gives huma's refusals the status of their code.
type ourStatus struct{ humaContext }

// SetStatus takes only what the handlers and refusals of this API answer.
func (c ourStatus) SetStatus(status int) {
	if status == http.StatusBadRequest || status == http.StatusUnsupportedMediaType || status == http.StatusRequestTimeout {
		status = problem(&penstock.Error{Code: refusalCode(status)}).Status
	}
	c.humaContext.SetStatus(status)
}

func ourRefusals(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		return refusal(m), nil
	}
	return v, nil
}

// strictJSON refuses what isn't Unicode: decoding would replace it silently.
func strictJSON(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("the body is not UTF-8")
	}
	return huma.DefaultJSONFormat.Unmarshal(b, v)
}

// document is a body that is described as a T and decoded by its handler, which
// is stricter than encoding/json and says where and what to do.
type document[T any] struct{ raw json.RawMessage }

// UnmarshalJSON keeps the bytes.
func (d *document[T]) UnmarshalJSON(b []byte) error {
	d.raw = append(d.raw[:0], b...)
	return nil
}

// Schema is that of T.
func (d document[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// invalid is a fault in what was sent, at a place in it.
func invalid(where, hint, format string, args ...any) error {
	return &penstock.Error{Code: penstock.Invalid, Where: where, Msg: fmt.Sprintf(format, args...), Hint: hint}
}
