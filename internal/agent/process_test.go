package agent

import (
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// family starts a program in a session of its own, as an agent is, that has
// started others with this shell script. It gives the program and the numbers
// that the script wrote.
func family(t *testing.T, script string) (leader Identity, others []int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script+"; echo; exec sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	leader, err = Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(text.String(), "\n\n"); {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	for word := range strings.FieldsSeq(text.String()) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, pid)
	}
	return leader, others
}

func wantKin(t *testing.T, k kin, want []int) {
	t.Helper()
	got, err := k.living()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the task's processes are %v, want %v", got, want)
	}
}

const awaySleep = `env -i /usr/bin/setsid /bin/sleep 1000 >/dev/null & echo $!`

func TestProcessesOfALivingAgentAreFoundInAnySession(t *testing.T) {
	agent, others := family(t, `sleep 1000 >/dev/null & echo $!; `+awaySleep)
	k := kin{agent: agent}
	wantKin(t, k, others)
	if err := k.kill(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	wantKin(t, k, nil)
	if !agent.Alive() {
		t.Error("the agent itself was killed")
	}
}

func TestProcessesOfAKilledAgentAreFoundBySessionOrMark(t *testing.T) {
	const mark = "PENSTOCK_TASK_UID=process-test/0"
	agent, others := family(t, `sleep 1000 >/dev/null & echo $!; `+mark+` setsid sleep 1000 >/dev/null & echo $!`)
	k := kin{agent: agent, mark: mark}
	if err := syscall.Kill(agent.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); agent.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it can't be killed")
		}
	}
	wantKin(t, k, others)
	if err := k.kill(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	wantKin(t, k, nil)
}

func TestAnotherProcessWithTheAgentsNumberIsLeftAlone(t *testing.T) {
	stranger, others := family(t, `sleep 1000 >/dev/null & echo $!`)
	earlier := stranger
	earlier.Start--
	wantKin(t, kin{agent: earlier, mark: "PENSTOCK_TASK_UID=nobody/0"}, nil)
	for _, pid := range others {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
