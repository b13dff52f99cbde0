package slurm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

// tellPlace is shell that tells where a task is and what it was given.
const tellPlace = `echo "$SLURMD_NODENAME $LOCAL_RANK ${CUDA_VISIBLE_DEVICES:--} $MASTER_ADDR:$MASTER_PORT" > $SCRATCH/place-$RANK; `

func TestTasksOfDifferentSortsShareNodesInOneGang(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{})
	// A driver without devices beside workers, and ranks that jump about.
	orders := w.gang(tellPlace+untilTold("end"), oneGPU, "n2", "n2", "n1", "n2", "n1")
	orders[0].Resources = penstock.Resources{penstock.CPU: 2000, penstock.Memory: 64 << 20}
	orders[2].Resources = penstock.Resources{penstock.CPU: 1000, penstock.Memory: 64 << 20, "h100": 2000}
	w.Keep(orders)
	w.start(orders)
	w.all(run.Running, len(orders))
	var got []string
	master := ""
	for rank := range orders {
		f := strings.Fields(w.saw(fmt.Sprintf("place-%d", rank)))
		got = append(got, strings.Join(f[:2], " ")+" "+strconv.Itoa(strings.Count(f[2], ",")+1-strings.Count(f[2], "-")))
		if rank > 0 && f[3] != master {
			t.Errorf("rank %d meets at %s, rank 0 at %s", rank, f[3], master)
		}
		master = f[3]
	}
	want := []string{"n2 0 0", "n2 1 1", "n1 0 2", "n2 2 1", "n1 1 1"} // node, local rank, devices
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.tell("end")
	w.await("the exits", func() bool { return w.exits(5) == 5 })
}

func TestTheSitePlacesAGangOfTwoSorts(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{Placement: slurm.Site})
	orders := w.gang(tellPlace+untilTold("end"), penstock.Resources{penstock.CPU: 1000, penstock.Memory: 64 << 20, "h100": 3000}, "?", "?", "?")
	orders[0].Resources = penstock.Resources{penstock.CPU: 1000, penstock.Memory: 64 << 20}
	w.Keep(orders)
	w.start(orders)
	seen := w.all(run.Running, 3)
	for rank, o := range seen {
		f := strings.Fields(w.saw(fmt.Sprintf("place-%d", rank)))
		devices := strings.Count(f[2], ",") + 1
		if f[0] != o.Node || f[1] != "0" || devices != map[bool]int{true: 1, false: 3}[rank == 0] {
			t.Errorf("rank %d is observed on %s and says %q", rank, o.Node, f)
		}
	}
	if seen[1].Node == seen[2].Node {
		t.Errorf("6 devices of a node that has 4: %+v", seen)
	}
	// What it holds is ours, wherever Slurm put it.
	nodes, err := w.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Others["h100"] != 0 || n.Capacity["h100"] != 4000 {
			t.Errorf("%s: others hold %v", n.Name, n.Others)
		}
	}
	w.tell("end")
	w.await("the exits", func() bool { return w.exits(3) == 3 })
}

func TestWhatOthersHoldIsTakenFromTheNode(t *testing.T) {
	c := slurmtest.Shared(t)
	w := begin(t, c, slurm.Options{})
	id := c.Run(t, "sbatch", "--parsable", "--nodelist=n3", "--gres=gpu:3", "--cpus-per-task=2", "--mem=500", "--chdir=/", "--output=/dev/null", "--wrap=sleep 1000")
	t.Cleanup(func() { c.Run(t, "scancel", id) })
	w.start(w.gang(untilTold("end"), oneGPU, "n3"))
	w.all(run.Running, 1)
	want := penstock.Resources{penstock.CPU: 2000, penstock.Memory: 500 << 20, "h100": 3000}
	w.await("that others hold what they were given", func() bool {
		nodes, err := w.Nodes(t.Context())
		return err == nil && cmp.Equal(want, nodes[2].Others) && nodes[2].Capacity["h100"] == 1000 && len(nodes[2].Devices) == 1
	})
}

func TestTheJobTellsWhoseItIsAndKeepsTheTokenToItself(t *testing.T) {
	w := begin(t, slurmtest.Shared(t), slurm.Options{})
	orders := w.gang(untilTold("end"), oneGPU, "n1")
	orders[0].Labels, orders[0].Deadline = map[string]string{"team": "blue & green"}, v1.Duration(time.Hour)
	w.Keep(orders)
	w.start(orders)
	w.all(run.Running, 1)
	text := w.cluster.Run(t, "scontrol", "--oneliner", "show", "job", w.job())
	comment := "penstock attempt=" + string(w.attempt) + " project=vision job=train number=1 team=blue___green"
	for _, want := range []string{
		" JobName=penstock-vision-train-1 ", " Requeue=0 ", " TimeLimit=01:04:00 ", " Comment=" + comment + " ", "AdminComment=" + comment,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the job lacks %q: %s", want, text)
		}
	}
	token := w.Contact().Token
	script := w.cluster.Run(t, "scontrol", "write", "batch_script", w.job(), "-")
	if strings.Contains(text+script, token) {
		t.Error("Slurm shows the token")
	}
	err := filepath.WalkDir(w.options.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), token) {
			return err
		}
		if filepath.Base(path) != "contact.json" || info.Mode() != 0o600 {
			t.Errorf("%s has the token, with mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTwelveDevicesAreNeverGivenTwice(t *testing.T) {
	c := slurmtest.Shared(t)
	w := begin(t, c, slurm.Options{Placement: slurm.Site})
	// Each task notes when it had which device of which node.
	script := `n=$(date +%s%N); sleep 0.3; for d in $(echo $CUDA_VISIBLE_DEVICES | tr , ' '); do echo "$SLURMD_NODENAME/$d $n $(date +%s%N)" >> $SCRATCH/uses-$PENSTOCK_JOB-$RANK; done`
	const jobs = 16
	var worlds []*world
	uses := 0
	for i := range jobs {
		one := *w // the same executor, a server and an attempt of its own
		other := begin(t, c, slurm.Options{Placement: slurm.Site})
		other.Executor, other.options, other.scratch = one.Executor, one.options, one.scratch
		tasks, devices := 1+i%3, 1+i%2
		uses += tasks * devices
		orders := other.gang(script, penstock.Resources{penstock.CPU: 1000, penstock.Memory: 16 << 20, "h100": penstock.Amount(1000 * devices)}, slices.Repeat([]string{"?"}, tasks)...)
		other.attempt = penstock.UID(fmt.Sprintf("%s-%d", w.attempt, i))
		for rank := range orders {
			orders[rank].Attempt, orders[rank].Job = other.attempt, fmt.Sprintf("job-%d", i)
		}
		other.Keep(orders)
		other.start(orders)
		worlds = append(worlds, other)
	}
	for i, other := range worlds {
		other.await("the exits", func() bool { return other.exits(1+i%3) == 1+i%3 })
	}
	checkUses(t, w.scratch, uses)
}

// checkUses reads NODE/DEVICE FROM TO of all uses, and wants no two of a device
// at once.
func checkUses(t *testing.T, dir string, want int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "uses-*"))
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string][][2]int{}
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			from, _ := strconv.Atoi(f[1])
			to, _ := strconv.Atoi(f[2])
			uses[f[0]] = append(uses[f[0]], [2]int{from, to})
			count++
		}
	}
	if count != want {
		t.Errorf("%d uses of devices, want %d", count, want)
	}
	for device, all := range uses {
		slices.SortFunc(all, func(a, b [2]int) int { return a[0] - b[0] })
		for i := range all[:len(all)-1] {
			if all[i+1][0] < all[i][1] {
				t.Errorf("%s was given twice: %v", device, all)
			}
		}
	}
	t.Logf("%d uses of %d devices", count, len(uses))
}

func TestTwoNodesTrainTogetherWithRealPyTorch(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import torch.distributed").Run(); err != nil {
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatalf("PyTorch is not installed: run hack/setup/deps.sh torch")
		}
		t.Skip("NOT TESTED: PyTorch is not installed: run hack/setup/deps.sh torch")
	}
	w := begin(t, slurmtest.Shared(t), slurm.Options{})
	orders := w.gang("", oneGPU, "n3", "n1") // rank 0 is not on the first node that Slurm lists
	for rank := range orders {
		orders[rank].Command = []string{python, "-c", `
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(x)
print("sum", x.item(), "of", dist.get_world_size(), "on", os.environ["PENSTOCK_NODE"])
`}
	}
	w.Keep(orders)
	w.start(orders)
	w.await("both exits", func() bool { return w.exits(2) == 2 })
	for rank, node := range []string{"n3", "n1"} {
		if got, want := w.log(rank), "sum 3.0 of 2 on "+node+"\n"; got != want {
			t.Errorf("rank %d says %q, want %q", rank, got, want)
		}
	}
}
