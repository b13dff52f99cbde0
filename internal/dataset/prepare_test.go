package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// plain is a complete spec that drops nothing.
func plain() v1.DatasetSpec {
	return v1.DatasetSpec{
		Source: v1.Source{Path: "/data"},
		Prepare: v1.Prepare{
			Deduplicate: "none", Split: map[string]int{"train": 100}, Tokeniser: "bytes", Format: "tokens-u16", ShardBytes: 1 << 20,
		},
	}
}

func ignore(Progress) {}

func tree(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

// prepare runs Prepare into a new folder, and gives what it wrote.
func prepare(t testing.TB, spec v1.DatasetSpec, src fs.FS) (v1.DatasetVersionSpec, map[string][]byte, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "penstock-dataset-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	version, err := Prepare(t.Context(), spec, src, out, ignore)
	written := map[string][]byte{}
	for _, e := range must(fs.ReadDir(out.FS(), ".")) {
		written[e.Name()] = must(out.ReadFile(e.Name()))
	}
	return version, written, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func mustPrepare(t testing.TB, spec v1.DatasetSpec, src fs.FS) (v1.DatasetVersionSpec, map[string][]byte) {
	t.Helper()
	version, written, err := prepare(t, spec, src)
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	return version, written
}

// fileList is what an agent reports of an output.
func fileList(written map[string][]byte) (files []v1.File) {
	for _, name := range sortedKeys(written) {
		sum := sha256.Sum256(written[name])
		files = append(files, v1.File{Path: name, Size: int64(len(written[name])), Digest: penstock.DigestOf(sum[:])})
	}
	return files
}

// decode gives the documents of a split's token shards.
func decode(t testing.TB, version v1.DatasetVersionSpec, written map[string][]byte, split string) (docs []string) {
	t.Helper()
	var stream []byte
	for _, shard := range version.Splits[split].Shards {
		stream = append(stream, written[shard.Path]...)
	}
	var doc []byte
	inside := false
	for i := 0; i < len(stream); i += 2 {
		switch token := binary.LittleEndian.Uint16(stream[i:]); {
		case token == 1 && !inside:
			doc, inside = nil, true
		case token == 2 && inside:
			docs, inside = append(docs, string(doc)), false
		case token >= 3 && token < 259 && inside:
			doc = append(doc, byte(token-3))
		default:
			t.Fatalf("token %d is not expected at %d", token, i/2)
		}
	}
	if inside {
		t.Fatal("the last document has no end")
	}
	return docs
}

func TestTokensAreThoseOfTheTinyLlama(t *testing.T) {
	_, written := mustPrepare(t, plain(), tree(map[string]string{"b": "\x01é", "a": "Go\n"}))
	want := []uint16{1, 'G' + 3, 'o' + 3, '\n' + 3, 2, 1, 1 + 3, 0xc3 + 3, 0xa9 + 3, 2}
	got := make([]uint16, len(want))
	if _, err := binary.Decode(written["train-00000.bin"], binary.LittleEndian, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestCleaningStripsTheEndsOfLines(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\r\nb\r\n": "a\nb\n", "a \t\n\tb\t": "a\n\tb", "\r\n": "\n", " \n \n": "\n\n", "a\r\r\nb\rc": "a\nb\rc", "a\n\n": "a\n\n",
	} {
		if got := string(clean([]byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOf(rapid.SampledFrom([]rune(" \t\r\nab"))).Draw(t, "text")
		once := string(clean([]byte(in)))
		if twice := string(clean([]byte(once))); twice != once {
			t.Fatalf("%q, cleaned again, becomes %q", once, twice)
		}
	})
}

func TestEachReasonToDropIsCounted(t *testing.T) {
	spec := plain()
	spec.Prepare.MinBytes, spec.Prepare.MaxBytes, spec.Prepare.Deduplicate = 4, 60, "near"
	spec.Source.Exclude = []string{"not/**", "*.md"}
	files := tree(map[string]string{
		"kept": "one two three four five six", "not/a": "excluded", "b.md": "excluded", "kept2": "seven eight nine ten eleven twelve\n",
		"binary": "abc\x00def", "latin1": "caf\xe9 au lait", "empty": "", "blank": " \n\t\r\n\n\n\n", "small": "ab  ", "large": strings.Repeat("x", 61),
		"same": "one two three four five six \r", "near": "one, two, three, four, five, six!", "trailing": "xy" + strings.Repeat(" ", 100) + "\nz",
	})
	files["huge"] = &fstest.MapFile{Data: bytes.Repeat([]byte(" "), maxDocument+1), Mode: 0o644}
	files["link"] = &fstest.MapFile{Data: []byte("kept"), Mode: fs.ModeSymlink | 0o777}
	files["pipe"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o644}
	version, written := mustPrepare(t, spec, broken{files, "unreadable"})
	want := v1.Counts{
		In: 13, Out: 3, Bytes: 27 + 35 + 4,
		Dropped: map[string]int64{
			"binary": 1, "not_utf8": 1, "empty": 2, "too_small": 1, "too_large": 2, "duplicate": 1, "near_duplicate": 1, "unreadable": 1,
		},
	}
	if diff := cmp.Diff(want, version.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	docs := []string{"one two three four five six", "seven eight nine ten eleven twelve\n", "xy\nz"}
	// In the order of the paths, "near" comes before "same" and after "kept".
	if diff := cmp.Diff(docs, decode(t, version, written, "train")); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
}

// broken has one file more, which can't be read.
type broken struct {
	fs.FS
	name string
}

func (b broken) Open(name string) (fs.File, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return b.FS.Open(name)
}

func (b broken) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(b.FS, name)
	if name == "." {
		dir := fstest.MapFS{b.name: {Mode: 0o200}}
		entries = append(entries, must(fs.ReadDir(dir, "."))...)
	}
	return entries, err
}

func TestMaxFilesTakesTheFirstPaths(t *testing.T) {
	spec := plain()
	spec.Source.MaxFiles, spec.Source.Include = 3, []string{"**/*.go"}
	version, written := mustPrepare(t, spec, tree(map[string]string{
		"a/z.go": "2", "a.go": "1", "a/a.md": "-", "b.go": "3", "c.go": "4", "a-b.go": "0",
	}))
	if diff := cmp.Diff([]string{"0", "1", "2"}, decode(t, version, written, "train")); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if version.Counts.In != 3 {
		t.Errorf("%d documents in, want 3: what is not taken is no document", version.Counts.In)
	}
}

// drawTree makes a tree with all sorts of good and bad documents.
func drawTree(t *rapid.T) fstest.MapFS {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"", " \n", "a\x00b", "\xff\xfe", "same text", "same text \r\n", "same, text"}),
		rapid.StringOfN(rapid.SampledFrom([]rune("ab \n\r\té")), 0, 60, -1),
		rapid.Map(rapid.IntRange(1, 3000), func(n int) string { return strings.Repeat("word ", n) }),
	)
	name := rapid.StringMatching(`([ab]/){0,2}[a-d][.]?[a-z]?`)
	files := fstest.MapFS{}
	for n := range rapid.IntRange(1, 25).Draw(t, "files") {
		files[fmt.Sprintf("%s%d", name.Draw(t, "name"), n)] = &fstest.MapFile{Data: []byte(text.Draw(t, "text")), Mode: 0o644}
	}
	return files
}

func drawSpec(t *rapid.T) v1.DatasetSpec {
	spec := plain()
	p := &spec.Prepare
	p.MinBytes = rapid.Int64Range(0, 20).Draw(t, "min")
	p.MaxBytes = rapid.SampledFrom([]int64{0, 50, 5000}).Draw(t, "max")
	p.Deduplicate = rapid.SampledFrom([]string{"none", "exact", "near"}).Draw(t, "deduplicate")
	p.Seed = rapid.Int64().Draw(t, "seed")
	p.ShardBytes = rapid.Int64Range(1<<10, 1<<13).Draw(t, "shard")
	p.Split = rapid.SampledFrom([]map[string]int{{"train": 100}, {"train": 50, "heldout": 50}, {"a": 1, "b": 1, "c": 98}}).Draw(t, "split")
	if rapid.Bool().Draw(t, "jsonl") {
		p.Format, p.Tokeniser = "jsonl", ""
	}
	spec.Source.MaxFiles = rapid.IntRange(0, 20).Draw(t, "maxFiles")
	return spec
}

func TestCountsAlwaysAddUpAndTheManifestVerifies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := drawSpec(rt)
		version, written, err := prepare(t, spec, drawTree(rt))
		if err != nil {
			if penstock.CodeOf(err) != penstock.Invalid || !strings.Contains(err.Error(), "all ") || len(written) > 0 {
				rt.Fatalf("%v, with %d files left", err, len(written))
			}
			return
		}
		dropped := int64(0)
		for _, n := range version.Counts.Dropped {
			dropped += n
		}
		if c := version.Counts; c.In != c.Out+dropped {
			rt.Fatalf("counts don't add up: %+v", c)
		}
		if err := Verify(version, fileList(written)); err != nil {
			rt.Fatalf("verify: %v", err)
		}
		var stored v1.DatasetVersionSpec
		if err := json.Unmarshal(written[Manifest], &stored); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(version, stored, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("version.json is another version (-want +got):\n%s", diff)
		}
		for name, b := range written {
			if name != Manifest && int64(len(b)) > spec.Prepare.ShardBytes {
				rt.Fatalf("%s has %d bytes, more than %d", name, len(b), spec.Prepare.ShardBytes)
			}
		}
	})
}

// shuffled gives the entries of folders in another order.
type shuffled struct{ fs.FS }

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	slices.Reverse(entries)
	if len(entries) > 2 {
		entries[0], entries[len(entries)/2] = entries[len(entries)/2], entries[0]
	}
	return entries, err
}

func TestTheSameInputHasTheSameBytesEverywhere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec, files := drawSpec(rt), drawTree(rt)
		version, written, err := prepare(t, spec, files)
		// The same files on a real disk, in a place with another name.
		dir := must(os.MkdirTemp("", "elsewhere"))
		defer os.RemoveAll(dir)
		for name, f := range files {
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o700), os.WriteFile(filepath.Join(dir, name), f.Data, 0o600)); err != nil {
				rt.Fatal(err)
			}
		}
		elsewhere := spec
		elsewhere.Source.Path = dir
		root := must(os.OpenRoot(dir))
		defer root.Close()
		for _, src := range []fs.FS{shuffled{files}, shuffled{root.FS()}} {
			version2, written2, err2 := prepare(t, elsewhere, src)
			if (err == nil) != (err2 == nil) {
				rt.Fatalf("first %v, then %v", err, err2)
			}
			if diff := cmp.Diff(version, version2); diff != "" {
				rt.Fatalf("version (-first +again):\n%s", diff)
			}
			if diff := cmp.Diff(written, written2); diff != "" {
				rt.Fatalf("files (-first +again):\n%s", diff)
			}
		}
	})
}

// TestTheDigestOfAVersionStaysTheSame pins everything that goes into a version.
// If it fails, versions made before can't be made again: then the recipe needs a
// new word, not this test a new digest.
func TestTheDigestOfAVersionStaysTheSame(t *testing.T) {
	spec := plain()
	spec.Source.Include, spec.Source.MaxFiles = []string{"**/*.txt"}, 1000
	spec.Prepare.Split, spec.Prepare.Seed, spec.Prepare.ShardBytes = map[string]int{"train": 80, "heldout": 20}, 42, 4096
	spec.Prepare.Deduplicate, spec.Prepare.MinBytes, spec.Prepare.MaxBytes = "near", 10, 3000
	files := map[string]string{}
	for i := range 60 {
		text := ""
		for w := range 20 + 10*(i/3) {
			text += fmt.Sprintf("word%d-%d \r\n", i/3, w)
		}
		files[fmt.Sprintf("d%d/f%d.txt", i%7, i)] = text + strings.Repeat("é", i%3%2) // two are the same, one is near
	}
	version, _ := mustPrepare(t, spec, tree(files))
	if got, want := version.Digest, penstock.Digest("sha256:d3e8da4a0be740970521720e2a6ba18229e7eb7123ac2531613b11b2b6bb988a"); got != want {
		t.Errorf("digest %s, want %s; counts %+v", got, want, version.Counts)
	}
}

func TestEveryClusterKeepsItsFirstDocument(t *testing.T) {
	body := strings.Fields(strings.Repeat("alpha beta gamma delta ", 10) + "epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau")
	spec := plain()
	spec.Prepare.Deduplicate = "near"
	rapid.Check(t, func(rt *rapid.T) {
		files, want := map[string]string{}, map[string]bool{}
		clusters := rapid.IntRange(1, 6).Draw(rt, "clusters")
		for c := range clusters {
			members := rapid.IntRange(1, 5).Draw(rt, "members")
			own := strings.Join(body, fmt.Sprintf(" c%d ", c))
			for m := range members {
				files[fmt.Sprintf("%d/%d", m, c)] = own + strings.Repeat("!", m)
			}
			want[own] = true
		}
		version, written, err := prepare(t, spec, tree(files))
		if err != nil {
			rt.Fatal(err)
		}
		got := map[string]bool{}
		for _, d := range decode(t, version, written, "train") {
			got[d] = true
		}
		if diff := cmp.Diff(want, got); diff != "" || version.Counts.Out != int64(clusters) {
			rt.Fatalf("kept %d of %d clusters (-want +got):\n%s", version.Counts.Out, clusters, diff)
		}
	})
}

func TestADocumentsSplitDependsOnItsContentAndTheSeedAlone(t *testing.T) {
	spec := plain()
	spec.Prepare.Split = map[string]int{"train": 70, "heldout": 20, "test": 10}
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("%04d", i)] = fmt.Sprintf("document %d", i)
	}
	version, written := mustPrepare(t, spec, tree(files))
	in := map[string]string{}
	for split, share := range spec.Prepare.Split {
		for _, d := range decode(t, version, written, split) {
			in[d] = split
		}
		// Four standard errors of a binomial share of 2000.
		if got := float64(version.Splits[split].Documents) / 2000; got < float64(share)/100-0.042 || got > float64(share)/100+0.042 {
			t.Errorf("%s has %.3f of the documents, want %d %%", split, got, share)
		}
	}
	other := map[string]string{"zzz": "new", "yyy": "newer"}
	for name, text := range files {
		other["moved/"+name[3:]+"/"+name] = text
	}
	version, written = mustPrepare(t, spec, tree(other))
	for split := range spec.Prepare.Split {
		for _, d := range decode(t, version, written, split) {
			if was, ok := in[d]; ok && was != split {
				t.Fatalf("%q was in %s and is in %s", d, was, split)
			}
		}
	}
	spec.Prepare.Seed = 1
	version, written = mustPrepare(t, spec, tree(files))
	moved := 0
	for split := range spec.Prepare.Split {
		for _, d := range decode(t, version, written, split) {
			if in[d] != split {
				moved++
			}
		}
	}
	if moved < 500 { // 1 - 0.7² - 0.2² - 0.1² = 46 % are expected
		t.Errorf("another seed moved %d of 2000 documents", moved)
	}
}

func TestAShardEndsWithADocumentUnlessThatIsLonger(t *testing.T) {
	spec := plain()
	spec.Prepare.ShardBytes = 1025 // an odd byte can't hold half a token
	a, b, c, long := strings.Repeat("a", 300), strings.Repeat("b", 200), strings.Repeat("c", 20), strings.Repeat("l", 1500)
	version, written := mustPrepare(t, spec, tree(map[string]string{"1": a, "2": b, "3": c, "4": long, "5": b, "6": c}))
	var sizes []int64
	for _, shard := range version.Splits["train"].Shards {
		sizes = append(sizes, shard.Size)
	}
	// a and b; c; 512 tokens of long twice, and its rest; b and c.
	if diff := cmp.Diff([]int64{1008, 44, 1024, 1024, 956, 448}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{a, b, c, long, b, c}, decode(t, version, written, "train")); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
}

func TestJSONLinesHoldPathAndText(t *testing.T) {
	spec := plain()
	spec.Prepare.Format, spec.Prepare.Tokeniser, spec.Prepare.ShardBytes = "jsonl", "", 1024
	version, written := mustPrepare(t, spec, tree(map[string]string{"a/ü.txt": "<é>\n\"x\"", "b": strings.Repeat("b", 900), "c": strings.Repeat("c", 1024)}))
	if got, want := string(written["train-00000.jsonl"]), `{"path":"a/ü.txt","text":"<é>\n\"x\""}`+"\n"+`{"path":"b","text":"`+strings.Repeat("b", 900)+"\"}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if diff := cmp.Diff(v1.Counts{In: 3, Out: 2, Bytes: 908, Dropped: map[string]int64{"too_large": 1}}, version.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestASplitWithoutDocumentsIsThereAndEmpty(t *testing.T) {
	spec := plain()
	spec.Prepare.Split = map[string]int{"rare": 1, "train": 99}
	version, written := mustPrepare(t, spec, tree(map[string]string{"a": "b"}))
	if diff := cmp.Diff(v1.SplitFiles{Shards: []v1.File{}}, version.Splits["rare"]); diff != "" || !bytes.Contains(written[Manifest], []byte(`"shards": []`)) {
		t.Errorf("split rare (-want +got):\n%s", diff)
	}
}

func TestProgressCountsBothPassesAndEndsWithAll(t *testing.T) {
	files := map[string]string{}
	for i := range 600 {
		files[fmt.Sprint(i)] = fmt.Sprintf("%4d", i%500) // 100 are there twice
	}
	spec := plain()
	spec.Prepare.Deduplicate = "exact"
	out := must(os.OpenRoot(t.TempDir()))
	defer out.Close()
	var told []Progress
	if _, err := Prepare(t.Context(), spec, tree(files), out, func(p Progress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	want := []Progress{
		{Step: 250, Pass: 1, Documents: 250, Bytes: 1000}, {Step: 500, Pass: 1, Documents: 500, Bytes: 2000},
		{Step: 850, Pass: 2, Documents: 250, Bytes: 1000}, {Step: 1100, Pass: 2, Documents: 500, Bytes: 2000}, {Step: 1100, Pass: 2, Documents: 500, Bytes: 2000},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeDoneIsToldAndLeavesNothing(t *testing.T) {
	good := tree(map[string]string{"a": "text", "b": "more"})
	with := func(change func(*v1.DatasetSpec)) v1.DatasetSpec {
		spec := plain()
		spec.Prepare.Split = maps.Clone(spec.Prepare.Split)
		change(&spec)
		return spec
	}
	for name, c := range map[string]struct {
		spec v1.DatasetSpec
		src  fs.FS
		want penstock.Code
	}{
		"a format that isn't known":    {with(func(s *v1.DatasetSpec) { s.Prepare.Format = "mds" }), good, penstock.Invalid},
		"a tokeniser for text":         {with(func(s *v1.DatasetSpec) { s.Prepare.Format = "jsonl" }), good, penstock.Invalid},
		"tokens without a tokeniser":   {with(func(s *v1.DatasetSpec) { s.Prepare.Tokeniser = "" }), good, penstock.Invalid},
		"a kind of deduplication":      {with(func(s *v1.DatasetSpec) { s.Prepare.Deduplicate = "" }), good, penstock.Invalid},
		"shares that don't sum up":     {with(func(s *v1.DatasetSpec) { s.Prepare.Split["train"] = 99 }), good, penstock.Invalid},
		"a negative share":             {with(func(s *v1.DatasetSpec) { s.Prepare.Split = map[string]int{"a": 101, "b": -1} }), good, penstock.Invalid},
		"no split":                     {with(func(s *v1.DatasetSpec) { s.Prepare.Split = nil }), good, penstock.Invalid},
		"shards of nothing":            {with(func(s *v1.DatasetSpec) { s.Prepare.ShardBytes = 0 }), good, penstock.Invalid},
		"documents that can't be held": {with(func(s *v1.DatasetSpec) { s.Prepare.MaxBytes = maxDocument + 1 }), good, penstock.Invalid},
		"a bad pattern":                {with(func(s *v1.DatasetSpec) { s.Source.Include = []string{"["} }), good, penstock.Invalid},
		"no file at all":               {plain(), fstest.MapFS{}, penstock.Invalid},
		"no file that matches":         {with(func(s *v1.DatasetSpec) { s.Source.Include = []string{"*.go"} }), good, penstock.Invalid},
		"no document left":             {with(func(s *v1.DatasetSpec) { s.Prepare.MinBytes = 100 }), good, penstock.Invalid},
		"a file that changes":          {plain(), &changing{FS: good}, penstock.Unavailable},
		"a folder that can't be read":  {plain(), closed{good}, penstock.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, written, err := prepare(t, c.spec, c.src)
			var e *penstock.Error
			if !errors.As(err, &e) || e.Code != c.want || e.Hint == "" {
				t.Errorf("got %v, want %s with a hint", err, c.want)
			}
			if len(written) > 0 {
				t.Errorf("left %q", sortedKeys(written))
			}
		})
	}
}

// changing is another text whenever it is opened.
type changing struct {
	fs.FS
	opened int
}

func (c *changing) Open(name string) (fs.File, error) {
	if name != "b" {
		return c.FS.Open(name)
	}
	c.opened++
	return tree(map[string]string{"b": fmt.Sprint(c.opened)}).Open("b")
}

// closed has a folder that can't be listed.
type closed struct{ fs.FS }

func (c closed) ReadDir(string) ([]fs.DirEntry, error) { return nil, fs.ErrPermission }

func TestAnExcludedFolderNeedNotBeReadable(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "a"), []byte("text"), 0o600), os.MkdirAll(filepath.Join(dir, "x", "private"), 0o700)); err != nil {
		t.Fatal(err)
	}
	src := unlisted{must(os.OpenRoot(dir)).FS(), "x/private"}
	if _, _, err := prepare(t, plain(), src); penstock.CodeOf(err) != penstock.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	spec := plain()
	spec.Source.Exclude = []string{"**/private/**"}
	mustPrepare(t, spec, src)
}

// unlisted has one folder that can't be listed.
type unlisted struct {
	fs.FS
	name string
}

func (u unlisted) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == u.name {
		return nil, fs.ErrPermission
	}
	return fs.ReadDir(u.FS, name)
}

func TestAFolderThatIsNotEmptyStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(os.OpenRoot(dir))
	defer out.Close()
	_, err := Prepare(t.Context(), plain(), tree(map[string]string{"a": "b"}), out, ignore)
	if penstock.CodeOf(err) != penstock.Exists {
		t.Errorf("got %v, want exists", err)
	}
	if entries := must(os.ReadDir(dir)); len(entries) != 1 {
		t.Errorf("%d files, want the one that was there", len(entries))
	}
}

func TestACancelledPreparationLeavesNothing(t *testing.T) {
	files := map[string]string{}
	for i := range 400 {
		files[fmt.Sprint(i)] = fmt.Sprint(i)
	}
	for _, pass := range []int64{1, 2} {
		dir := t.TempDir()
		out := must(os.OpenRoot(dir))
		defer out.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := Prepare(ctx, plain(), tree(files), out, func(p Progress) {
			if p.Pass == pass {
				cancel()
			}
		})
		if penstock.CodeOf(err) != penstock.Canceled || len(must(os.ReadDir(dir))) > 0 {
			t.Errorf("cancelled in pass %d: %v, %d files left", pass, err, len(must(os.ReadDir(dir))))
		}
	}
}
