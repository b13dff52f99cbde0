package slurm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock/penstock"
)

// commandTime bounds one command of Slurm's. They try for long to reach a
// controller that is away.
const commandTime = 30 * time.Second

// maxOutput bounds what is read of a command: 100,000 jobs of 300 bytes.
const maxOutput = 32 << 20

// commands are the programs by which Slurm is spoken to.
type commands struct {
	folder string // empty: found on PATH
	env    []string
}

// searchPath is the PATH of jobs, before the folder of Slurm's commands.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func findCommands(o Options) (commands, error) {
	c := commands{folder: o.Commands}
	for _, name := range []string{"squeue", "scancel", "scontrol", "sbatch"} {
		found, err := exec.LookPath(c.path(name))
		if err != nil {
			return c, &penstock.Error{
				Code: penstock.Invalid, Msg: "Slurm's command " + name + " is not on this machine", Err: err,
				Hint: "install Slurm's client commands, or say in which folder they are",
			}
		}
		c.folder = filepath.Dir(found)
	}
	// This is the whole environment of what sbatch submits: the server's own may
	// hold secrets.
	c.env = []string{"PATH=" + searchPath + ":" + c.folder, "LANG=C.UTF-8", "SLURM_TIME_FORMAT=standard"}
	if o.Conf != "" {
		c.env = append(c.env, "SLURM_CONF="+o.Conf)
	}
	return c, nil
}

func (c commands) path(name string) string {
	if c.folder == "" {
		return name
	}
	return filepath.Join(c.folder, name)
}

// run runs one command and gives what it wrote to stdout. An error has what it
// wrote to stderr.
func (c commands) run(ctx context.Context, name string, args ...string) (string, error) {
	return c.feed(ctx, "", nil, name, args...)
}

// feed runs one command in the folder dir, with stdin.
func (c commands) feed(ctx context.Context, dir string, stdin io.Reader, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path(name), args...)
	cmd.Env, cmd.Dir, cmd.Stdin = c.env, dir, stdin
	cmd.WaitDelay = time.Second
	stdout, stderr := &bounded{max: maxOutput}, &bounded{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	if err == nil && stdout.cut {
		err = fmt.Errorf("it wrote more than %d bytes", maxOutput)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return stdout.String(), &failure{command: name, words: strings.Join(strings.Fields(stderr.String()), " "), err: err}
	}
	return stdout.String(), nil
}

// bounded keeps the first max bytes.
type bounded struct {
	bytes.Buffer
	max int
	cut bool
}

func (b *bounded) Write(p []byte) (int, error) {
	kept := p[:min(len(p), b.max-b.Len())]
	b.cut = b.cut || len(kept) < len(p)
	_, _ = b.Buffer.Write(kept) // a Buffer takes everything
	return len(p), nil
}

// failure is a command that did not succeed.
type failure struct {
	command string
	words   string // stderr, in one line
	err     error
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %s (%s)", f.command, f.words, f.err) }
func (f *failure) Unwrap() error { return f.err }

// refused reports whether Slurm's controller has answered, with a no. Any other
// failure says nothing of what has happened.
func (f *failure) refused() bool {
	var exit *exec.ExitError
	if !errors.As(f.err, &exit) || exit.ExitCode() < 0 {
		return false // it was killed, or didn't start
	}
	for _, silence := range []string{
		"unable to contact slurm controller", "socket timed out", "connection refused", "connection timed out", "zero bytes were transmitted",
		"communication connection failure", "communication receive failure", "communication send failure", "communication shutdown failure",
		"unable to contact", "slurm backup controller in standby mode", "unexpected message received", "protocol authentication error",
		"could not establish a configuration source", "temporarily unable", "try again", "munge", "unable to process configuration file",
	} {
		if strings.Contains(strings.ToLower(f.words), silence) {
			return false
		}
	}
	return true
}

// unavailable is the error for a question that Slurm did not answer.
func unavailable(asked string, err error) error {
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: "Slurm did not tell " + asked, Err: err, Hint: "see on the server's machine whether 'scontrol ping' answers",
	}
}

// install copies the agent into the shared folder, under a name of its content:
// jobs that wait keep the one with which they were submitted.
func install(o Options) (string, error) {
	info, err := os.Stat(o.AgentPath)
	if err != nil || info.Mode()&0o111 == 0 {
		return "", &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("there is no program penstock-agent at %q", o.AgentPath), Err: err,
			Hint: "install penstock-agent next to penstock, or say where it is",
		}
	}
	program, err := os.ReadFile(o.AgentPath)
	if err != nil {
		return "", fmt.Errorf("read penstock-agent: %w", err)
	}
	sum := sha256.Sum256(program)
	path := filepath.Join(o.Dir, agentFolder, hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("install penstock-agent: %w", err)
	}
	if err := replace(path, program, 0o700); err != nil {
		return "", fmt.Errorf("install penstock-agent: %w", err)
	}
	return path, nil
}

// replace puts a whole file in place, or nothing.
func replace(path string, content []byte, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone already if all went well
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
