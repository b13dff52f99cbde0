package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

func (s *session) runCommand() *cobra.Command {
	var name, class string
	var replicas int
	var cpu, memory string
	var devices, env []string
	var dir string
	var detach bool
	c := &cobra.Command{
		Use: "run [flags] -- COMMAND [ARG...]", Short: "Run a command as a job and follow it",
		Example: "  penstock run -- python3 train.py\n  penstock run --replicas 2 --device h100=4 --dir . -- torchrun train.py",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := s.adHocJob(name, class, replicas, dir, args, append(devices, "cpu="+cpu, "memory="+memory), env)
			if err != nil {
				return err
			}
			return s.run(cmd.Context(), job, detach)
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "name of the job (default: the command and the time)")
	f.StringVar(&class, "class", "", "what sort of work it is (default: inferred)")
	f.IntVar(&replicas, "replicas", 1, "how many tasks the gang has")
	f.StringVar(&cpu, "cpu", "500m", "CPUs of each task")
	f.StringVar(&memory, "memory", "256Mi", "memory of each task")
	f.StringSliceVar(&devices, "device", nil, "accelerators of each task, as type=count")
	f.StringSliceVar(&env, "env", nil, "environment, as KEY=value")
	f.StringVar(&dir, "dir", "", "folder whose files are the code")
	f.BoolVarP(&detach, "detach", "d", false, "don't follow, print the job's name")
	return c
}

func (s *session) adHocJob(name, class string, replicas int, dir string, command, amounts, env []string) (v1.Job, error) {
	if name == "" {
		name = runName(command[0], time.Now().UTC())
	}
	environment, err := parsePairs(env)
	if err != nil {
		return v1.Job{}, err
	}
	want := penstock.Resources{}
	for _, pair := range amounts {
		r, text, _ := strings.Cut(pair, "=")
		if want[penstock.Resource(r)], err = penstock.ParseAmount(penstock.Resource(r), text); err != nil {
			return v1.Job{}, err
		}
	}
	return v1.Job{
		Kind:     penstock.KindJob,
		Metadata: v1.Metadata{Project: s.projectName(), Name: name},
		Spec: v1.JobSpec{
			Class: penstock.Class(class),
			Tasks: []v1.TaskSet{{Name: "main", Replicas: replicas, Command: command, Env: environment, Resources: want, Dir: dir}},
		},
	}, nil
}

// runName is the program and the time, with letters that tell apart what starts
// in the same second.
func runName(program string, at time.Time) string {
	base := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(program))), "-")
	return strings.Trim(base[:min(len(base), 20)]+at.Format("-0102-150405-")+strings.ToLower(rand.Text()[:4]), "-")
}

func (s *session) run(ctx context.Context, job v1.Job, detach bool) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := packTasks(ctx, c, job.Spec.Tasks, ".", false); err != nil {
		return err
	}
	o, err := job.Object()
	if err != nil {
		return err
	}
	if _, err := c.Apply(ctx, v1.ApplyRequest{Objects: []v1.Object{o}}, ""); err != nil {
		return err
	}
	if detach {
		fmt.Fprintln(s.Out, job.Metadata.Name)
		return nil
	}
	fmt.Fprintf(s.Err, "%s is queued\n", job.Ref())
	if err := s.followLogs(ctx, c, job.Ref(), client.LogOptions{Follow: true}); err != nil {
		return err
	}
	return s.wait(ctx, c, job.Ref(), "", 0)
}

func (s *session) psCommand() *cobra.Command {
	var all, watch bool
	c := &cobra.Command{
		Use: "ps", Short: "Show what runs and what waits, and why", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := client.ListOptions{Phases: []penstock.Phase{
				penstock.PhasePending, penstock.PhaseQueued, penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping,
			}}
			if !all {
				o.Project = s.projectName()
			}
			return s.getMany(cmd.Context(), penstock.KindJob, o, watch)
		},
	}
	c.Flags().BoolVarP(&all, "all-projects", "A", false, "of all projects")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what changes")
	s.outputFlag(c)
	return c
}

func (s *session) logsCommand() *cobra.Command {
	var o client.LogOptions
	c := &cobra.Command{
		Use: "logs JOB", Short: "Show what a job's tasks wrote", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			ref, err := s.parseRef(args[0], penstock.KindJob)
			if err != nil {
				return err
			}
			return s.followLogs(cmd.Context(), c, ref, o)
		},
	}
	c.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the task ends")
	c.Flags().IntVar(&o.Rank, "rank", 0, "which task of the gang")
	c.Flags().IntVar(&o.Attempt, "attempt", 0, "which attempt (default: the newest)")
	c.Flags().IntVar(&o.Tail, "tail", 0, "only the last lines (default: all)")
	return c
}

// followLogs copies a log out; with Follow it waits for the job's start.
func (s *session) followLogs(ctx context.Context, c *client.Client, ref penstock.Ref, o client.LogOptions) error {
	for {
		from, err := c.Logs(ctx, ref, o)
		if err == nil {
			defer from.Close()
			_, err = io.Copy(s.Out, from)
			return err
		}
		if !o.Follow || penstock.CodeOf(err) != penstock.Pending && penstock.CodeOf(err) != penstock.NotFound {
			return err
		}
		// The job hasn't started: say why, once it is known, and wait for a change.
		if over, err := s.awaitStart(ctx, c, ref); over || err != nil {
			return err
		}
	}
}

// awaitStart returns when the job has an attempt, or reports that it ended
// without one.
func (s *session) awaitStart(ctx context.Context, c *client.Client, ref penstock.Ref) (over bool, err error) {
	said := ""
	err = c.WaitFor(ctx, ref, func(o v1.Object) (bool, error) {
		job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		if err != nil {
			return false, err
		}
		if why := penstock.Join(job.Status.Reasons); why != "" && why != said && job.Metadata.Phase == penstock.PhaseQueued {
			said = why
			fmt.Fprintf(s.Err, "%s waits: %s\n", ref, why)
		}
		started := job.Status.Attempt > 0 && (job.Metadata.Phase == penstock.PhaseRunning || job.Metadata.Phase.Final())
		over = job.Status.Attempt == 0 && job.Metadata.Phase.Final()
		return started || over, nil
	})
	return over, err
}

func (s *session) waitCommand() *cobra.Command {
	var phase string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "wait KIND/NAME", Short: "Wait until an object is done, or in a phase",
		Long: `Wait returns when a job has ended, or anything else is Ready. With --for it waits for that phase.
The exit status is 1 if the object ended in another way, and 8 if the time ran out.`,
		Example: "  penstock wait job/train --timeout 1h\n  penstock wait endpoint/chat --for Ready",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.parseRef(args[0], penstock.KindJob)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			return s.wait(cmd.Context(), c, ref, penstock.Phase(phase), timeout)
		},
	}
	c.Flags().StringVar(&phase, "for", "", "the phase to wait for")
	c.Flags().DurationVar(&timeout, "timeout", 0, "give up after this long (default: never)")
	return c
}

func (s *session) wait(ctx context.Context, c *client.Client, ref penstock.Ref, phase penstock.Phase, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, &penstock.Error{
			Code: penstock.Pending, Where: ref.String(), Msg: "not done after " + timeout.String(), Hint: "'penstock explain' tells why; it goes on",
		})
		defer cancel()
	}
	want := phase
	if want == "" {
		want = penstock.PhaseReady
		if ref.Kind == penstock.KindJob || ref.Kind == penstock.KindAttempt {
			want = penstock.PhaseSucceeded
		}
	}
	err := c.WaitFor(ctx, ref, func(o v1.Object) (bool, error) {
		now := o.Metadata.Phase
		ended := now.Final() || now == penstock.PhaseFailed
		if now == want || !ended {
			return now == want, nil
		}
		why, err := detail(o)
		if err != nil {
			return false, err
		}
		return false, &penstock.Error{Code: penstock.Unavailable, Where: ref.String(), Msg: fmt.Sprintf("is %s, not %s: %s", now, want, why), Hint: "'penstock explain' and 'penstock logs' tell more"}
	})
	if ctx.Err() != nil && context.Cause(ctx) != ctx.Err() {
		return context.Cause(ctx)
	}
	return err
}

func (s *session) stopCommand() *cobra.Command {
	return s.jobVerb("stop JOB...", "Ask jobs to end", "stopping", (*client.Client).Stop)
}

func (s *session) reclaimCommand() *cobra.Command {
	return s.jobVerb("reclaim JOB...", "Take a job's devices back; it goes on later from its newest checkpoint", "reclaimed", (*client.Client).Reclaim)
}

func (s *session) jobVerb(use, short, said string, do func(*client.Client, context.Context, penstock.Ref) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			for _, arg := range args {
				ref, err := s.parseRef(arg, penstock.KindJob)
				if err != nil {
					return err
				}
				if err := do(c, cmd.Context(), ref); err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "%s\t%s\n", ref, said)
			}
			return nil
		},
	}
}
