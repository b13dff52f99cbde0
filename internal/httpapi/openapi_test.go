package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock/internal/httpapi"
)

var update = flag.Bool("update", false, "write api/v1/openapi.json anew")

func TestDescriptionIsTheGoldenOne(t *testing.T) {
	got, err := newPlant(t, func(o *httpapi.Options) { o.Version = "v1" }).server.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	golden := filepath.Join("..", "..", "api", "v1", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the API differs from its description; if that is meant, run go test ./internal/httpapi -run Golden -update\n%s", cmp.Diff(string(want), string(got)))
	}
}

// description is the part of OpenAPI that the tests look at.
type description struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string
	Tags        []string
	Summary     string
	Responses   map[string]struct {
		Content map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
}

type schema struct {
	Properties map[string]json.RawMessage
	Required   []string
}

func (p *plant) description() description {
	p.t.Helper()
	b, err := p.server.OpenAPI()
	if err != nil {
		p.t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(b, &d); err != nil {
		p.t.Fatal(err)
	}
	return d
}

func TestDescriptionReadsAsPeopleSpeak(t *testing.T) {
	p := newPlant(t)
	d := p.description()
	for _, name := range []string{"Job", "JobList", "Model", "ModelVersion", "DatasetVersionList", "Object", "ApplyRequest", "Problem", "Metadata"} {
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("there is no schema %s", name)
		}
	}
	name := regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
	for n, s := range d.Components.Schemas {
		if !name.MatchString(n) || strings.HasPrefix(n, "Resource") && n != "Resources" || strings.HasPrefix(n, "Error") || strings.HasSuffix(n, "Struct") {
			t.Errorf("schema %s is not a name", n)
		}
		if _, ok := s.Properties["$schema"]; ok {
			t.Errorf("schema %s has $schema", n)
		}
	}
	for n, want := range map[string][]string{
		"Job":      {"apiVersion", "kind", "metadata", "spec"},
		"JobList":  {"items", "revision"},
		"JobSpec":  {"tasks"},
		"Metadata": {"name"},
		"Problem":  {"type", "title", "status", "detail", "code"},
	} {
		if diff := cmp.Diff(want, d.Components.Schemas[n].Required); diff != "" {
			t.Errorf("required fields of %s:\n%s", n, diff)
		}
	}
	id, seen := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`), []string{}
	for path, methods := range d.Paths {
		for method, o := range methods {
			if !id.MatchString(o.OperationID) || slices.Contains(seen, o.OperationID) || len(o.Tags) != 1 || o.Summary == "" {
				t.Errorf("%s %s: %+v", method, path, o)
			}
			if ref := o.Responses["default"].Content["application/problem+json"].Schema.Ref; ref != "#/components/schemas/Problem" {
				t.Errorf("%s %s answers errors with %q", method, path, ref)
			}
			seen = append(seen, o.OperationID)
		}
	}
}

func TestStreamsAreDescribedInTheDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range streams {
		if _, path, _ := strings.Cut(route, " "); !strings.Contains(string(text), path+"`") && path != "/openapi.yaml" {
			t.Errorf("docs/api.md doesn't tell of %s", path)
		}
	}
}
