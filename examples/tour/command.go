package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// manifests is the folder with the tour's copy of the manifests.
func (t *tour) manifests(names ...string) string {
	return filepath.Join(append([]string{t.Dir, "tour"}, names...)...)
}

// copyManifests copies manifests and code, and edits them for the pace.
func (t *tour) copyManifests() error {
	from := filepath.Join(t.Root, "examples", "tour")
	for _, part := range []string{"code", "extra"} {
		if err := os.CopyFS(t.manifests(part), os.DirFS(filepath.Join(from, part))); err != nil {
			return fmt.Errorf("copy the tour's %s: %w", part, err)
		}
	}
	paths, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		edited := strings.NewReplacer(
			fmt.Sprintf("steps: %q", fmt.Sprint(full.Steps)), fmt.Sprintf("steps: %q", fmt.Sprint(t.Pace.Steps)),
			fmt.Sprintf("checkpoint_every: %q", fmt.Sprint(full.Every)), fmt.Sprintf("checkpoint_every: %q", fmt.Sprint(t.Pace.Every)),
		).Replace(string(text))
		if err := os.WriteFile(t.manifests(filepath.Base(path)), []byte(edited), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// root is the admin whose token 'penstock dev' made.
const root = ""

// do runs the command line as somebody, shows it, and gives what it wrote to
// stdout. Any status but 0 is an error.
func (t *tour) do(ctx context.Context, as string, args ...string) (string, error) {
	out, said, status, err := t.call(ctx, as, args)
	if err != nil {
		return "", err
	}
	if status != 0 {
		return "", fmt.Errorf("penstock %s ended with status %d: %s", strings.Join(args, " "), status, said)
	}
	return out, nil
}

// refused runs the command line as somebody who must be told no with a status,
// and gives what was said.
func (t *tour) refused(ctx context.Context, want int, as string, args ...string) (string, error) {
	_, said, status, err := t.call(ctx, as, args)
	if err != nil {
		return "", err
	}
	t.check(status == want, "%s is refused: 'penstock %s' ends with status %d", as, t.shorten(args), status)
	return strings.TrimPrefix(said, "penstock: error: "), nil
}

func (t *tour) call(ctx context.Context, as string, args []string) (out, said string, status int, err error) {
	t.command(as, t.shorten(args))
	cmd := exec.CommandContext(ctx, t.server.program, args...)
	cmd.Env = t.server.env(t.tokens[as])
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		status, err = exit.ExitCode(), nil
	}
	t.output(stdout.String(), stderr.String())
	return stdout.String(), strings.TrimSpace(stderr.String()), status, err
}

// shorten writes the tour's own folder as people would type it.
func (t *tour) shorten(args []string) string {
	return strings.ReplaceAll(strings.Join(args, " "), t.manifests()+string(filepath.Separator), "")
}

// quiet runs the command line for what it prints as JSON, into out, and shows
// the command alone.
func (t *tour) quiet(ctx context.Context, as string, into any, args ...string) error {
	t.command(as, t.shorten(args))
	cmd := exec.CommandContext(ctx, t.server.program, args...)
	cmd.Env = t.server.env(t.tokens[as])
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("penstock %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return json.Unmarshal(out, into)
}
