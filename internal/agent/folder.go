package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/agent/cgroup"
)

// Folder is the private folder of one task: the executor writes the order into
// it, the agent does everything else. This file is what an executor needs of it.
type Folder string

// The files of a Folder that executor and agent share.
const (
	orderFile  = "order.json"  // the v1.Order; removed once the agent has read it
	lockFile   = "lock"        // held by the agent while it lives
	agentFile  = "agent.json"  // Identity of the agent
	begunFile  = "begun"       // the task's one and only run has begun
	taskFile   = "task.json"   // running: what must be killed if the agent can't
	stopFile   = "stop"        // when the grace of a request to stop is over
	leftFile   = "left"        // why the agent left, in its own words
	sweptFile  = "swept"       // nothing of the task runs any more
	outputFile = "agent.log"   // what the agent itself has to say
	logFolder  = "logs"        // the command's output
	spoolFile  = "spool.jsonl" // the reports
)

// running is what task.json holds.
type running struct {
	Mark   string   `json:"mark"` // in the environment of every process of the task
	Groups []string `json:"groups,omitempty"`
}

// Sight is what can be seen of a task from outside.
type Sight string

// Waiting: no agent is there, and none has begun. Alive: an agent is there.
// Over: the agent has left, or was killed.
const (
	Waiting Sight = "waiting"
	Alive   Sight = "alive"
	Over    Sight = "over"
)

// Write makes the folder and writes the order into it, readable to its owner
// only. An order that is there already stays.
func (f Folder) Write(order v1.Order) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return fmt.Errorf("make task folder: %w", err)
	}
	if f.has(orderFile) {
		return nil
	}
	return f.writeJSON(orderFile, order)
}

// Held reports whether an agent has taken the folder, even if it has not yet
// said who it is.
func (f Folder) Held() bool {
	lock, err := os.Open(f.path(lockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Output opens the file for what the agent itself writes.
func (f Folder) Output() (*os.File, error) {
	return os.OpenFile(f.path(outputFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// Complaint is the end of what the agent itself wrote, in one line.
func (f Folder) Complaint() string {
	b, _ := os.ReadFile(f.path(outputFile))
	b = b[max(0, len(b)-2000):]
	return strings.Join(strings.Fields(string(b)), " ")
}

// Look tells how the task stands, and for one that is over what is known of
// the end.
func (f Folder) Look() (sight Sight, detail string) {
	switch agent, err := f.Agent(); {
	case err == nil && agent.Alive():
		return Alive, ""
	case !f.has(begunFile):
		return Waiting, ""
	}
	if why, ok := f.Left(); ok {
		return Over, why
	}
	return Over, "the agent was killed before it could deliver its last report"
}

// Agent is the identity of the agent that has, or had, this folder.
func (f Folder) Agent() (Identity, error) {
	var i Identity
	err := f.read(agentFile, &i)
	return i, err
}

// Stop asks the agent to end its task: SIGTERM now, SIGKILL after grace. An
// agent that is gone has nothing to stop. Of several requests the earliest end
// counts, whether the agent has noticed the others or not. Only one caller at a
// time may stop a task.
func (f Folder) Stop(grace time.Duration) error {
	agent, err := f.Agent()
	if err != nil || !agent.Alive() {
		return nil
	}
	if _, err := f.StopBy(time.Now().Add(grace)); err != nil {
		return err
	}
	if err := unix.Kill(agent.PID, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal agent %d: %w", agent.PID, err)
	}
	return nil
}

// StopBy notes when the time of a task to stop is over, for the agent to read at
// its next SIGTERM: an executor on another machine brings that about itself. It
// gives the earliest end of all that were noted. Only one caller at a time may
// stop a task.
func (f Folder) StopBy(end time.Time) (time.Time, error) {
	if before, ok := f.stopEnd(); ok && !end.Before(before) {
		return before, nil
	}
	return end, f.write(stopFile, []byte(end.Format(time.RFC3339Nano)))
}

// Left tells why the agent left, in its own words, and false if it hasn't, or
// was killed. Unlike Look it can be asked on any machine that sees the folder.
func (f Folder) Left() (why string, ok bool) {
	b, err := os.ReadFile(f.path(leftFile))
	return strings.TrimSpace(string(b)), err == nil
}

// Begun reports whether an agent has begun the task's one and only run.
func (f Folder) Begun() bool { return f.has(begunFile) }

// Kill ends the agent at once, and with it the task.
func (f Folder) Kill() error {
	if agent, err := f.Agent(); err == nil && agent.Alive() {
		_ = unix.Kill(agent.PID, unix.SIGKILL) // it may have ended by itself
		for deadline := time.Now().Add(5 * time.Second); agent.Alive(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("agent %d can't be killed", agent.PID)}
			}
		}
	}
	return f.Sweep()
}

// Sweep kills what an agent that is over may have left running. It returns nil
// only when nothing of the task runs any more. It is quick once it has
// succeeded.
func (f Folder) Sweep() error {
	if f.has(sweptFile) {
		return nil
	}
	if agent, err := f.Agent(); err == nil {
		var task running
		if err := f.read(taskFile, &task); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := (kin{agent: agent, mark: task.Mark}).kill(5 * time.Second); err != nil {
			return err
		}
		if err := cgroup.Clear(task.Groups); err != nil {
			return err
		}
	}
	f.clean()
	return f.write(sweptFile, nil)
}

// clean removes what must not outlast the task: the order with its token, and
// the secrets.
func (f Folder) clean() {
	_ = os.Remove(f.path(orderFile))
	_ = os.RemoveAll(f.path("secrets"))
	_ = os.RemoveAll(f.path("tmp"))
}

func (f Folder) path(parts ...string) string {
	return filepath.Join(append([]string{string(f)}, parts...)...)
}

func (f Folder) has(name string) bool {
	_, err := os.Lstat(f.path(name))
	return err == nil
}

func (f Folder) read(name string, v any) error {
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		return fmt.Errorf("read task folder: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read task folder: %s: %w", name, err)
	}
	return nil
}

// write puts a whole file in place, or nothing: a reader never sees a part.
func (f Folder) write(name string, content []byte) error {
	if err := replaceFile(f.path(name), content); err != nil {
		return fmt.Errorf("write task folder: %w", err)
	}
	return nil
}

func replaceFile(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone already if all went well
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// markOf is the line in the environment by which a task's processes are known.
func markOf(order v1.Order) string {
	return "PENSTOCK_TASK_UID=" + string(order.Attempt) + "/" + strconv.Itoa(order.Rank)
}

func (f Folder) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return f.write(name, b)
}
