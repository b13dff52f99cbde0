package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// source is the tree that images are made of.
type source struct {
	dir      string
	revision string // commit
	// time stands for every time in an image: the commit's, or that of
	// SOURCE_DATE_EPOCH.
	time time.Time
}

func readSource(ctx context.Context, dir string) (source, error) {
	s := source{dir: dir}
	text, err := git(ctx, dir, "log", "-1", "--format=%H %ct")
	if err != nil {
		return s, err
	}
	revision, epoch, _ := strings.Cut(text, " ")
	if given := os.Getenv("SOURCE_DATE_EPOCH"); given != "" {
		epoch = given
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return s, fmt.Errorf("the time of the source, %q, is not in seconds since 1970: see SOURCE_DATE_EPOCH", epoch)
	}
	s.revision, s.time = revision, time.Unix(seconds, 0).UTC()
	return s, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", told(fmt.Sprintf("ask git about %s (images are made of a commit, so a clone is needed)", dir), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// told adds what a program wrote to stderr.
func told(doing string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s: %w\n%s", doing, err, exit.Stderr)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// program is a built binary and what it says of itself.
type program struct {
	name    string
	content []byte
	info    *buildinfo.BuildInfo
}

// platforms are what the images are made for: servers and the machines with
// accelerators are of either kind.
func platforms() []v1.Platform {
	return []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
}

// compile builds a program of cmd/ into the folder to. It is static, knows
// nothing of this machine's folders, and names its commit; the symbol table and
// DWARF stay behind, since the agent is copied into every pod.
func (s source) compile(ctx context.Context, p v1.Platform, name, to string) (program, error) {
	path := filepath.Join(to, p.Architecture, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", path, "./cmd/"+name)
	cmd.Dir = s.dir
	// Flags of the caller's own would make other bytes of the same commit.
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if _, err := cmd.Output(); err != nil {
		return program{}, told(fmt.Sprintf("build %s for %s", name, p), err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("read what %s was built from: %w", name, err)
	}
	content, err := os.ReadFile(path)
	return program{name: name, content: content, info: info}, err
}

// version is what the go command made of tag and commit: v1.2.3, or
// v0.0.0-TIME-COMMIT, with +dirty at its end where the tree had changes.
func (p program) version() string { return p.info.Main.Version }
