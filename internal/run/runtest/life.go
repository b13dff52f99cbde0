package runtest

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

func gangStarts(b *bench) {
	script := `echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT > $SCRATCH/rank-$RANK; ` + waitFor("end")
	b.start(b.order(0, 3, script), b.order(1, 3, script), b.order(2, 3, script))
	var master string
	for rank := range 3 {
		f := strings.Fields(b.saw(fmt.Sprintf("rank-%d", rank)))
		if rank == 0 {
			master = strings.Join(f[3:], " ")
		}
		if got, want := strings.Join(f, " "), fmt.Sprintf("%d %d 3 %s", rank, b.order(rank, 3, "").LocalRank, master); got != want {
			b.t.Errorf("rank %d has %q, want %q", rank, got, want)
		}
	}
	if strings.HasSuffix(master, " 0") || len(strings.Fields(master)) != 2 {
		b.t.Errorf("the master is at %q", master)
	}
	for rank, o := range b.states() {
		if o.State != run.Running {
			b.t.Errorf("rank %d is %s", rank, o.State)
		}
	}
	b.tell("end")
	for rank := range 3 {
		if e := b.exited(rank); e.Code != 0 {
			b.t.Errorf("rank %d exited with %+v", rank, e)
		}
		if got := b.kinds(rank); got != "started exited" {
			b.t.Errorf("rank %d reported %q", rank, got)
		}
	}
	b.gone()
}

func startTwice(b *bench) {
	script := `echo run >> $SCRATCH/runs; ` + waitFor("end")
	b.run(script)
	b.run(script)
	b.saw("runs")
	b.tell("end")
	b.succeed()
	b.gone()
	b.run(script) // an attempt that has ended isn't started again either
	if states := b.states(); states[0].State != run.Gone {
		b.t.Errorf("after starting an ended attempt it is %+v", states)
	}
	if got := b.saw("runs"); got != "run" {
		b.t.Errorf("the command ran as often as this: %q", got)
	}
}

func reopen(b *bench) {
	b.run(waitFor("end"))
	b.await("the start", func() bool { return find(b, 0, startedPart) != nil })
	b.Executor = b.Reopen(b.t)
	if got := b.states()[0].State; got != run.Running {
		b.t.Errorf("the new executor sees %q", got)
	}
	b.run("echo must not run > $SCRATCH/wrong")
	b.tell("end")
	b.succeed()
	b.gone()
}

func stopKills(b *bench) {
	b.run(`trap 'echo term > $SCRATCH/term' TERM; echo up > $SCRATCH/up; while :; do sleep 0.05; done`)
	b.saw("up")
	begin := time.Now()
	const grace = 2 * time.Second // a busy machine's shell gets its turn within it
	b.stop(grace)
	e := b.exited(0)
	if e.Signal != "SIGKILL" || e.Code != 128+int(syscall.SIGKILL) {
		b.t.Errorf("exited with %+v, want SIGKILL", e)
	}
	if b.saw("term"); time.Since(begin) < grace {
		b.t.Errorf("killed after %s, before its grace of %s was over", time.Since(begin), grace)
	}
	b.gone()
	b.stop(time.Second) // repeating is harmless
}

func stopShorter(b *bench) {
	b.run(`trap '' TERM; echo up > $SCRATCH/up; while :; do sleep 0.05; done`)
	b.saw("up")
	b.stop(time.Hour)
	b.stop(100 * time.Millisecond)
	b.stop(time.Hour) // more grace than before is not given
	if e := b.exited(0); e.Signal != "SIGKILL" {
		b.t.Errorf("exited with %+v, want SIGKILL", e)
	}
}

func stopGently(b *bench) {
	b.run(`trap 'exit 75' TERM; echo up > $SCRATCH/up; while :; do sleep 0.05; done`)
	b.saw("up")
	b.stop(time.Hour)
	if e := b.exited(0); e.Code != 75 || e.Signal != "" {
		b.t.Errorf("exited with %+v, want 75, the asking for a retry", e)
	}
	b.gone()
}

func stopStaging(b *bench) {
	file := b.AddBlob("b.bin", "tokens")
	b.Down() // so that staging takes as long as this test likes
	b.run("echo must not run > $SCRATCH/wrong", func(o *v1.Order) { o.Data = []v1.Staged{{Name: "train", Files: []v1.File{file}}} })
	b.stop(time.Hour)
	if b.Orders == Asked {
		// It doesn't know yet what to stage, and so has nothing to report.
		b.gone()
		b.Up()
		if o := b.states()[0]; !strings.Contains(o.Detail, "stopped") || b.kinds(0) != "" {
			b.t.Errorf("it is %+v after the reports %q, want that it was stopped before it began", o, b.kinds(0))
		}
		return
	}
	b.Up()
	if e := b.exited(0); !e.StartFailed || !strings.Contains(e.Message, "stopped") {
		b.t.Errorf("exited with %+v, want a start that was stopped", e)
	}
	b.gone()
}

// hiding is shell that starts processes of every sort that could get away: in
// the background, in a session of its own, and with an empty environment.
const hiding = `sleep 1000 & echo $! > $SCRATCH/plain; ` +
	`setsid sh -c 'echo $$ > $SCRATCH/session; exec sleep 1000' & ` +
	`env -i SCRATCH=$SCRATCH sh -c 'echo $$ > $SCRATCH/bare; exec sleep 1000' & `

func (b *bench) hidden() []int {
	b.t.Helper()
	return []int{b.pid(b.saw("plain")), b.pid(b.saw("session")), b.pid(b.saw("bare"))}
}

func agentKilled(b *bench) {
	b.run(hiding + `echo $$ > $SCRATCH/main; while :; do sleep 0.05; done`)
	pids := append(b.hidden(), b.pid(b.saw("main")))
	b.await("the start", func() bool { return find(b, 0, startedPart) != nil })
	b.kill(b.AgentPID(b.t, b.attempt, 0))
	b.await("that the task is seen as gone", func() bool { return b.states()[0].State == run.Gone })
	for _, pid := range pids {
		if alive(pid) {
			b.t.Errorf("process %d lives although its task is gone", pid)
		}
	}
	if o := b.states()[0]; !strings.Contains(o.Detail, "killed") {
		b.t.Errorf("the detail is %q, want that the agent was killed", o.Detail)
	}
}

func workerKilled(b *bench) {
	b.run(`echo $$ > $SCRATCH/main; while :; do sleep 0.05; done`)
	b.kill(b.pid(b.saw("main")))
	if e := b.exited(0); e.Signal != "SIGKILL" || e.StartFailed || e.OverMemory {
		b.t.Errorf("exited with %+v, want SIGKILL and no talk of memory", e)
	}
	b.gone()
	if o := b.states()[0]; !strings.Contains(o.Detail, "delivered its last report") {
		b.t.Errorf("the detail is %q", o.Detail)
	}
}

func leftovers(b *bench) {
	b.run(hiding + waitFor("end"))
	pids := b.hidden()
	b.tell("end")
	b.succeed()
	for _, pid := range pids {
		if alive(pid) {
			b.t.Errorf("process %d lives although its task has exited", pid)
		}
	}
}

func serverAway(b *bench) {
	b.run(`echo up > $SCRATCH/up; echo $$ > $SCRATCH/main; `+waitFor("end")+
		`for i in 1 2 3 4 5; do echo "{\"step\": $i}" >> $PENSTOCK_METRICS; done; printf x > $PENSTOCK_OUTPUTS/model/w; `+writeStep(9, "nine"),
		func(o *v1.Order) { o.Outputs = []string{"model"} }, keepSteps)
	b.saw("up")
	main := b.pid(b.saw("main"))
	b.await("the start", func() bool { return find(b, 0, startedPart) != nil })
	b.Down()
	b.tell("end")
	// The task ends while nobody listens: its agent stays for what it has to say.
	b.await("the command's end", func() bool { return !alive(main) })
	if got := b.states()[0].State; got != run.Running {
		b.t.Errorf("the task is %s although nobody has its last report", got)
	}
	b.Up()
	b.succeed()
	if got := b.kinds(0); got != "started step-9 output:model exited" {
		b.t.Errorf("reported %q", got)
	}
	if got := fmt.Sprint(b.steps()); got != "[1 2 3 4 5]" {
		b.t.Errorf("the steps are %s", got)
	}
	b.gone()
}

func answersLost(b *bench) {
	b.LoseAnswers(3)
	b.run(`for i in 1 2 3; do echo "{\"step\": $i}" >> $PENSTOCK_METRICS; sleep 0.3; done`)
	b.succeed()
	steps := b.steps()
	if fmt.Sprint(steps) != "[1 2 3]" {
		b.t.Errorf("the steps are %v", steps)
	}
}

// steps are those of the metric points, in the order in which they came.
func (b *bench) steps() []int64 {
	var steps []int64
	for _, r := range b.Reports(0) {
		for _, p := range r.Metrics {
			steps = append(steps, p.Step)
		}
	}
	return steps
}

func fenced(b *bench) {
	// Something to report every so often, so that the answer comes at once.
	b.run(`trap '' TERM; echo $$ > $SCRATCH/main; i=0; while :; do i=$((i+1)); echo "{\"step\": $i}" >> $PENSTOCK_METRICS; sleep 0.05; done`)
	pid := b.pid(b.saw("main"))
	b.await("the start", func() bool { return find(b, 0, startedPart) != nil })
	b.Fence()
	b.gone()
	if alive(pid) {
		b.t.Errorf("the task of a fenced agent lives")
	}
	if find(b, 0, exitedPart) != nil {
		b.t.Error("a fenced agent's exit was taken")
	}
	if o := b.states()[0]; !strings.Contains(o.Detail, "taken over") {
		b.t.Errorf("the detail is %q, want why it left", o.Detail)
	}
}

func forget(b *bench) {
	b.run(waitFor("end"))
	err := b.Executor.Forget(b.t.Context(), b.attempt)
	if penstock.CodeOf(err) != penstock.Busy {
		b.t.Fatalf("forgetting what runs gives %v, want busy", err)
	}
	b.tell("end")
	b.succeed()
	b.gone()
	for range 2 { // the second time there is nothing to do
		if err := b.Executor.Forget(b.t.Context(), b.attempt); err != nil {
			b.t.Fatal(err)
		}
	}
	if states := b.states(); len(states) != 0 {
		b.t.Errorf("a forgotten attempt is still observed: %v", states)
	}
	if _, err := b.Executor.Logs(b.t.Context(), b.attempt, 0, run.LogOptions{}); penstock.CodeOf(err) != penstock.NotFound {
		b.t.Errorf("the logs of a forgotten attempt give %v, want not found", err)
	}
}

func missingCommand(b *bench) {
	b.run("", func(o *v1.Order) { o.Command = []string{"trainn", "--fast"} })
	e := b.exited(0)
	if !e.StartFailed || !strings.Contains(e.Message, `"trainn"`) || !strings.Contains(e.Message, "PATH") {
		b.t.Errorf("exited with %+v, want a start that failed because of the command's name", e)
	}
	if got := b.kinds(0); got != "exited" {
		b.t.Errorf("reported %q", got)
	}
	b.gone()
}

func builtin(b *bench) {
	b.run("", func(o *v1.Order) { o.Command = []string{"penstock-agent", "version"} })
	b.succeed()
	if log := b.log(0); !strings.Contains(log, "go1.") {
		b.t.Errorf("the log is %q, want the agent's version", log)
	}
}

func memory(b *bench) {
	b.run(`dd if=/dev/zero of=/dev/null bs=200M count=1`, func(o *v1.Order) {
		o.Resources = penstock.Resources{penstock.Memory: 64 << 20}
	})
	e := b.exited(0)
	if s := find(b, 0, startedPart); s == nil || !strings.HasPrefix(s.Limits, "cgroup") {
		b.t.Skipf("NOT TESTED: this machine holds no limits: %+v", s)
	}
	if e.Code == 0 || !e.OverMemory || !strings.Contains(e.Message, "64Mi") {
		b.t.Errorf("exited with %+v, want that it is told of its memory", e)
	}
}

func usage(b *bench) {
	b.run(`i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`)
	e := b.exited(0)
	if e.CPUTime <= 0 || e.MaxBytes <= 100<<10 {
		b.t.Errorf("used %s and %d bytes: too little", time.Duration(e.CPUTime), e.MaxBytes)
	}
	if s := find(b, 0, startedPart); !strings.HasPrefix(s.Limits, "cgroup v") && !strings.HasPrefix(s.Limits, "none: ") && (b.Orders != Asked || s.Limits != "by the engine") {
		b.t.Errorf("limits are %q", s.Limits)
	}
}

func nodes(b *bench) {
	nodes, err := b.Executor.Nodes(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if len(nodes) == 0 {
		b.t.Fatal("there are no nodes")
	}
	for _, n := range nodes {
		if n.Name == "" || n.Capacity[penstock.CPU] < 1 || n.Capacity[penstock.Memory] < 1<<20 {
			b.t.Errorf("node %+v has no capacity", n)
		}
	}
}
