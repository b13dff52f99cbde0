package dataset

import (
	"testing"
	"time"

	"github.com/penstock/penstock"
)

func TestPatternsMatchAsPeopleExpect(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.go", "a.go", true},
		{"a.go", "b/a.go", false},
		{"*.go", "a.go", true},
		{"*.go", "b/a.go", false},
		{"*.go", ".go", true},
		{"**", "a", true},
		{"**", "a/b/c", true},
		{"**/*.go", "a.go", true},
		{"**/*.go", "a/b/c.go", true},
		{"**/*.go", "a/b/c.md", false},
		{"**/testdata/**", "testdata/x", true},
		{"**/testdata/**", "a/testdata/b/x", true},
		{"**/testdata/**", "a/testdata", true}, // the folder itself holds nothing else
		{"**/testdata/**", "a/testdatum/x", false},
		{"cmd/**", "cmd/go/main.go", true},
		{"cmd/**", "a/cmd/main.go", false},
		{"a/**/b", "a/b", true},
		{"a/**/b", "a/x/y/b", true},
		{"a/**/b", "a/x/y/b/c", false},
		{"a/**/**/b", "a/b", true},
		{"**/a/**/a/**", "a/a", true},
		{"**/a/**/a/**", "x/a/y/a/z", true},
		{"**/a/**/a/**", "x/a/y", false},
		{"?[0-9].txt", "a1.txt", true},
		{"?[0-9].txt", "ab.txt", false},
		{"a*", "a/b", false},
	} {
		patterns, err := parsePatterns([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		if got := matchAny(patterns, c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestABadPatternIsRefused(t *testing.T) {
	for _, p := range []string{"[", "a/[b", ""} {
		if _, err := parsePatterns([]string{"ok", p}); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%q: %v, want invalid", p, err)
		}
	}
}

func TestNoPatternTakesForEver(t *testing.T) {
	name, p := "", ""
	for range 100 {
		name, p = name+"a/", p+"**/a/"
	}
	patterns, err := parsePatterns([]string{p + "b"})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if matchAny(patterns, name+"c") {
		t.Error("it matches")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
