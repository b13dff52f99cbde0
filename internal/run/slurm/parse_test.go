package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// transcript is what a command of Slurm's wrote: those of 22.05 were captured,
// those of later versions are written after their manuals.
func transcript(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// discovered is what Nodes makes of transcripts.
func discovered(t *testing.T, version, partition string, ours map[string]holding) []v1.Node {
	t.Helper()
	machines, err := parseNodes(transcript(t, "node-"+version+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePartition(transcript(t, "partition-22.05.txt"), partition)
	if err != nil {
		t.Fatal(err)
	}
	var nodes []v1.Node
	for _, m := range machines {
		nodes = append(nodes, m.node(p, allocatesCores(transcript(t, "config-22.05.txt")), false, ours[m.name]))
	}
	return nodes
}

func devices(kind penstock.Resource, ids ...string) []v1.Device {
	var all []v1.Device
	for _, id := range ids {
		all = append(all, v1.Device{ID: id, Type: kind})
	}
	return all
}

func TestNodesHaveWhatOthersLeaveAndSayWhyTheyAreClosed(t *testing.T) {
	labels := func(rack string) map[string]string {
		return map[string]string{"slurm/partition": "gpu", "slurm/feature/fake": "true", "slurm/feature/" + rack: "true"}
	}
	whole := penstock.Resources{penstock.CPU: 8000, penstock.Memory: 16000 << 20, "h100": 4000}
	want := []v1.Node{
		{
			Name: "n1", Labels: labels("rack1"), Devices: devices("h100", "2", "3"),
			Capacity: penstock.Resources{penstock.CPU: 7000, penstock.Memory: 15900 << 20, "h100": 2000},
			Others:   penstock.Resources{penstock.CPU: 1000, penstock.Memory: 100 << 20, "h100": 2000},
		},
		{Name: "n2", Labels: labels("rack1"), Devices: devices("h100", "0", "1", "2", "3"), Capacity: whole, Unavailable: "Slurm says IDLE+DRAIN: bad fan, see ticket=7"},
		{Name: "n3", Labels: labels("rack2"), Devices: devices("h100", "0", "1", "2", "3"), Capacity: whole, Unavailable: "Slurm says IDLE+MAINTENANCE+RESERVED"},
	}
	if diff := cmp.Diff(want, discovered(t, "22.05", "", nil)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatOurJobsHoldIsNotOthers(t *testing.T) {
	ours := map[string]holding{"n1": {share: share{cpus: 1, memory: 60, devices: map[string]int64{"gpu:h100": 1}}, ids: []string{"0"}}}
	n := discovered(t, "22.05", "gpu", ours)[0]
	if diff := cmp.Diff(penstock.Resources{penstock.Memory: 40 << 20, "h100": 1000}, n.Others); diff != "" {
		t.Error(diff)
	}
	// The device that is others' is none that we have given out.
	if diff := cmp.Diff(devices("h100", "0", "2", "3"), n.Devices); diff != "" {
		t.Error(diff)
	}
}

func TestANodeOfALaterSlurmIsReadWithItsTypesSocketsAndThreads(t *testing.T) {
	nodes := discovered(t, "24.11", "gpu", nil)
	want := []v1.Node{
		{
			Name: "gpu01", Labels: map[string]string{"slurm/partition": "gpu", "slurm/feature/a100": "true", "slurm/feature/ib": "true"},
			Devices: append(devices("a100", "3"), devices("h100", "4", "5", "6", "7")...),
			// 124 threads are 62 cores, of which others have 8.
			Capacity: penstock.Resources{penstock.CPU: 54000, penstock.Memory: (1031000 - 2048 - 131072) << 20, "a100": 1000, "h100": 4000},
			Others:   penstock.Resources{penstock.CPU: 8000, penstock.Memory: 131072 << 20, "a100": 3000},
		},
		{
			Name: "gpu02", Labels: map[string]string{"slurm/partition": "gpu"}, Unavailable: "Slurm says DOWN+NOT_RESPONDING: Not responding",
			Capacity: penstock.Resources{penstock.CPU: 64000, penstock.Memory: 1031000 << 20},
		},
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Error(diff)
	}
}

func TestNodesThatCannotBeReadAreAnErrorAndNotLess(t *testing.T) {
	const good = "NodeName=n1 CPUAlloc=0 CPUTot=8 Gres=gpu:4 RealMemory=16000 AllocMem=0 State=IDLE Partitions=gpu"
	if _, err := parseNodes(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"NodeName=n1", "Node=n1"}, {"CPUTot=8", "CPUTot=eight"}, {"CPUTot=8 ", ""}, {"RealMemory=16000 ", ""}, {"AllocMem=0", "AllocMem=-1"},
		{"State=IDLE ", ""}, {"gpu:4", "gpu:many"}, {"gpu:4", "gpu"}, {"NodeName=n1", "NodeName=n1;reboot"},
	} {
		if m, err := parseNodes(strings.Replace(good, change[0], change[1], 1)); err == nil {
			t.Errorf("%q in place of %q gives %+v", change[1], change[0], m)
		}
	}
}

func TestAPartitionBoundsItsNodes(t *testing.T) {
	text := transcript(t, "partition-22.05.txt") + "PartitionName=small Default=NO MaxCPUsPerNode=4 Nodes=n[1-3] State=DRAIN MaxMemPerNode=1000\n"
	p, err := parsePartition(text, "small")
	if diff := cmp.Diff(partition{name: "small", state: "DRAIN", cpus: 4, memory: 1000}, p, cmp.AllowUnexported(partition{})); diff != "" || err != nil {
		t.Error(diff, err)
	}
	n := machine{name: "n1", states: []string{"IDLE"}, cpus: 8, threads: 1, memory: 16000}.node(p, true, false, holding{})
	if n.Capacity[penstock.CPU] != 4000 || n.Capacity[penstock.Memory] != 1000<<20 || !strings.Contains(n.Unavailable, "small is DRAIN") {
		t.Errorf("got %+v", n)
	}
	if p, err := parsePartition(text, ""); p.name != "gpu" || err != nil {
		t.Errorf("the default partition is %+v (%v)", p, err)
	}
	if _, err := parsePartition(text, "nowhere"); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestTopologyIsTheSwitchOfEachLevel(t *testing.T) {
	got, err := parseTopology(transcript(t, "topology-22.05.txt") + "BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		"n1": {"slurm/switch/0": "leaf1", "slurm/switch/1": "spine", "slurm/block": "b1"},
		"n2": {"slurm/switch/0": "leaf1", "slurm/switch/1": "spine", "slurm/block": "b1"},
		"n3": {"slurm/switch/0": "leaf2", "slurm/switch/1": "spine"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostlistsAreExpanded(t *testing.T) {
	for list, want := range map[string]string{
		"":                    "",
		"n1":                  "n1",
		"n[3-3]":              "n3",
		"n[1-3,5],m1":         "n1 n2 n3 n5 m1",
		"n[08-11]":            "n08 n09 n10 n11",
		"r[1-2]n[0-1]-ib":     "r1n0-ib r1n1-ib r2n0-ib r2n1-ib",
		"gpu-a,gpu[100,7-8]x": "gpu-a gpu100x gpu7x gpu8x",
	} {
		got, err := expand(list)
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%q is %v (%v), want %s", list, got, err, want)
		}
	}
	for _, bad := range []string{"n[1-", "n[2-1]", "n[a]", "n[0-999999999]", "a[0-999]b[0-999]", "a,,b"} {
		if got, err := expand(bad); err == nil {
			t.Errorf("%q gives %d names", bad, len(got))
		}
	}
}

func TestJobsAreReadFromSqueue(t *testing.T) {
	got, err := parseQueue(transcript(t, "squeue-22.05.txt"))
	want := []entry{
		{job: "22", state: "CANCELLED", reason: "None", comment: "(null)"},
		{job: "24", component: 1, state: "PENDING", reason: "JobHeldUser", comment: "penstock attempt=u1 project=p"},
		{job: "24", state: "PENDING", reason: "JobHeldUser", comment: "penstock attempt=u1 project=p"},
		{job: "23", state: "RUNNING", reason: "None", comment: "(null)"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if jobs := jobsOf(got, "u1"); len(jobs) != 1 || jobs[0] != "24" {
		t.Errorf("the jobs of u1 are %v", jobs)
	}
	// An array is none of ours; a comment may hold anything.
	got, err = parseQueue("12_[1-5]|PENDING|Resources|x\n13|RUNNING|None|a|b\n")
	if len(got) != 1 || got[0].comment != "a|b" || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"slurm_load_jobs error", "12|RUNNING", "x|RUNNING|None|", "12||None|", "12+x|RUNNING|None|"} {
		if got, err := parseQueue(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

func TestWhatAJobWaitsForIsSaidInWords(t *testing.T) {
	for reason, want := range map[string]string{
		"Resources":       "it waits for resources",
		"Priority":        "others are before it",
		"ReqNodeNotAvail": "not available",
		"ReqNodeNotAvail, UnavailableNodes:n[1-2]": "not available (ReqNodeNotAvail, UnavailableNodes:n[1-2])",
		"PartitionDown":     "its partition is down",
		"AssocGrpGRES":      "its account has as much as it may",
		"QOSMaxGRESPerUser": "its quality of service",
		"None":              "not looked at it yet",
		"SomethingNew":      "Slurm says SomethingNew",
		"Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": "down, drained or reserved",
	} {
		if got := waiting(entry{state: "PENDING", reason: reason}); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q in it", reason, got, want)
		}
	}
}

func TestEndsAreToldWithTheirNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"PREEMPTED: job 7: it had to give way to another job":                                       ended("7", "PREEMPTED", "None", "0:0"),
		"TIMEOUT: job 7+1: it reached its time limit (TimeLimit)":                                   ended("7+1", "TIMEOUT", "TimeLimit", "0:0"),
		"CANCELLED: job 7: somebody cancelled it, namely user 1000, with exit code 0 and signal 15": ended("7", "CANCELLED by 1000", "", "0:15"),
		"FAILED: job 7: it failed, with exit code 1 (NonZeroExitCode)":                              ended("7", "FAILED", "NonZeroExitCode", "1:0"),
		"COMPLETED: job 7: it ended":                                                                ended("7", "COMPLETED", "None", "0:0"),
		"NEW_STATE: job 7":                                                                          ended("7", "NEW_STATE", "", ""),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestNothingThatPeopleWriteReachesAShellOrAnotherArgument feeds names of every
// sort to all that is given to Slurm.
func TestNothingThatPeopleWriteReachesAShellOrAnotherArgument(t *testing.T) {
	e := &Executor{options: Options{Placement: Planned}}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"$(reboot)", "a\nb", "' ; x", "`x`", ":", "--wrap=x", "|", "%j", "\x00"}))
		o := v1.Order{
			Attempt: penstock.UID(rapid.StringMatching(`[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,4}`).Draw(t, "uid")), Node: "n1", Number: 1,
			Project: text.Draw(t, "project"), Job: text.Draw(t, "job"), Labels: map[string]string{text.Draw(t, "label"): text.Draw(t, "value")},
			Env: map[string]string{"X": text.Draw(t, "env")}, Command: []string{text.Draw(t, "command")},
		}
		l := planned([]v1.Order{o}, []demand{{cpus: 1, memory: 2}})
		args := e.arguments(o, l)
		for _, a := range args {
			if !strings.HasPrefix(a, "--") || strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("'\"`$\\|;&<>*?!#%~(){}[]", r) }) {
				t.Fatalf("sbatch gets %q", a)
			}
		}
		if len(args) != 13 {
			t.Fatalf("sbatch gets %d arguments: %q", len(args), args)
		}
		if uid, ok := attemptOf(comment(o)); uid != o.Attempt || !ok {
			t.Fatalf("the comment %q is of attempt %q", comment(o), uid)
		}
		entries, err := parseQueue("7|PENDING|Resources|" + comment(o) + "\n")
		if err != nil || len(jobsOf(entries, o.Attempt)) != 1 {
			t.Fatalf("its job is not found again: %v (%v)", entries, err)
		}
		if got := fields("JobId=7 JobName=" + jobName(o) + " ExitCode=0:9")["ExitCode"]; got != "0:9" {
			t.Fatalf("the job's name hides its exit code: %q", got)
		}
	})
}

func TestTheScriptsHoldNothingThatVaries(t *testing.T) {
	// They are what the repository has, and are never formatted.
	for name, script := range map[string]string{"batch.sh": batchScript, "task.sh": taskScript} {
		text, err := os.ReadFile(name)
		if err != nil || string(text) != script || strings.Contains(script, "eval") {
			t.Errorf("%s differs (%v), or evaluates text", name, err)
		}
	}
}
