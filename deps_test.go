package penstock_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	module  = "github.com/penstock/penstock"
	outside = "outside" // in a rule: neither of this module nor of the standard library
)

// goPackage is what go list tells. Imports are without those of tests.
type goPackage struct {
	ImportPath, Dir, Name, Doc string
	Standard                   bool
	GoFiles, Imports           []string
}

// short is the path inside the module, "." for the root and another module's
// path as it is.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// house is what go list tells of this module and all that it is built from.
type house struct {
	rooms    []goPackage     // of this module
	standard map[string]bool // paths of the standard library
}

func list(t *testing.T) house {
	t.Helper()
	h, err := listed()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(h.rooms) < 20 {
		t.Fatalf("go list knows %d packages only", len(h.rooms))
	}
	return h
}

var listed = sync.OnceValues(func() (house, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Name,Doc,Standard,GoFiles,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		return house{}, err
	}
	h := house{standard: map[string]bool{}}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			return house{}, err
		}
		h.standard[p.ImportPath] = p.Standard
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			h.rooms = append(h.rooms, p)
		}
	}
	return h, nil
})

// The packages that rules speak of. A name that ends in /... means everything
// below too; anything is everything.
var (
	pure = []string{
		"internal/spec", "internal/classify", "internal/admit", "internal/place/...", "internal/snapshot", "internal/gate",
		"internal/meter/...", "internal/watch", "internal/registry/scan",
	}
	adapters = []string{
		"internal/store/sqlite/...", "internal/store/postgres/...", "internal/run/local/...", "internal/run/slurm/...", "internal/run/kubernetes/...", "internal/blob/fs/...", "internal/blob/s3/...", "internal/httpapi/...", "internal/webui/...", "internal/cli/...",
	}
	anything = []string{"*"}
	io       = []string{"os/...", "net/...", "database/sql/...", "syscall/...", "log/...", "golang.org/x/sys/..."}
)

// rule bans imports. except are packages that it doesn't hold for, but are
// packages that may be imported all the same.
type rule struct {
	who    []string
	except []string
	banned []string
	but    []string
	why    string
}

func rules() []rule {
	all := []rule{
		{who: []string{"."}, banned: []string{outside, module + "/..."},
			why: "everything imports the vocabulary, so what it imports everything carries: the standard library only"},
		{who: []string{"."}, banned: io,
			why: "the vocabulary knows no files, no network and no log: a word does nothing"},
		{who: []string{"api/v1/..."}, banned: []string{module + "/..."}, but: []string{".", "api/v1"},
			why: "outsiders import api/v1; what it imports becomes their dependency, and internal is closed to them"},
		{who: []string{"api/v1/..."}, banned: []string{outside},
			why: "outsiders import api/v1, and shall not inherit our libraries"},
		{who: pure, banned: io,
			why: "a pure stage has no file, network, SQL or log in it: that makes it testable, replayable and explainable"},
		{who: pure, banned: []string{"math/rand/...", "crypto/rand/..."},
			why: "in a pure stage randomness is an argument: the same snapshot gives the same decision"},
		{who: pure, except: []string{"internal/meter"}, banned: []string{module + "/..."}, but: slices.Concat(pure, []string{".", "api/v1"}),
			why: "a pure stage speaks of snapshots and stages before it, never of where they are kept or how they are run"},
		{who: []string{"internal/meter"}, banned: []string{module + "/..."}, but: slices.Concat(pure, []string{".", "api/v1", "internal/store"}),
			why: "the roll-up folds the ledger's own records, whose types the port internal/store declares; it may not know more of the store"},
		{who: anything, except: slices.Concat([]string{"cmd/...", "bench/...", "examples/..."}, adapters), banned: adapters,
			why: "only programs choose adapters; everything else speaks to their port"},
		{who: anything, except: []string{"internal/control", "internal/sim/...", "internal/place"}, banned: []string{"internal/place"},
			why: "only control composes stages, and the simulator calls what production calls: one place tells the flow"},
		{who: []string{"internal/cli/..."}, banned: []string{module + "/..."}, but: []string{".", "api/v1", "api/v1/client", "internal/spec", "internal/cli/..."},
			why: "the command line talks to the server as any outsider does; what it can do, an API client can"},
		{who: anything, except: []string{"internal/store/sqlite", "internal/store/sqldb"}, banned: []string{"modernc.org/sqlite/..."},
			why: "which database keeps the state is a secret of its adapter"},
		{who: anything, except: []string{"internal/store/postgres/..."}, banned: []string{"github.com/jackc/pgx/..."},
			why: "which database keeps the state is a secret of its adapter"},
		{who: anything, except: []string{"internal/store/sqlite", "internal/store/postgres", "cmd/penstock"}, banned: []string{"internal/store/sqldb", "internal/store/migrations"},
			why: "SQL is shared by the adapters of databases alone; all others speak of records"},
		{who: anything, except: []string{"internal/blob/s3/..."}, banned: []string{"github.com/minio/minio-go/..."},
			why: "that bytes lie in S3 is a secret of its adapter"},
		{who: anything, except: []string{"internal/run/kubernetes", "bench/kubernetes"}, banned: []string{"k8s.io/..."},
			why: "what a pod is stays in the adapter that makes it; the benchmark beside it compares clusters"},
		{who: anything, except: []string{"internal/cli/..."}, banned: []string{"charm.land/..."},
			why: "how a terminal looks is the command line's business: no style in data"},
		{who: anything, except: []string{"internal/httpapi/..."}, banned: []string{"github.com/danielgtaylor/huma/..."},
			why: "the HTTP framework stays behind the API, so that it can be changed there"},
		{who: anything, except: []string{"cmd/penstock-llama/..."}, banned: []string{"github.com/hybridgroup/yzma/..."},
			why: "native libraries are loaded by one small program, which may crash alone"},
	}
	for _, a := range adapters {
		others := slices.DeleteFunc(slices.Clone(adapters), func(o string) bool { return o == a })
		all = append(all, rule{who: []string{a}, banned: others, why: "adapters never import each other: each can be replaced alone, behind its port"})
	}
	return all
}

func TestImportRules(t *testing.T) {
	h := list(t)
	for _, r := range rules() {
		held := false
		for _, p := range h.rooms {
			who := short(p.ImportPath)
			if !matches(r.who, who) || matches(r.except, who) {
				continue
			}
			held = true
			for _, path := range p.Imports {
				if h.banned(r, path) {
					t.Errorf("%s imports %s: %s", who, short(path), r.why)
				}
			}
		}
		if !held {
			t.Errorf("there is no package %v: whom does the rule hold for that says %q?", r.who, r.why)
		}
	}
}

func (h house) banned(r rule, path string) bool {
	own := path == module || strings.HasPrefix(path, module+"/")
	if matches(r.but, short(path)) && own {
		return false
	}
	if slices.Contains(r.banned, outside) && !own && !h.standard[path] {
		return true
	}
	return matches(r.banned, path) || own && matches(r.banned, short(path))
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, below := strings.CutSuffix(pattern, "/...")
		return pattern == "*" || path == prefix || below && strings.HasPrefix(path, prefix+"/")
	})
}

// TestRulesCanFail holds the checker itself to imports that it must refuse.
func TestRulesCanFail(t *testing.T) {
	h := house{standard: map[string]bool{"os": true, "fmt": true, "net/http": true, "time": true, "log/slog": true}}
	for _, c := range []struct {
		who, path string
		refused   bool
	}{
		{".", "fmt", false},
		{".", "os", true},
		{".", module + "/api/v1", true},
		{".", "github.com/google/go-cmp/cmp", true},
		{"internal/place", "time", false},
		{"internal/place", "net/http", true},
		{"internal/place", "log/slog", true},
		{"internal/place", module + "/internal/store", true},
		{"internal/place", module + "/internal/admit", false},
		{"internal/meter", module + "/internal/store", false},
		{"internal/meter", module + "/internal/store/sqlite", true},
		{"internal/meter/focus", module + "/internal/store", true},
		{"internal/control", module + "/internal/store/sqlite", true},
		{"cmd/penstock", module + "/internal/store/sqlite", false},
		{"internal/store/sqlite", module + "/internal/blob/fs", true},
		{"internal/store/sqlite", "modernc.org/sqlite/lib", false},
		{"internal/control", "modernc.org/sqlite", true},
		{"internal/cli", module + "/internal/store", true},
		{"internal/cli", module + "/internal/spec", false},
		{"internal/blob/s3", "github.com/minio/minio-go/v7/pkg/encrypt", false},
		{"internal/httpapi", "github.com/minio/minio-go/v7", true},
		{"internal/httpapi", "charm.land/lipgloss/v2", true},
		{"internal/cli", "github.com/danielgtaylor/huma/v2", true},
		{"internal/serve/runtime", "github.com/hybridgroup/yzma/pkg/llama", true},
		{"internal/httpapi", module + "/internal/place", true},
		{"api/v1", module + "/internal/spec", true},
	} {
		refused := false
		for _, r := range rules() {
			refused = refused || matches(r.who, c.who) && !matches(r.except, c.who) && h.banned(r, c.path)
		}
		if refused != c.refused {
			t.Errorf("%s importing %s is refused: %v", c.who, short(c.path), refused)
		}
	}
}

// TestPureStagesHaveNoClock reads their source: time is an argument there, so
// that yesterday's decision can be made again today.
func TestPureStagesHaveNoClock(t *testing.T) {
	for _, p := range list(t).rooms {
		if !matches(pure, short(p.ImportPath)) {
			continue
		}
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			tree, err := parser.ParseFile(fset, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range clocks(tree) {
				t.Errorf("%s: %s: in a pure stage time is an argument, so that a decision can be replayed and explained",
					fset.Position(call.Pos()), "time."+call.Sel.Name)
			}
		}
	}
}

// clocks finds what reads or waits for a clock, under whatever name the file
// imports the package time.
func clocks(tree *ast.File) []*ast.SelectorExpr {
	name := ""
	for _, i := range tree.Imports {
		if i.Path.Value == `"time"` {
			name = "time"
			if i.Name != nil {
				name = i.Name.Name
			}
		}
	}
	var found []*ast.SelectorExpr
	ast.Inspect(tree, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && name != "" && x.Name == name {
			if slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, s.Sel.Name) {
				found = append(found, s)
			}
		}
		return true
	})
	return found
}

func TestAClockIsFoundUnderAnyName(t *testing.T) {
	for source, want := range map[string]int{
		`package p; import "time"; var now = time.Now`:                                 1,
		`package p; import t "time"; func f() { t.Sleep(1); _ = t.Since(t.Time{}) }`:   2,
		`package p; import "time"; var a = time.Unix(1, 0); type s struct{ Now int }`:  0,
		`package p; var time struct{ Now func() }; func f() { time.Now() }`:            0,
		`package p; import "time"; func f(x struct{ Now time.Time }) any { return x }`: 0,
	} {
		tree, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(clocks(tree)); got != want {
			t.Errorf("%d clocks in %s, want %d", got, source, want)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t).rooms {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment: who enters a room must be told what it is for", short(p.ImportPath))
		}
	}
}

func TestNoPackageIsADrawerForEverything(t *testing.T) {
	for _, p := range list(t).rooms {
		for part := range strings.SplitSeq(short(p.ImportPath), "/") {
			for _, word := range []string{"util", "common", "helper", "manager", "misc"} {
				if part == word || part == word+"s" || p.Name == word || p.Name == word+"s" {
					t.Errorf("%s: a package is one singular noun or verb of the field; %q says nothing, so everything ends up in it", short(p.ImportPath), word)
				}
			}
		}
	}
}
