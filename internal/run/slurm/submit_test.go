package slurm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

// asServer makes the test program behave as a server that starts a gang, to be
// killed at it.
const asServer = "PENSTOCK_TEST_AS_SERVER"

type startJob struct {
	Options slurm.Options
	Gang    []v1.Order
}

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "" {
		code := m.Run()
		if built.path != "" {
			_ = os.RemoveAll(filepath.Dir(built.path))
		}
		os.Exit(code)
	}
	var job startJob
	err := json.NewDecoder(os.Stdin).Decode(&job)
	if err == nil {
		var e *slurm.Executor
		if e, err = slurm.New(job.Options); err == nil {
			fmt.Println("starting")
			err = e.Start(context.Background(), job.Gang)
		}
	}
	fmt.Println("done", err)
	select {} // until it is killed
}

// startAndDie starts a gang from another process and kills that process some
// time after it began, or with a negative time after Start has returned.
func startAndDie(t *testing.T, job startJob, after time.Duration) {
	t.Helper()
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stdin = append(os.Environ(), asServer+"=1"), strings.NewReader(string(in))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, end := "", []byte{0}
	for want := map[bool]string{true: "done <nil>\n", false: "starting\n"}[after < 0]; !strings.HasSuffix(said, want); said += string(end) {
		if _, err := out.Read(end); err != nil {
			t.Fatalf("the server said %q (%v)", said, err)
		}
	}
	if after > 0 {
		<-time.After(after)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

// once wants every task of a gang that notes its runs to run once, and ends it.
func (w *world) once(orders []v1.Order) {
	w.t.Helper()
	w.tell("end")
	w.await("the exits", func() bool { return w.exits(len(orders)) == len(orders) })
	w.all(run.Gone, len(orders))
	for rank := range orders {
		if runs := w.saw(fmt.Sprintf("runs-%d", rank)); runs != "run" {
			w.t.Errorf("rank %d ran as often as this: %q", rank, runs)
		}
	}
	// What was submitted twice has nothing more to do.
	w.await("that no job is left", func() bool {
		return !strings.Contains(w.cluster.Run(w.t, "squeue", "--noheader", "--format=%k"), string(w.attempt)+" ")
	})
}

const noteRun = `echo run >> $SCRATCH/runs-$RANK; `

func TestAServerKilledWhileItSubmitsRunsEachTaskOnce(t *testing.T) {
	for _, after := range []time.Duration{0, 10e6, 20e6, 40e6, 80e6, 160e6, -1} {
		t.Run(after.String(), func(t *testing.T) {
			w := begin(t, slurmtest.Shared(t), slurm.Options{})
			orders := w.gang(noteRun+untilTold("end"), oneGPU, "n1", "n2")
			startAndDie(t, startJob{w.options, orders}, after)
			w.await("that it is started", func() bool { return w.Start(t.Context(), orders) == nil })
			w.once(orders)
		})
	}
}

// fake makes a folder of Slurm's commands in which sbatch is a script. REAL is
// the real one.
func fake(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sbatch", "squeue", "scancel", "scontrol"} {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "sbatch" {
			if err := os.Symlink(real, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text := "#!/bin/sh\nREAL=" + real + " DIR=" + dir + "\n" + script
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestASubmissionWhoseAnswerIsLostIsFoundAgain(t *testing.T) {
	slurmtest.Shared(t)
	for name, script := range map[string]string{
		"SocketTimedOut": `$REAL "$@" >/dev/null && echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1`,
		"Killed":         `$REAL "$@" >/dev/null; kill -9 $$`,
		"NoAnswer":       `$REAL "$@" >/dev/null; exit 0`,
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, slurmtest.Shared(t), slurm.Options{Commands: fake(t, "echo >> $DIR/times; "+script)})
			orders := w.gang(noteRun+untilTold("end"), oneGPU, "n1", "n2")
			w.start(orders)
			w.start(orders)
			w.once(orders)
			if times, err := os.ReadFile(filepath.Join(w.options.Commands, "times")); len(times) != 1 || err != nil {
				t.Errorf("it was submitted %d times (%v)", len(times), err)
			}
		})
	}
}

func TestASubmissionThatComesTwiceRunsOnce(t *testing.T) {
	// As if the first answer had been lost while nobody could be asked.
	w := begin(t, slurmtest.Shared(t), slurm.Options{Commands: fake(t, `cat > $DIR/script; $REAL "$@" < $DIR/script >/dev/null; $REAL "$@" < $DIR/script`)})
	orders := w.gang(noteRun+untilTold("end"), oneGPU, "n1", "n2")
	w.start(orders)
	w.all(run.Running, 2)
	w.once(orders)
}

func TestASubmissionThatComesAfterTheAttemptWasForgottenRunsNothing(t *testing.T) {
	late := `cat > $DIR/script; printf '%s\n' "$@" > $DIR/args; pwd > $DIR/pwd; echo 'sbatch: error: Socket timed out' >&2; exit 1`
	w := begin(t, slurmtest.Shared(t), slurm.Options{Commands: fake(t, late)})
	orders := w.gang("echo must not run > $SCRATCH/wrong", oneGPU, "n1")
	if err := w.Start(t.Context(), orders); penstock.CodeOf(err) != penstock.Unavailable {
		t.Fatalf("start gives %v, want that nobody knows", err)
	}
	if seen := w.states(); len(seen) != 0 {
		t.Errorf("it is observed: %+v", seen)
	}
	folder := filepath.Join(w.options.Dir, string(w.attempt))
	text, err := os.ReadFile(filepath.Join(w.options.Commands, "args"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.Open(filepath.Join(w.options.Commands, "script"))
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	if err := w.Forget(t.Context(), w.attempt); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil { // for sbatch to be started in
		t.Fatal(err)
	}
	cmd := exec.Command("sbatch", append(strings.Split(strings.TrimSpace(string(text)), "\n"), "--hold")...)
	cmd.Dir, cmd.Stdin, cmd.Env = folder, script, append(os.Environ(), "SLURM_CONF="+w.cluster.Conf)
	out, err := cmd.Output()
	if err := errors.Join(err, os.Remove(folder)); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	w.cluster.Run(t, "scontrol", "release", id)
	w.await("that the job is over", func() bool {
		s := w.cluster.Run(t, "scontrol", "--oneliner", "show", "job", id)
		return strings.Contains(s, "JobState=FAILED") || strings.Contains(s, "JobState=COMPLETED")
	})
	if _, err := os.Stat(filepath.Join(w.scratch, "wrong")); err == nil {
		t.Error("it ran")
	}
}

func TestAJobThatSlurmRefusesLeavesNothingAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		words, node string
		options     slurm.Options
	}{
		"Feature":   {"invalid feature specification", "n1", slurm.Options{Arguments: []string{"--constraint=gold"}}},
		"Node":      {"invalid node name", "elsewhere", slurm.Options{}},
		"Partition": {`no partition "nowhere"`, "n1", slurm.Options{Partition: "nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t, slurmtest.Shared(t), c.options)
			err := w.Start(t.Context(), w.gang("true", penstock.Resources{penstock.CPU: 1000}, c.node))
			if penstock.CodeOf(err) != penstock.Invalid || !strings.Contains(strings.ToLower(penstock.Public(err)), c.words) {
				t.Errorf("start gives %v, want %s", err, c.words)
			}
			if _, err := os.Stat(filepath.Join(w.options.Dir, string(w.attempt))); !os.IsNotExist(err) {
				t.Errorf("its folder is left (%v)", err)
			}
		})
	}
}
