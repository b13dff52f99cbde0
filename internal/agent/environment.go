package agent

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// searchPath is where commands are looked for unless the job sets PATH.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// places are the parts of the environment that the agent chooses itself.
type places struct {
	folder Folder
	feed   string // socket; empty is none
	port   int    // 0 is none
	// given is the environment of an engine that already made one for the
	// command; nil where the agent makes it.
	given map[string]string
}

// environment builds the command's environment from nothing, or from what the
// engine gave: what the agent of this machine was started with is no business of
// the command. A job may override the defaults, but not the contract.
func environment(order v1.Order, p places) map[string]string {
	env := map[string]string{"PATH": searchPath, "LANG": "C.UTF-8"}
	maps.Copy(env, p.given)
	env["HOME"], env["TMPDIR"] = p.folder.path(homeFolder), p.folder.path(tempFolder)
	if ip := net.ParseIP(order.MasterAddr); ip.IsLoopback() {
		// Gloo picks an interface by the host's name otherwise, which often fails.
		env["GLOO_SOCKET_IFNAME"] = "lo"
	}
	if cpu := order.Resources[penstock.CPU]; cpu > 0 {
		env["OMP_NUM_THREADS"] = strconv.FormatInt(max(int64(cpu)/1000, 1), 10)
	}
	maps.Copy(env, order.Env)
	maps.Copy(env, map[string]string{
		"RANK": strconv.Itoa(order.Rank), "WORLD_SIZE": strconv.Itoa(order.WorldSize), "LOCAL_RANK": strconv.Itoa(order.LocalRank),
		"MASTER_ADDR": order.MasterAddr, "MASTER_PORT": strconv.Itoa(order.MasterPort),
		"PENSTOCK_PROJECT": order.Project, "PENSTOCK_JOB": order.Job, "PENSTOCK_ATTEMPT": strconv.Itoa(order.Number),
		"PENSTOCK_TASK": order.Set + "-" + strconv.Itoa(order.Index), "PENSTOCK_NODE": order.Node,
		"PENSTOCK_DATA": p.folder.path(dataFolder), "PENSTOCK_MODELS": p.folder.path(modelFolder),
		"PENSTOCK_CHECKPOINTS": p.folder.path(checkpointFolder), "PENSTOCK_OUTPUTS": p.folder.path(outputFolder),
		"PENSTOCK_METRICS": p.folder.path(metricFile), "PENSTOCK_SECRETS": p.folder.path(secretFolder),
	})
	if p.given == nil {
		visible := strings.Join(order.Devices, ",")
		env["CUDA_VISIBLE_DEVICES"], env["NVIDIA_VISIBLE_DEVICES"] = visible, visible
		if visible == "" {
			env["NVIDIA_VISIBLE_DEVICES"] = "void" // the container toolkit's word for none
		}
	}
	for name, value := range order.Parameters {
		env["PENSTOCK_PARAM_"+variable(name)] = value
	}
	if p.feed != "" {
		env["PENSTOCK_FEED"] = p.feed
	}
	if p.port != 0 {
		env["PENSTOCK_PORT"] = strconv.Itoa(p.port)
	}
	key, value, _ := strings.Cut(markOf(order), "=")
	env[key] = value
	return env
}

// variable writes a parameter's name as environment variables are written:
// learning-rate becomes LEARNING_RATE.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// lines is the environment as execve takes it, in a fixed order.
func lines(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// findCommand gives the path of a command as the task would find it: in its own
// PATH, or relative to its folder.
func findCommand(name, dir, path string) (string, error) {
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		if err := executable(name); err != nil {
			return "", &penstock.Error{
				Code: penstock.Invalid, Msg: fmt.Sprintf("the command %s can't be run: %s", name, err),
				Hint: "check the path and that the file may be executed (chmod +x)",
			}
		}
		return name, nil
	}
	for place := range strings.SplitSeq(path, ":") {
		if full := filepath.Join(place, name); filepath.IsAbs(full) && executable(full) == nil {
			return full, nil
		}
	}
	return "", &penstock.Error{
		Code: penstock.Invalid, Msg: fmt.Sprintf("the command %q is not in PATH=%s", name, path),
		Hint: "write its full path, or set PATH in the task's env",
	}
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("there is no such file")
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("it is a folder")
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("it is not executable")
	}
	return nil
}

// freePort asks the kernel for a port of the loopback that nobody has.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
