package fleet

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

// slurmTime bounds the whole test.
const slurmTime = 10 * time.Minute

func TestTheGangTrainsOnSlurmIsPreemptedAndResumes(t *testing.T) {
	needTorch(t)
	cluster := slurmtest.Private(t)
	ctx, cancel := context.WithTimeout(t.Context(), slurmTime)
	defer cancel()
	s := startServer(t, "hall", "127.0.0.1", fmt.Sprintf("  hall:\n    slurm: {dir: %s, conf: %s, partition: gpu}\n", filepath.Join(cluster.Dir, "shared"), cluster.Conf))
	s.discover(ctx, "slurm-pool.yaml")
	s.do(ctx, "apply", "-f", "slurm.yaml")
	s.do(ctx, "wait", "dataset/go", "--timeout", "3m")
	s.running(ctx, "train", 1)
	s.checkTooBig(ctx)

	s.committed(ctx, 10)
	cluster.Kill(t, "slurmctld")
	during := s.committed(ctx, 20)
	t.Logf("step %d was committed while slurmctld was away", during)
	cluster.Up(t)

	preemptor := s.preempt(ctx, cluster)
	cluster.Run(t, "scancel", preemptor)
	s.running(ctx, "train", 2)
	s.do(ctx, "wait", "job/train", "--timeout", "5m")
	s.checkResumed(ctx, during)
	s.checkModel(ctx)
	for number := 1; number <= 2; number++ {
		nodes := s.nodes(ctx, "train", number)
		if len(slices.Compact(slices.Clone(nodes))) != 2 || !strings.HasPrefix(nodes[0], "n") {
			t.Errorf("the usage of attempt %d is on the nodes %q, want two", number, nodes)
		}
	}
	s.checkCancelled(ctx, cluster)
	s.remove(ctx, "slurm.yaml", "slurm-pool.yaml")
	if left := cluster.Run(t, "squeue", "--noheader"); left != "" {
		t.Errorf("Slurm still has:\n%s", left)
	}
}

// preempt takes all nodes by more important work, sees that the gang ends and
// waits for them, and gives Slurm's id of the job that has them.
func (s *server) preempt(ctx context.Context, cluster *slurmtest.Cluster) (id string) {
	s.t.Helper()
	id = cluster.Run(s.t, "sbatch", "--parsable", "--partition=high", fmt.Sprintf("--nodes=%d", slurmtest.Nodes), "--ntasks-per-node=1",
		"--cpus-per-task=8", "--chdir=/tmp", "--output=/dev/null", "--wrap=srun sleep 3600")
	s.lost(ctx, "train", 1)
	s.until(ctx, "the preempting job has all nodes", func() (bool, error) {
		return cluster.Run(s.t, "squeue", "--noheader", "--format=%T", "--jobs="+id) == "RUNNING", nil
	})
	// Whoever learned first that the nodes are taken tells what it waits for: the
	// planner, or Slurm, to which the next attempt was given already.
	s.until(ctx, "it is told what the gang waits for", func() (bool, error) {
		train := job(ctx, s, "train")
		why := penstock.Join(train.Status.Reasons)
		if train.Metadata.Phase == penstock.PhaseStarting && train.Status.Attempt == 2 {
			why = attempt(ctx, s, "train", 2).Status.Tasks[0].Message
		}
		if why != "" {
			s.t.Logf("train is %s: %s", train.Metadata.Phase, why)
		}
		return why != "", nil
	})
	return id
}

// checkCancelled lets somebody cancel a job of Slurm's behind our back: it starts
// again, for nobody has told Penstock that it isn't wanted.
func (s *server) checkCancelled(ctx context.Context, cluster *slurmtest.Cluster) {
	s.t.Helper()
	s.write("idle.yaml", fmt.Appendf(nil, `apiVersion: penstock/v1
kind: Job
metadata: {project: %[1]s, name: idle}
spec:
  pool: %[1]s
  tasks: [{name: main, command: [/bin/sleep, "3600"], resources: {cpu: 1, memory: 256Mi}}]
  retries: {max: 1}
  grace: 2s
`, s.project))
	s.do(ctx, "apply", "-f", s.at("idle.yaml"))
	s.running(ctx, "idle", 1)
	uid := string(attempt(ctx, s, "idle", 1).Metadata.UID)
	cancelled := false
	for line := range strings.Lines(cluster.Run(s.t, "squeue", "--noheader", "--format=%i|%k")) {
		if id, comment, _ := strings.Cut(strings.TrimSpace(line), "|"); strings.Contains(comment, uid) {
			cluster.Run(s.t, "scancel", id)
			cancelled = true
		}
	}
	if !cancelled {
		s.t.Fatalf("no job of Slurm's has the comment %s", uid)
	}
	s.running(ctx, "idle", 2)
	s.t.Logf("attempt 1 of idle: %s", penstock.Join(attempt(ctx, s, "idle", 1).Status.Reasons))
	s.do(ctx, "stop", "idle")
	s.do(ctx, "wait", "job/idle", "--for", string(penstock.PhaseStopped), "--timeout", "1m")
}
