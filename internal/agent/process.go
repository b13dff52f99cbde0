package agent

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Identity names one process for ever. Its number alone does not: the kernel
// gives numbers out again.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot to its start: proc(5), stat, field 22
	Boot  string `json:"boot"`  // which boot
}

// Identify gives the identity of a running process.
func Identify(pid int) (Identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, fmt.Errorf("read boot id: %w", err)
	}
	p, err := readProcess(pid)
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: p.start, Boot: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the very process still runs. One that has ended and
// was not yet waited for by its parent doesn't.
func (i Identity) Alive() bool {
	now, err := Identify(i.PID)
	if err != nil || now != i {
		return false
	}
	p, err := readProcess(i.PID)
	return err == nil && !p.ended()
}

// process is what proc(5) tells of one process.
type process struct {
	pid, parent, group, session int
	state                       byte
	start                       uint64
}

// ended: a zombie, which only waits to be waited for.
func (p process) ended() bool { return p.state == 'Z' || p.state == 'X' }

func readProcess(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, fmt.Errorf("read process: %w", err)
	}
	// The name, in brackets, may hold spaces and brackets itself.
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return process{}, fmt.Errorf("read process %d: %d fields are too few", pid, len(f))
	}
	p := process{pid: pid, state: f[0][0]}
	var errs [4]error
	p.parent, errs[0] = strconv.Atoi(f[1])
	p.group, errs[1] = strconv.Atoi(f[2])
	p.session, errs[2] = strconv.Atoi(f[3])
	p.start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	return p, errors.Join(errs[:]...)
}

func processes() (map[int]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil { // else it ended just now
			all[pid] = p
		}
	}
	return all, nil
}

// kin says which processes belong to a task: those that descend from its agent,
// those of the agent's session, and those that carry the task's mark in their
// environment. A process must shed all three to get away, and then its control
// group still has it.
type kin struct {
	agent Identity
	mark  string // NAME=value
}

// living lists the task's processes that have not ended, without the agent.
func (k kin) living() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	leader, there := all[k.agent.PID]
	// If the number was given out again, nothing of the old session is left: the
	// kernel keeps the number as long as the session has members.
	reused := there && leader.start != k.agent.Start
	var pids []int
	for pid, p := range all {
		if pid == k.agent.PID && !reused || pid == os.Getpid() || p.ended() {
			continue
		}
		ours := !reused && (p.session == k.agent.PID || there && descends(all, pid, k.agent.PID))
		if ours || k.marked(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func descends(all map[int]process, pid, ancestor int) bool {
	for range len(all) {
		p, ok := all[pid]
		if !ok || p.parent <= 1 {
			return false
		}
		if p.parent == ancestor {
			return true
		}
		pid = p.parent
	}
	return false
}

func (k kin) marked(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && k.mark != "" && strings.Contains("\x00"+string(b), "\x00"+k.mark+"\x00")
}

// kill kills the task's processes until none lives, and says so if some still do
// after patience.
func (k kin) kill(patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		pids, err := k.living()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of the task can't be killed, pid %d for one", len(pids), pids[0])
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reapOrphans waits for processes that the task left behind and that became
// this process's children when their parents ended (PR_SET_CHILD_SUBREAPER).
// main is left alone: its starter waits for it.
func reapOrphans(main int) {
	all, err := processes()
	if err != nil {
		return
	}
	for pid, p := range all {
		if p.parent == os.Getpid() && pid != main && p.ended() {
			var status unix.WaitStatus
			_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil)
		}
	}
}
