package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// role is what a process of the installation is.
type role string

const (
	server role = "server"
	agent  role = "agent"
	worker role = "worker"
)

// process is one living process of a data folder.
type process struct {
	pid   int
	start string // clock ticks from boot: tells it from another one of that number
	role  role
	// job and attempt are those of a worker.
	job, attempt string
}

// alive reports whether it still is that very process, and not a zombie.
func (p process) alive() bool {
	start, ok := startOf(p.pid)
	return ok && start == p.start
}

// kill ends it with SIGKILL. The handle is taken before the look, so that it
// can't be a later process of the same number.
func (p process) kill() bool {
	handle, err := os.FindProcess(p.pid)
	return err == nil && p.alive() && handle.Kill() == nil
}

// startOf is field 22 of proc(5), stat; not ok for a process that has ended.
func startOf(pid int) (string, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return "", false
	}
	return f[19], true
}

// look lists the agents and workers of the data folder, by pid. Other processes
// of the machine, those of other tests too, are not ours to see.
func look(data string) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		start, ok := startOf(pid)
		if !ok {
			continue
		}
		if p, ours := recognise(data, pid); ours {
			p.pid, p.start = pid, start
			found = append(found, p)
		}
	}
	return found
}

// recognise tells an agent by its arguments and a worker by the environment
// that its agent gave it.
func recognise(data string, pid int) (process, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // gone, or somebody else's
	argv := strings.Split(string(args), "\x00")
	if filepath.Base(argv[0]) == "penstock-agent" && slices.Contains(argv, "run") {
		at := slices.Index(argv, "--dir")
		return process{role: agent}, at > 0 && strings.HasPrefix(argv[at+1], data+"/run/")
	}
	environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
	env := map[string]string{}
	for _, line := range strings.Split(string(environ), "\x00") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	if env["PENSTOCK_TASK_UID"] == "" || !strings.HasPrefix(env["PENSTOCK_CHECKPOINTS"], data+"/run/") {
		return process{}, false
	}
	return process{role: worker, job: env["PENSTOCK_PROJECT"] + "/" + env["PENSTOCK_JOB"], attempt: env["PENSTOCK_ATTEMPT"]}, true
}

// overlaps names the jobs of which workers of two attempts live at this moment:
// each of the pair is looked at again after the other was seen.
func overlaps(seen []process) []string {
	var jobs []string
	for i, a := range seen {
		for _, b := range seen[i+1:] {
			if a.role == worker && b.role == worker && a.job == b.job && a.attempt != b.attempt && a.alive() && b.alive() && a.alive() {
				jobs = append(jobs, "attempts "+a.attempt+" and "+b.attempt+" of "+a.job+" run at once")
			}
		}
	}
	return jobs
}
