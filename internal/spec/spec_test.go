package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestWhatMarshalWritesParseReadsAsTheSame(t *testing.T) {
	forEachKind(t, func(t *rapid.T, valid v1.Object) {
		b, err := Marshal([]v1.Object{valid, valid})
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("back.yaml", b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff([]v1.Object{valid, valid}, back); diff != "" {
			t.Fatalf("(-written +read):\n%s\n%s", diff, b)
		}
	})
}

func TestCheckingTwiceChangesNothing(t *testing.T) {
	forEachKind(t, func(t *rapid.T, valid v1.Object) {
		again, err := Check(valid)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(valid, again); diff != "" {
			t.Fatalf("(-once +twice):\n%s", diff)
		}
	})
}

func TestAnObjectDoesNotDifferFromItself(t *testing.T) {
	forEachKind(t, func(t *rapid.T, valid v1.Object) {
		if changes := Diff(valid, valid); len(changes) != 0 {
			t.Fatalf("%v", changes)
		}
		if changes := Diff(v1.Object{}, valid); len(changes) == 0 {
			t.Fatal("a new object has no changes")
		}
	})
}

func TestEqualSpecsGiveEqualBytes(t *testing.T) {
	spellings := []string{
		"apiVersion: penstock/v1\nkind: Job\nmetadata: {name: j}\nspec: {tasks: [{name: a, command: [a], resources: {cpu: 1, h100: 8}}], grace: 30s}",
		"kind: Job\napiVersion: penstock/v1\nspec:\n  grace: 0h0.5m\n  data: []\n  tasks:\n  - command: ['a']\n    resources: {h100: '8', cpu: 1000m}\n    replicas: 1\n    name: a\nmetadata:\n  name: \"j\"\n  labels: {}\n",
		`{"spec":{"tasks":[{"name":"a","command":["a"],"resources":{"h100":8.0,"cpu":"1.000"}}],"feed":null},"metadata":{"name":"j"},"kind":"Job","apiVersion":"penstock/v1"}`,
	}
	var first []v1.Object
	for i, s := range spellings {
		objs, err := Parse("m", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = objs
		}
		if diff := cmp.Diff(first, objs); diff != "" {
			t.Errorf("spelling %d (-first +this):\n%s", i, diff)
		}
	}
}

func TestCheckNamesTheFieldAndTakesNoFolderWithoutItsFiles(t *testing.T) {
	o := v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindJob,
		Metadata: v1.Metadata{Project: "Vision", Name: "j", UID: "kept-by-nobody", Revision: 7, Phase: penstock.PhaseRunning},
		Spec:     json.RawMessage(`{"tasks":[{"name":"a","command":[],"dir":"code","comand":1}],"grace":"x"}`),
	}
	_, err := Check(o)
	want := []string{
		`metadata.project: "Vision" can't be a name`,
		`spec.tasks[0].comand: unknown field`,
		`spec.grace: "x" is not a duration`,
		`spec.tasks[0].command: must not be empty`,
		`spec.tasks[0].dir: the files of "code" didn't come with it`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if code := penstock.CodeOf(err); code != penstock.Invalid {
		t.Errorf("code %q", code)
	}
}

func TestCheckDropsWhatOnlyTheServerSetsButTheRevisionThatWasRead(t *testing.T) {
	o := v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindModel, Status: json.RawMessage(`{"versions":3}`),
		Metadata: v1.Metadata{Name: "m", Project: "p", UID: "u", Owner: "o", Generation: 2, Revision: 7, Phase: penstock.PhaseReady, CreatedBy: "ann"},
	}
	got, err := Check(o)
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Object{APIVersion: v1.Version, Kind: penstock.KindModel, Metadata: v1.Metadata{Name: "m", Project: "p", Revision: 7}, Spec: json.RawMessage(`{}`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBrokenJSONIsRefused(t *testing.T) {
	for _, spec := range []string{`{`, `{"a":1`, `[]`, `"text"`, `{} {}`, "{\"description\":\"\xff\"}", `{"description":"\ud800"}`, `{"description":"a","description":"b"}`, strings.Repeat("[", 1<<19)} {
		_, err := Check(v1.Object{APIVersion: v1.Version, Kind: penstock.KindModel, Metadata: v1.Metadata{Name: "m"}, Spec: json.RawMessage(spec)})
		if code := penstock.CodeOf(err); code != penstock.Invalid {
			t.Errorf("%.30q gave %q: %v", spec, code, err)
		}
	}
}

func TestWhatIsNotUTF8IsRefusedWithItsLine(t *testing.T) {
	manifest := "apiVersion: penstock/v1\nkind: Model\nmetadata: {name: a}\nspec: {description: \"caf\xe9\"}\n"
	_, err := Parse("m.yaml", []byte(manifest))
	if diff := cmp.Diff([]string{`m.yaml:4: byte 0xe9 is not UTF-8`}, lines(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsOverALimitIsRefused(t *testing.T) {
	model := "apiVersion: penstock/v1\nkind: Model\nmetadata: {name: a}\n---\n"
	deep := "apiVersion: penstock/v1\nkind: Model\nmetadata: {name: a}\nspec: "
	cases := []struct{ name, manifest, want string }{
		{"bytes", model + "# " + strings.Repeat("x", MaxBytes), fmt.Sprintf("m:1: has %d bytes, more than 1048576", MaxBytes+len(model)+2)},
		{"documents", strings.Repeat(model, MaxDocuments+1), "m:801: more than 200 documents"},
		{"words", model + "a: [" + strings.Repeat("a,", maxTokens) + "]", "m:5: has more than 100000 words and marks"},
		{"brackets", deep + strings.Repeat("[", 1<<16), "m:4: nested deeper than 32 levels"},
		{"closed brackets", deep + strings.Repeat("[", 40) + strings.Repeat("]", 40), "m:4: nested deeper than 32 levels"},
		{"dashes", deep + "\n" + strings.Repeat("- ", 1<<15), "m:5: nested deeper than 32 levels"},
		{"questions", deep + "\n" + strings.Repeat("? ", 1<<15), "m:5: nested deeper than 32 levels"},
		{"json", strings.Repeat("[", 40) + strings.Repeat("]", 40), "m:1: nested deeper than 32 levels"},
		{"aliases", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "m:1: anchors, aliases and merges are not read"},
	}
	for _, c := range cases {
		_, err := Parse("m", []byte(c.manifest))
		if diff := cmp.Diff([]string{c.want}, lines(t, err)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	spec := json.RawMessage(`{"description":"` + strings.Repeat("x", MaxBytes) + `"}`)
	_, err := Check(v1.Object{APIVersion: v1.Version, Kind: penstock.KindModel, Metadata: v1.Metadata{Name: "a"}, Spec: spec})
	if diff := cmp.Diff([]string{"spec: has 1048594 bytes, more than 1048576"}, lines(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestManyFaultsAreCountedAfterFifty(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: penstock/v1\nkind: Model\nmetadata: {name: a}\nspec:\n")
	for i := range 70 {
		fmt.Fprintf(&b, "  wrong%d: 1\n", i)
	}
	_, err := Parse("m", []byte(b.String()))
	got := lines(t, err)
	if len(got) != maxFaults+1 || got[maxFaults] != "m: 20 more faults" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}

func TestLinesOfWindowsFilesAreCountedOnce(t *testing.T) {
	_, err := Parse("m", []byte("apiVersion: penstock/v1\r\nkind: Model\r\nmetadata:\r\n  name: a\r\nspec:\r\n  x: 1\r\n"))
	if diff := cmp.Diff([]string{"m:6: spec.x: unknown field"}, lines(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestModelReferencesHaveThreeForms(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for text, want := range map[string]ModelRef{
		"tiny":            {Name: "tiny"},
		"tiny@production": {Name: "tiny", Alias: "production"},
		"tiny@" + digest:  {Name: "tiny", Digest: penstock.Digest(digest)},
	} {
		got, err := ParseModelRef(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v (%s), error %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "@", "a@", "@b", "a@b@c", "a@sha256:", "a@SHA256:" + digest[7:], "a/b", "a@../b", "A", "a b", "a@" + digest + "0"} {
		if got, err := ParseModelRef(text); penstock.CodeOf(err) != penstock.Invalid || got != (ModelRef{}) {
			t.Errorf("%q: got %+v, error %v", text, got, err)
		}
	}
}

// FuzzParse holds Parse to its word for any bytes: no panic, Errors or objects,
// and what it accepts stays the same when it is written and read again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			f.Add(part.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := Parse("m", data)
		var all Errors
		if err != nil {
			if !errors.As(err, &all) || len(all) == 0 || len(objs) != 0 {
				t.Fatalf("error %v of type %T, %d objects", err, err, len(objs))
			}
			return
		}
		b, err := Marshal(objs)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("m", b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff(objs, back); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

// lines are the messages of an error, which must be Errors.
func lines(t *testing.T, err error) []string {
	t.Helper()
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("%v is %T, not Errors", err, err)
	}
	return strings.Split(all.Error(), "\n")
}
