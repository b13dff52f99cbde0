package slurm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

var oneGPU = penstock.Resources{penstock.CPU: 1000, penstock.Memory: 64 << 20, "h100": 1000}

func TestAJobOfHigherPriorityTakesTheNodesAndTheGangIsGonePreempted(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{Partition: "gpu"})
	all := penstock.Resources{penstock.CPU: 8000, penstock.Memory: 64 << 20, "h100": 4000}
	// It takes no notice, so that Slurm has to kill it: KillWait is 5 s.
	w.start(w.gang(`trap '' TERM; echo up > $SCRATCH/up-$RANK; while :; do sleep 0.1; done`, all, "n1", "n2"))
	w.saw("up-0")
	w.saw("up-1")
	high := w.cluster.Run(t, "sbatch", "--parsable", "--partition=high", "--nodelist=n2", "--gres=gpu:4", "--cpus-per-task=8", "--mem=100", "--output=/dev/null", "--wrap=sleep 1")
	t.Cleanup(func() { w.cluster.Run(t, "scancel", high) })
	w.all(run.Gone, 2)
	w.why(2, "PREEMPTED: job "+w.job()+": it had to give way")
	w.await("that the other job ran", func() bool {
		return strings.Contains(w.cluster.Run(t, "scontrol", "--oneliner", "show", "job", high), "JobState=COMPLETED")
	})
	// Slurm would have started it again, had it been let: a new attempt is ours to make.
	if s := w.cluster.Run(t, "scontrol", "--oneliner", "show", "job", w.job()); !strings.Contains(s, "JobState=PREEMPTED") || !strings.Contains(s, "Requeue=0") {
		t.Errorf("the job is %s", s)
	}
}

func TestTheControllerMayBeAwayWhileAGangRuns(t *testing.T) {
	w := begin(t, slurmtest.Private(t), slurm.Options{})
	orders := w.gang(`echo run >> $SCRATCH/runs-$RANK; `+untilTold("end"), oneGPU, "n1", "n2")
	w.start(orders)
	w.all(run.Running, 2)
	w.cluster.Stop(t, "slurmctld")

	seen, err := w.Observe(t.Context())
	if penstock.CodeOf(err) != penstock.Unavailable || len(seen) != 0 {
		t.Errorf("without a controller it observes %+v (%v), want that Slurm can't be asked and nobody is gone", seen, err)
	}
	if err := w.Start(t.Context(), orders); err != nil {
		t.Errorf("starting what was started: %v", err)
	}
	if err := w.Forget(t.Context(), w.attempt); penstock.CodeOf(err) != penstock.Unavailable {
		t.Errorf("forgetting gives %v, want that it can't be known", err)
	}
	w.Executor = open(t, w.options) // the server is started again, too
	w.cluster.Up(t)
	w.all(run.Running, 2)

	w.cluster.Kill(t, "slurmctld")
	w.tell("end")
	w.await("both exits", func() bool { return w.exits(2) == 2 })
	// The folder alone tells how they ended.
	w.await("that they are gone", func() bool {
		seen, err := w.Observe(t.Context())
		return err == nil && len(seen) == 2 && seen[0].State == run.Gone && seen[1].State == run.Gone
	})
	w.cluster.Up(t)
	for _, o := range w.all(run.Gone, 2) {
		if !strings.Contains(o.Detail, "delivered its last report") {
			t.Errorf("rank %d: %s", o.Rank, o.Detail)
		}
	}
	if runs := w.saw("runs-0") + w.saw("runs-1"); runs != "runrun" {
		t.Errorf("they ran as often as this: %q", runs)
	}
}

func TestAJobCancelledBehindOurBackIsGone(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{})
	w.start(w.gang(`trap '' TERM; echo up > $SCRATCH/up; sleep 1000 & while :; do sleep 0.1; done`, oneGPU, "n3"))
	w.saw("up")
	w.cluster.Run(t, "scancel", "--full", "--signal=KILL", w.job())
	w.all(run.Gone, 1)
	w.why(1, "CANCELLED")
}

func TestAWaitingJobCancelledBehindOurBackIsGone(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{Arguments: []string{"--hold"}})
	w.start(w.gang("echo must not run > $SCRATCH/wrong", oneGPU, "n3"))
	if o := w.all(run.Pending, 1)[0]; !strings.Contains(o.Detail, "hold") {
		t.Errorf("it waits for %q, want for whoever holds it", o.Detail)
	}
	w.cluster.Run(t, "scancel", w.job())
	if o := w.all(run.Gone, 1)[0]; !strings.Contains(o.Detail, "CANCELLED") || !strings.Contains(o.Detail, "before it began") {
		t.Errorf("the detail is %q", o.Detail)
	}
}

func TestAGangThatDoesNotFitWaitsAndSaysForWhat(t *testing.T) {
	c := slurmtest.Shared(t)
	w := begin(t, c, slurm.Options{})
	id := c.Run(t, "sbatch", "--parsable", "--nodelist=n2", "--gres=gpu:4", "--mem=100", "--output=/dev/null", "--wrap=sleep 1000")
	w.await("that the other job runs", func() bool { return strings.Contains(c.Run(t, "scontrol", "show", "job", id), "JobState=RUNNING") })
	w.start(w.gang("echo must not run > $SCRATCH/wrong", oneGPU, "n1", "n2"))
	w.await("that it waits for resources", func() bool {
		seen := w.states()
		return len(seen) == 2 && seen[0].State == run.Pending && strings.Contains(seen[1].Detail, "resources (Resources)")
	})
	// Nothing of a gang runs before all of it can.
	if _, err := os.Stat(filepath.Join(w.scratch, "wrong")); err == nil {
		t.Error("one of the two ran")
	}
	if err := w.Stop(t.Context(), w.attempt, time.Hour); err != nil {
		t.Fatal(err)
	}
	w.all(run.Gone, 2) // at once: a job that waits has no grace
	c.Run(t, "scancel", id)
}

func TestANodeThatFailsTakesItsGangAndComesBack(t *testing.T) {
	c := slurmtest.Private(t)
	w := begin(t, c, slurm.Options{})
	w.start(w.gang(`echo up > $SCRATCH/up-$RANK; while :; do sleep 0.1; done`, oneGPU, "n1", "n2"))
	w.saw("up-0")
	w.saw("up-1")
	c.Kill(t, "slurmd-n2")
	c.Run(t, "scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=power supply")
	w.all(run.Gone, 2)
	w.why(2, "NODE_FAIL")
	why := func() string {
		nodes, err := w.Nodes(t.Context())
		if err != nil || len(nodes) != 3 {
			t.Fatalf("%d nodes (%v)", len(nodes), err)
		}
		return nodes[1].Unavailable
	}
	if got := why(); !strings.Contains(got, "DOWN") || !strings.Contains(got, "power supply") {
		t.Errorf("n2 is unavailable because of %q", got)
	}
	c.Up(t)
	w.await("that n2 is back", func() bool { return why() == "" })
}

func TestANodesDaemonMayBeKilledWhileAGangRuns(t *testing.T) {
	c := slurmtest.Private(t)
	w := begin(t, c, slurm.Options{})
	w.start(w.gang(`echo run >> $SCRATCH/runs; `+untilTold("end"), oneGPU, "n1"))
	w.all(run.Running, 1)
	c.Kill(t, "slurmd-n1")
	c.Up(t)
	w.all(run.Running, 1)
	w.tell("end")
	w.await("the exit", func() bool { return w.exits(1) == 1 })
	w.all(run.Gone, 1)
	if runs := w.saw("runs"); runs != "run" {
		t.Errorf("it ran as often as this: %q", runs)
	}
}

func TestStopReachesATaskOnce(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{})
	// Slurm signals every process of a task: the shell hears of it once from
	// Slurm and once from its agent, and never again.
	w.start(w.gang(`trap 'echo term >> $SCRATCH/terms' TERM; echo up > $SCRATCH/up; `+untilTold("end"), oneGPU, "n1"))
	w.saw("up")
	for range 20 {
		if err := w.Stop(t.Context(), w.attempt, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	w.saw("terms")
	w.tell("end")
	w.await("the exit", func() bool { return w.exits(1) == 1 })
	if n := strings.Count(w.saw("terms"), "term"); n > 2 {
		t.Errorf("it was told %d times", n)
	}
}
