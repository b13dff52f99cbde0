package runtest

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/penstock/penstock/api/v1"
)

func outputs(b *bench) {
	b.run(`mkdir $PENSTOCK_OUTPUTS/model/sub; printf weights > $PENSTOCK_OUTPUTS/model/sub/w; printf card > $PENSTOCK_OUTPUTS/model/README`,
		func(o *v1.Order) { o.Outputs = []string{"model", "report"} })
	b.succeed()
	if got := b.kinds(0); got != "started output:model output:report exited" {
		b.t.Errorf("reported %q", got)
	}
	got := map[string]string{}
	for _, r := range b.Reports(0) {
		if r.Output != nil {
			for _, f := range r.Output.Files {
				got[r.Output.Name+"/"+f.Path] = b.Blob(f.Digest)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"model/README": "card", "model/sub/w": "weights"}, got); diff != "" {
		b.t.Error(diff)
	}
}

func outputLink(b *bench) {
	b.run(`ln -s /etc/passwd $PENSTOCK_OUTPUTS/model/w`, func(o *v1.Order) { o.Outputs = []string{"model"} })
	e := b.exited(0)
	if e.Code == 0 || !strings.Contains(e.Message, "outputs/model/w") || !strings.Contains(e.Message, "symbolic link") {
		b.t.Errorf("exited with %+v, want a failure that names the link", e)
	}
}

func noOutputs(b *bench) {
	b.run(`printf half > $PENSTOCK_OUTPUTS/model/w; exit 3`, func(o *v1.Order) { o.Outputs = []string{"model"} })
	if e := b.exited(0); e.Code != 3 {
		b.t.Errorf("exited with %+v", e)
	}
	if got := b.kinds(0); got != "started exited" {
		b.t.Errorf("reported %q", got)
	}
}

// writeStep is shell that writes a step the way the contract asks for.
func writeStep(n int, weights string) string {
	return fmt.Sprintf(`cd $PENSTOCK_CHECKPOINTS; mkdir -p step-%[1]d.tmp/optim; printf %[2]s > step-%[1]d.tmp/w; printf opt-%[2]s > step-%[1]d.tmp/optim/o; mv step-%[1]d.tmp step-%[1]d; `, n, weights)
}

func keepSteps(o *v1.Order) { o.Checkpoints = true }

// saved gives the stored bytes of a step by path, once it is reported.
func (b *bench) saved(step int64) map[string]string {
	b.t.Helper()
	find := func() *v1.Saved {
		return find(b, 0, func(r v1.Report) *v1.Saved {
			if r.Checkpoint == nil || r.Checkpoint.Step != step {
				return nil
			}
			return r.Checkpoint
		})
	}
	b.await(fmt.Sprintf("that step %d is stored", step), func() bool { return find() != nil })
	got := map[string]string{}
	for _, f := range find().Files {
		got[f.Path] = b.Blob(f.Digest)
	}
	return got
}

func checkpointDeleted(b *bench) {
	release := b.HoldUploads()
	b.t.Cleanup(release)
	b.run(writeStep(5, "five")+waitFor("delete")+`rm -r step-5; echo deleted > $SCRATCH/deleted; `+waitFor("end"), keepSteps)
	b.await("the first upload", func() bool { return b.HeldUploads() > 0 })
	b.tell("delete")
	b.saw("deleted")
	release()
	if diff := cmp.Diff(map[string]string{"w": "five", "optim/o": "opt-five"}, b.saved(5)); diff != "" {
		b.t.Error(diff)
	}
	b.tell("end")
	b.succeed()
}

func checkpointOverwritten(b *bench) {
	release := b.HoldUploads()
	b.t.Cleanup(release)
	b.run(writeStep(1, "first")+waitFor("write")+`printf WRONG > step-1/w; echo written > $SCRATCH/written; `+waitFor("end"), keepSteps)
	b.await("the first upload", func() bool { return b.HeldUploads() > 0 })
	b.tell("write")
	b.saw("written")
	release()
	if diff := cmp.Diff(map[string]string{"w": "first", "optim/o": "opt-first"}, b.saved(1)); diff != "" {
		b.t.Error(diff)
	}
	b.tell("end")
	b.succeed()
}

func checkpointUnfinished(b *bench) {
	b.run(writeStep(1, "one")+`mkdir step-2.tmp step-x; printf half > step-2.tmp/w; printf no > step-x/w; printf no > step-3`, keepSteps)
	b.succeed()
	if got := b.kinds(0); got != "started step-1 exited" {
		b.t.Errorf("reported %q", got)
	}
}

func checkpointLast(b *bench) {
	b.run(writeStep(1, "one")+writeStep(2, "two")+`exit 1`, keepSteps)
	if e := b.exited(0); e.Code != 1 {
		b.t.Errorf("exited with %+v", e)
	}
	if got := b.kinds(0); got != "started step-1 step-2 exited" {
		b.t.Errorf("reported %q", got)
	}
}

func restore(b *bench) {
	w, o := b.AddBlob("w", "seven"), b.AddBlob("optim/o", "opt-seven")
	b.run(`cat $PENSTOCK_CHECKPOINTS/step-7/w $PENSTOCK_CHECKPOINTS/step-7/optim/o; echo; `+writeStep(8, "eight"), keepSteps, func(order *v1.Order) {
		order.Restore = &v1.Checkpoint{Step: 7, Files: []v1.File{w, o}}
	})
	b.succeed()
	// A line: some engines keep what isn't one until the task's process has ended.
	if got := b.log(0); got != "sevenopt-seven\n" {
		b.t.Errorf("the command read %q", got)
	}
	if got := b.kinds(0); got != "started step-8 exited" {
		b.t.Errorf("reported %q, want the new step alone", got)
	}
}

func staging(b *bench) {
	order := b.order(0, 1, `cat $PENSTOCK_DATA/train/a/b.bin $PENSTOCK_MODELS/base/m; stat -c ' %a' $PENSTOCK_DATA/train/a/b.bin; ls $PENSTOCK_OUTPUTS; ./go.sh`)
	order.Data = []v1.Staged{{Name: "train", Files: []v1.File{b.AddBlob("a/b.bin", "tokens")}}}
	order.Models = []v1.Staged{{Name: "base", Files: []v1.File{b.AddBlob("m", "-model")}}}
	order.Code = &v1.Code{Files: []v1.File{b.AddBlob("go.sh", "#!/bin/sh\necho code > made-here; cat made-here\n")}}
	b.start(order)
	b.succeed()
	if got := b.log(0); got != "tokens-model 444\ncode\n" {
		b.t.Errorf("the command saw %q", got)
	}
}

func stagingSpoiled(b *bench) {
	file := b.AddBlob("b.bin", "tokens")
	b.Spoil(file, "tokenZ")
	b.run("echo must not run > $SCRATCH/wrong", func(o *v1.Order) { o.Data = []v1.Staged{{Name: "train", Files: []v1.File{file}}} })
	e := b.exited(0)
	if !e.StartFailed || !strings.Contains(e.Message, "b.bin") || !strings.Contains(e.Message, file.Digest.Short()) {
		b.t.Errorf("exited with %+v, want a start that failed over the wrong bytes", e)
	}
}

func stagingEscape(b *bench) {
	file := b.AddBlob("../../outside", "x")
	b.run("exit 0", func(o *v1.Order) { o.Data = []v1.Staged{{Name: "train", Files: []v1.File{file}}} })
	if e := b.exited(0); !e.StartFailed || !strings.Contains(e.Message, "../../outside") {
		b.t.Errorf("exited with %+v, want that the path is refused", e)
	}
}

func metrics(b *bench) {
	b.run(`printf '{"step": 1, "loss": 2.5}\nnot json\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1e999}\n{"step": 4, "lo' >> $PENSTOCK_METRICS; ` +
		waitFor("more") + `printf 'ss": 0.5}\n{"step": 5, "loss": 0.25}' >> $PENSTOCK_METRICS`)
	b.await("the first point", func() bool { return len(b.steps()) > 0 })
	b.tell("more")
	b.succeed()
	got := map[int64]float64{}
	for _, r := range b.Reports(0) {
		for _, p := range r.Metrics {
			got[p.Step] = p.Values["loss"]
		}
	}
	if diff := cmp.Diff(map[int64]float64{1: 2.5, 4: 0.5, 5: 0.25}, got); diff != "" {
		b.t.Error(diff)
	}
	log := b.log(0)
	if strings.Count(log, "a line of PENSTOCK_METRICS was not understood") != 1 || !strings.Contains(log, "3 lines of PENSTOCK_METRICS") {
		b.t.Errorf("the log should tell of one bad line, and count 3: %q", log)
	}
}
