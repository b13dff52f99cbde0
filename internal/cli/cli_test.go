package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestErrorsSayEachThingOnce(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "x.yaml", Err: syscall.ENOENT}
	dial := &url.Error{Op: "Get", URL: "http://127.0.0.1:1/api/v1/jobs", Err: &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"a missing file", &penstock.Error{Code: penstock.NotFound, Where: "x.yaml", Msg: "there is none", Err: missing}, "x.yaml: there is none"},
		{"another trouble with it", &penstock.Error{Code: penstock.NotFound, Msg: "it can't be read", Err: &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}}, "it can't be read: permission denied"},
		{"a refused connection", &penstock.Error{Code: penstock.Unavailable, Msg: "the server can't be reached", Err: dial}, "the server can't be reached: connection refused"},
		{"a timeout", &penstock.Error{Code: penstock.Unavailable, Msg: "no", Err: &url.Error{Op: "Get", URL: "http://x", Err: context.DeadlineExceeded}}, "no: context deadline exceeded"},
		{"wrapped", fmt.Errorf("upload a.py: %w", &penstock.Error{Msg: "no", Err: missing}), "upload a.py: no: no such file or directory"},
		{"one below another", &penstock.Error{Msg: "outer", Err: fmt.Errorf("in between: %w", &penstock.Error{Where: "w", Msg: "inner"})}, "outer: in between: w: inner"},
		{"foreign", errors.New("plain"), "plain"},
	} {
		if diff := cmp.Diff(c.want, describe(c.err)); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestJoinedErrorsAreShownOneByOneWithTheirHints(t *testing.T) {
	var out bytes.Buffer
	showError(&out, errors.Join(&penstock.Error{Msg: "one", Hint: "do this"}, errors.Join(errors.New("two\x1b[2J"), &penstock.Error{Msg: "three"})))
	if diff := cmp.Diff("penstock: error: one\npenstock: hint: do this\npenstock: error: two[2J\npenstock: error: three\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTablesAreAlignedForPeopleAndTabbedForPrograms(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		width    int
		want     string
	}{
		{"a pipe", false, 0, "ü\tx y\nlonger\tthe last one is cut to the width\n"},
		{"a terminal", true, 0, "A       B\nü       x y\nlonger  the last one is cut to the width\n"},
		{"a narrow one", true, 24, "A       B\nü       x y\nlonger  the last one is…\n"},
	} {
		var out bytes.Buffer
		s := &session{Env: Env{Out: &out, Terminal: c.terminal, Width: c.width}}
		table := s.table("A", "B")
		table.add("ü\x1b", "x\ny")
		table.add("longer", "the last one is cut to the width")
		table.print()
		plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(out.String(), "")
		if diff := cmp.Diff(c.want, plain); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

func TestNamesOfRunsAreNamesAndDiffer(t *testing.T) {
	at := time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC)
	for program, start := range map[string]string{
		"/usr/bin/python3": "python3-1125-010203-", "Train_Me.sh": "train-me-sh-1125-010203-", "...": "1125-010203-", strings.Repeat("x", 99): "xxxxxxxxxxxxxxxxxxxx-1125-010203-",
	} {
		a, b := runName(program, at), runName(program, at)
		if err := penstock.CheckName(a); err != nil || !strings.HasPrefix(a, start) || a == b {
			t.Errorf("%s: %q and %q: %v", program, a, b, err)
		}
	}
}

func TestServersFaultIsFoundInTheManifest(t *testing.T) {
	content := []byte("apiVersion: penstock/v1\nkind: Job\nmetadata: {project: lab, name: a}\nspec:\n  priority: 3\n  tasks: []\n")
	manifests := []manifest{{
		object: v1.Object{Kind: penstock.KindJob, Metadata: v1.Metadata{Project: "lab", Name: "a"}}, file: "a.yaml", content: content,
	}}
	for where, want := range map[string]string{
		"job/lab/a spec.priority": "a.yaml:5: job/lab/a: spec.priority: no",
		"job/lab/a":               "a.yaml:1: job/lab/a: no",
		"job/lab/other spec":      "job/lab/other spec: no",
		"body":                    "body: no",
	} {
		err := locate(manifests, &penstock.Error{Code: penstock.Invalid, Where: where, Msg: "no"})
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Error(diff)
		}
	}
	if locate(manifests, nil) != nil {
		t.Error("an error from nowhere")
	}
}

func TestKindsAndRefsAreReadAsPeopleTypeThem(t *testing.T) {
	s := &session{project: "lab", Env: Env{Getenv: func(string) string { return "" }}}
	for text, want := range map[string]string{
		"a": "job/lab/a", "Job/a": "job/lab/a", "jobs/other/a": "job/other/a", "pool/p": "pool/p", "ep/chat": "endpoint/lab/chat", "mv/m-1": "modelversion/lab/m-1",
	} {
		ref, err := s.parseRef(text, penstock.KindJob)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, ref.String()); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := s.parseRef("jobb/a", ""); penstock.CodeOf(err) != penstock.Invalid {
		t.Error(err)
	}
}

func TestContextIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "context.json")
	want := Context{Server: "http://127.0.0.1:1", Token: "t"}
	for range 2 {
		if err := WriteContext(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readContext(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for at, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(at)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", at, info.Mode(), err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readContext(path); penstock.CodeOf(err) != penstock.Corrupt {
		t.Error(err)
	}
}

func TestFlagsOverrideTheEnvironmentOverridesTheDevServer(t *testing.T) {
	dir := t.TempDir()
	if err := WriteContext(filepath.Join(dir, "c"), Context{Server: "http://dev", Token: "dev"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(" file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"PENSTOCK_CONTEXT": filepath.Join(dir, "c")}
	s := &session{Env: Env{Getenv: func(k string) string { return environment[k] }}}
	check := func(base, token string) {
		t.Helper()
		c, err := s.client()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{base, token}, []string{c.Base, c.Token}); diff != "" {
			t.Error(diff)
		}
	}
	check("http://dev", "dev")
	environment["PENSTOCK_SERVER"] = "http://env"
	check("http://env", "") // a token goes to its own server alone
	environment["PENSTOCK_TOKEN"] = "env"
	check("http://env", "env")
	s.server, s.tokenFile = "http://flag", filepath.Join(dir, "token")
	check("http://flag", "file")
}
