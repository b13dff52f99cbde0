package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Output is the name of the output that Main writes: a folder below
// PENSTOCK_OUTPUTS.
const Output = "version"

// Main is the built-in job "penstock-agent prepare": Prepare under the contract
// of a workload. It reads the v1.DatasetSpec in JSON from the parameter "spec",
// writes the version into PENSTOCK_OUTPUTS/version and its progress to
// PENSTOCK_METRICS, and a line for people to stdout. $GOROOT in the source's
// path is the parameter "goroot" or else what the go command says.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("prepare takes no arguments, and got %q", args), Hint: "it is configured by the job's parameter spec"}
	}
	var spec v1.DatasetSpec
	if text, err := need("PENSTOCK_PARAM_SPEC"); err != nil {
		return err
	} else if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return &penstock.Error{Code: penstock.Invalid, Where: "PENSTOCK_PARAM_SPEC", Msg: "it is not a dataset's spec in JSON: " + err.Error(), Err: err}
	}
	src, err := openSource(ctx, spec.Source.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := openOutput()
	if err != nil {
		return err
	}
	defer out.Close()
	told, err := openMetrics()
	if err != nil {
		return err
	}
	version, err := Prepare(ctx, spec, src.FS(), out, told.append)
	if err = errors.Join(err, told.close()); err != nil {
		return err
	}
	c := version.Counts
	_, err = fmt.Fprintf(stdout, "version %s: %d of %d documents, %d bytes, dropped %v\n", version.Digest, c.Out, c.In, c.Bytes, c.Dropped)
	return err
}

func need(variable string) (string, error) {
	if value := os.Getenv(variable); value != "" {
		return value, nil
	}
	return "", &penstock.Error{
		Code: penstock.Invalid, Where: variable, Msg: "the variable is not set",
		Hint: "this is a job of Penstock: apply a Dataset, and it is started for you",
	}
}

func openSource(ctx context.Context, path string) (*os.Root, error) {
	const variable = "$GOROOT"
	if rest, ok := strings.CutPrefix(path, variable); ok && (rest == "" || rest[0] == '/') {
		goroot, err := findGo(ctx)
		if err != nil {
			return nil, err
		}
		path = filepath.Join(goroot, rest)
	}
	if !filepath.IsAbs(path) {
		return nil, &penstock.Error{Code: penstock.Invalid, Where: "spec.source.path", Msg: fmt.Sprintf("%.80q is not an absolute path", path)}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &penstock.Error{
			Code: penstock.NotFound, Where: "spec.source.path", Msg: fmt.Sprintf("the folder %s can't be opened on this machine", path), Err: err,
			Hint: "the path is one of the machine that prepares: put the files there, or name a pool that has them, and see that the agent's user may read them",
		}
	}
	return root, nil
}

// goCommands are the places where go lies if not in PATH: where its own
// instructions and where Debian put it.
var goCommands = [...]string{"go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"}

// goTimeout bounds how long the go command may take to say where it lives.
const goTimeout = 20 * time.Second

// findGo gives GOROOT: what the job says, or else what the go command says.
func findGo(ctx context.Context) (string, error) {
	if root := os.Getenv("PENSTOCK_PARAM_GOROOT"); root != "" {
		return root, nil
	}
	ctx, cancel := context.WithTimeout(ctx, goTimeout)
	defer cancel()
	var tried []error
	for _, name := range goCommands {
		cmd := exec.CommandContext(ctx, name, "env", "GOROOT")
		cmd.Dir = "/" // no go.mod there asks for another version
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		out, err := cmd.Output()
		if root := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(root) {
			return root, nil
		}
		tried = append(tried, err)
	}
	return "", &penstock.Error{
		Code: penstock.NotFound, Where: "spec.source.path", Msg: fmt.Sprintf("no go command on this machine says where $GOROOT is; tried %q", goCommands), Err: errors.Join(tried...),
		Hint: "install Go on the machine that prepares, or write the folder's path instead of $GOROOT",
	}
}

func openOutput() (*os.Root, error) {
	outputs, err := need("PENSTOCK_OUTPUTS")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(outputs, Output)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, err)
	}
	out, err := os.OpenRoot(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	return out, nil
}

// metrics is PENSTOCK_METRICS. Its first error is kept for close.
type metrics struct {
	file *os.File
	err  error
}

func openMetrics() (*metrics, error) {
	path, err := need("PENSTOCK_METRICS")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, unwritable(path, err)
	}
	return &metrics{file: f}, nil
}

func (m *metrics) append(p Progress) {
	line, err := json.Marshal(p)
	if err == nil {
		_, err = m.file.Write(append(line, '\n'))
	}
	if m.err == nil && err != nil {
		m.err = unwritable(m.file.Name(), err)
	}
}

func (m *metrics) close() error { return errors.Join(m.err, m.file.Close()) }
