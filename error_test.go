package penstock

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/errors.md")

func TestErrorSaysWhereWhatAndWhy(t *testing.T) {
	for _, c := range []struct {
		e    Error
		want string
	}{
		{Error{Code: Invalid, Msg: "is too long", Where: "job.yaml:7", Hint: "shorten it", Err: fs.ErrNotExist}, "job.yaml:7: is too long: file does not exist"},
		{Error{Code: Invalid, Msg: "is too long"}, "is too long"},
		{Error{Code: Busy, Err: fs.ErrExist}, "file already exists"},
		{Error{Code: Busy, Where: "job/p/a"}, "job/p/a: busy"},
		{Error{Code: Busy}, "busy"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestErrorsAreAskedForByCode(t *testing.T) {
	err := fmt.Errorf("apply: %w", &Error{Code: Conflict, Msg: "changed", Err: fs.ErrPermission})
	for _, c := range []struct {
		target error
		want   bool
	}{
		{&Error{Code: Conflict}, true},
		{&Error{Code: Conflict, Hint: "anything"}, true},
		{&Error{Code: Exists}, false},
		{&Error{Code: Conflict, Msg: "changed"}, false}, // more than the code is asked for: only itself is that
		{&Error{Code: Conflict, Where: "x"}, false},
		{fs.ErrPermission, true},
		{fs.ErrExist, false},
	} {
		if got := errors.Is(err, c.target); got != c.want {
			t.Errorf("is %#v: %v, want %v", c.target, got, c.want)
		}
	}
}

func TestCodeOfIsTheOutermost(t *testing.T) {
	inner := &Error{Code: Corrupt, Msg: "bad bytes"}
	for _, c := range []struct {
		err  error
		code Code
		http int
		exit int
	}{
		{nil, "", 500, 1},
		{errors.New("plain"), Internal, 500, 1},
		{inner, Corrupt, 500, 1},
		{fmt.Errorf("read: %w", inner), Corrupt, 500, 1},
		{&Error{Code: Unavailable, Err: inner}, Unavailable, 503, 1},
		{errors.Join(errors.New("plain"), &Error{Code: NotFound}), NotFound, 404, 3},
		{&Error{Code: "unheard"}, "unheard", 500, 1},
	} {
		info := InfoOf(c.err)
		if CodeOf(c.err) != c.code || info.HTTP != c.http || info.Exit != c.exit {
			t.Errorf("%v is %q with %+v; want %q, %d, %d", c.err, CodeOf(c.err), info, c.code, c.http, c.exit)
		}
	}
}

// TestEveryCodeIsInTheCatalogue reads the constants out of the source, so that
// a new one can't be left out.
func TestEveryCodeIsInTheCatalogue(t *testing.T) {
	source, err := os.ReadFile("error.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[Code]bool{}
	for _, info := range Codes() {
		if listed[info.Code] || info.Meaning == "" || info.HTTP < 400 || info.HTTP > 599 || info.Exit < 1 || info.Exit > 255 {
			t.Errorf("%+v is incomplete or told twice", info)
		}
		listed[info.Code] = true
		if InfoOf(&Error{Code: info.Code}) != info {
			t.Errorf("InfoOf doesn't find %s", info.Code)
		}
	}
	block, _, _ := strings.Cut(string(source), "// CodeInfo")
	n := 0
	for line := range strings.Lines(block) {
		if _, value, ok := strings.Cut(line, " Code = "); ok {
			n++
			if code := Code(strings.Trim(strings.TrimSpace(value), `"`)); !listed[code] {
				t.Errorf("%s is not in Codes", code)
			}
		}
	}
	if n != len(listed) {
		t.Errorf("%d constants and %d lines of the catalogue", n, len(listed))
	}
}

// TestTheErrorsPageIsUpToDate compares docs/errors.md with the catalogue;
// go test -run ErrorsPage -update . writes it.
func TestTheErrorsPageIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Error codes\n\nGenerated from `penstock.Codes()`: don't edit. Every error of the API is a problem document (RFC 9457) with one of these\n" +
		"codes; the command line ends with the exit status beside it. A code is never renamed.\n\n" +
		"| code | HTTP | exit | meaning |\n|---|---|---|---|\n")
	for _, info := range Codes() {
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s |\n", info.Code, info.HTTP, info.Exit, info.Meaning)
	}
	const page = "docs/errors.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("run with -update (-page +catalogue):\n%s", diff)
	}
}

func TestPublicTellsNothingOfForeignCauses(t *testing.T) {
	secret := errors.New("open /home/ann/key: permission denied")
	for _, c := range []struct {
		err  error
		want string
	}{
		{secret, "a fault in Penstock; the server's log tells more"},
		{&Error{Code: Invalid, Msg: "no such split", Err: secret}, "no such split"},
		{fmt.Errorf("place job: %w", &Error{Code: Pending, Msg: "not yet"}), "not yet"},
		{&Error{Code: Denied, Msg: "closed", Err: fmt.Errorf("at x: %w", &Error{Code: Invalid, Msg: "no scan", Err: secret})}, "closed: no scan"},
		{&Error{Code: Busy}, "busy"},
	} {
		if got := Public(c.err); got != c.want {
			t.Errorf("Public(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
