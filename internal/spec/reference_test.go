package spec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// least is, for each kind, a spec that shows every default.
var least = []struct {
	kind penstock.Kind
	spec any
	json string
}{
	{penstock.KindProject, v1.ProjectSpec{}, `{"owner":"o","costCentre":"c","budget":{"monthly":1}}`},
	{penstock.KindPool, v1.PoolSpec{}, `{"executor":"local"}`},
	{penstock.KindSecret, v1.SecretSpec{}, `{"values":{"k":"v"}}`},
	{penstock.KindDataset, v1.DatasetSpec{}, `{"source":{"path":"/d"}}`},
	{penstock.KindModel, v1.ModelSpec{}, `{}`},
	{penstock.KindJob, v1.JobSpec{}, `{"tasks":[{"name":"t","command":["c"]}],"data":[{"name":"d","dataset":"d"}],"checkpoints":{},"retries":{"max":1}}`},
	{penstock.KindEndpoint, v1.EndpointSpec{}, `{"model":"m@a","runtime":{"name":"llama"}}`},
	{penstock.KindMonitor, v1.MonitorSpec{}, `{"endpoint":"e","signals":[{"name":"ttft_ms"}]}`},
	{penstock.KindPipeline, v1.PipelineSpec{}, `{"triggers":[{"every":"1h"}],"steps":[{"name":"s","job":{"tasks":[{"name":"t","command":["c"]}]}}]}`},
}

// TestTheReferenceIsWhatTheTypesSay keeps docs/manifests.md the same as the
// comments of the wire types and the defaults that Check fills in.
func TestTheReferenceIsWhatTheTypesSay(t *testing.T) {
	const file = "../../docs/manifests.md"
	intro, err := os.ReadFile("testdata/manifests.md")
	if err != nil {
		t.Fatal(err)
	}
	r := reference{docs: comments(t)}
	r.out.Write(intro)
	for _, l := range least {
		typ := reflect.TypeOf(l.spec)
		fmt.Fprintf(&r.out, "\n## %s\n\n%s\n\n| field | type | default | meaning |\n|---|---|---|---|\n",
			l.kind, meaning(string(l.kind), r.docs[string(l.kind)]))
		r.rows("", typ, defaults(t, l.kind, l.json))
	}
	if *update {
		if err := os.WriteFile(file, []byte(r.out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), r.out.String()); diff != "" {
		t.Errorf("run with -update (-docs/manifests.md +types):\n%s", diff)
	}
}

// defaults gives what Check added to a spec, by path with [] for an index.
func defaults(t *testing.T, kind penstock.Kind, spec string) map[string]string {
	given := v1.Object{APIVersion: v1.Version, Kind: kind, Metadata: v1.Metadata{Name: "x"}, Spec: json.RawMessage(spec)}
	whole, err := Check(given)
	if err != nil {
		t.Fatal(err)
	}
	added := map[string]string{}
	for _, change := range Diff(given, whole) {
		if change.From != "" {
			continue
		}
		path := index.ReplaceAllString(strings.TrimPrefix(change.Path, "spec."), "[]")
		added[path] = change.To
	}
	return added
}

var index = regexp.MustCompile(`\[[0-9]+\]`)

type reference struct {
	docs map[string]string // comments by Type or Type.Field
	out  strings.Builder
}

// rows writes a line for each field of a struct, and of the structs in it. A
// JobSpec in a Pipeline is not repeated.
func (r *reference) rows(prefix string, typ reflect.Type, defaults map[string]string) {
	for _, f := range fieldsOf(typ) {
		field := typ.Field(f.index)
		path := prefix + f.name
		inner, word := element(field.Type)
		shown := "`" + path + "`"
		if f.required {
			shown = "**" + shown + "**"
		}
		about := meaning(field.Name, r.docs[typ.Name()+"."+field.Name])
		if f.enum != "" {
			about = strings.TrimSpace(about + " One of " + strings.ReplaceAll(f.enum, ",", ", ") + ".")
		}
		if field.Type == reflect.TypeFor[v1.JobSpec]() {
			about, inner = "As the spec of a Job.", nil
		} else if about == "" && inner != nil {
			about = meaning(inner.Name(), r.docs[inner.Name()])
		}
		fmt.Fprintf(&r.out, "| %s | %s | %s | %s |\n", shown, word, defaultOf(path, defaults), strings.ReplaceAll(about, "|", `\|`))
		if inner != nil {
			r.rows(path+suffix(field.Type)+".", inner, defaults)
		}
	}
}

func defaultOf(path string, defaults map[string]string) string {
	if value := defaults[path]; value != "" {
		return "`" + value + "`"
	}
	var parts []string
	for _, p := range sortedKeys(defaults) {
		key, ok := strings.CutPrefix(p, path+".")
		if ok && (path == "prepare.split" || strings.HasSuffix(path, "resources")) {
			parts = append(parts, key+": "+defaults[p])
		}
	}
	if parts == nil {
		return ""
	}
	return "`{" + strings.Join(parts, ", ") + "}`"
}

// element is the struct that a field holds, if any, and the field's type in words.
func element(t reflect.Type) (reflect.Type, string) {
	switch {
	case t == reflect.TypeFor[penstock.Resources]():
		return nil, "amounts"
	case t == reflect.TypeFor[penstock.Money]():
		return nil, "money"
	case t == reflect.TypeFor[time.Time]():
		return nil, "time"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return nil, "duration"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return element(t.Elem())
	case reflect.Struct:
		return t, "object"
	case reflect.Slice:
		inner, word := element(t.Elem())
		return inner, "list of " + strings.Replace(word, "object", "objects", 1)
	case reflect.Map:
		inner, word := element(t.Elem())
		return inner, "name: " + word
	case reflect.Int, reflect.Int64:
		return nil, "whole number"
	case reflect.Float64:
		return nil, "number"
	}
	return nil, shapeOf(t).String()
}

func suffix(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return ".<name>"
	}
	return ""
}

// meaning makes a sentence of a Go comment: without the name that it starts
// with, and in one line.
func meaning(name, comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	for _, start := range []string{name + " is ", name + " are ", name + " says ", name + " declares ", name + " bounds "} {
		if rest, ok := strings.CutPrefix(text, start); ok {
			if verb := strings.Fields(start)[1]; verb != "is" && verb != "are" {
				rest = verb + " " + rest
			}
			text = rest
			break
		}
	}
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// comments reads the doc comments of the types in api/v1, and of their fields.
func comments(t *testing.T) map[string]string {
	files, err := filepath.Glob("../../api/v1/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no wire types: %v", err)
	}
	docs := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			declaration, ok := d.(*ast.GenDecl)
			if !ok || declaration.Tok != token.TYPE {
				continue
			}
			for _, s := range declaration.Specs {
				typ := s.(*ast.TypeSpec)
				docs[typ.Name.Name] = declaration.Doc.Text()
				fieldComments(docs, typ)
			}
		}
	}
	return docs
}

func fieldComments(docs map[string]string, typ *ast.TypeSpec) {
	body, ok := typ.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		for _, name := range f.Names {
			docs[typ.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text() + " " + f.Comment.Text())
		}
	}
}
