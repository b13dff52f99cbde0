package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func (s *session) editCommand() *cobra.Command {
	var quota, replicas []string
	var priority string
	var dryRun bool
	c := &cobra.Command{
		Use: "edit KIND NAME", Short: "Change one thing of an object, such as a quota or a gang's size",
		Example: "  penstock edit project vision --quota cpu=8\n  penstock edit job train --replicas worker=1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseKind(args[0])
			if err != nil {
				return err
			}
			return s.edit(cmd.Context(), s.ref(k, args[1]), edits{quota, replicas, priority}, dryRun)
		},
	}
	c.Flags().StringSliceVar(&quota, "quota", nil, "nominal quota of a project, as resource=amount")
	c.Flags().StringSliceVar(&replicas, "replicas", nil, "size of a job's task set, as set=number")
	c.Flags().StringVar(&priority, "priority", "", "priority of a job")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	return c
}

// edits are the changes that were asked for.
type edits struct {
	quota, replicas []string
	priority        string
}

// edit reads the object, changes it and applies it at the revision that was
// read, so that nobody's change in between is lost.
func (s *session) edit(ctx context.Context, ref penstock.Ref, e edits, dryRun bool) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	o, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	switch ref.Kind {
	case penstock.KindProject:
		o, err = editQuota(o, e.quota)
	case penstock.KindJob:
		o, err = editJob(o, e)
	default:
		err = &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("edit can't change a %s", ref.Kind), Hint: "change its manifest and apply it"}
	}
	if err != nil {
		return err
	}
	results, err := c.Apply(ctx, v1.ApplyRequest{Objects: []v1.Object{o}, DryRun: dryRun}, "")
	if err != nil {
		return err
	}
	for _, d := range results[0].Diff {
		fmt.Fprintf(s.Out, "%s\t%s\t%s\t%s\n", ref, d.Path, d.From, d.To)
	}
	if dryRun {
		fmt.Fprintln(s.Err, "nothing was changed")
	}
	return nil
}

func editQuota(o v1.Object, amounts []string) (v1.Object, error) {
	p, err := v1.As[v1.ProjectSpec, v1.ProjectStatus](o)
	if err != nil {
		return o, err
	}
	changes, err := parsePairs(amounts)
	if err != nil || len(changes) == 0 {
		return o, cmp.Or(err, nothingToEdit("--quota cpu=8"))
	}
	if p.Spec.Quota.Nominal == nil {
		p.Spec.Quota.Nominal = penstock.Resources{}
	}
	for name, text := range changes {
		r := penstock.Resource(name)
		if p.Spec.Quota.Nominal[r], err = penstock.ParseAmount(r, text); err != nil {
			return o, err
		}
	}
	o.Spec, err = json.Marshal(p.Spec)
	return o, err
}

func editJob(o v1.Object, e edits) (v1.Object, error) {
	job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
	if err != nil {
		return o, err
	}
	sizes, err := parsePairs(e.replicas)
	if err != nil || len(sizes) == 0 && e.priority == "" {
		return o, cmp.Or(err, nothingToEdit("--replicas worker=1 or --priority 10"))
	}
	for name, text := range sizes {
		i := slices.IndexFunc(job.Spec.Tasks, func(t v1.TaskSet) bool { return t.Name == name })
		n, err := strconv.Atoi(text)
		if i < 0 || err != nil {
			return o, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%s=%s is not a task set of the job and a number", name, text)}
		}
		job.Spec.Tasks[i].Replicas = n
	}
	if e.priority != "" {
		if job.Spec.Priority, err = strconv.Atoi(e.priority); err != nil {
			return o, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("--priority %q is not a number", e.priority)}
		}
	}
	o.Spec, err = json.Marshal(job.Spec)
	return o, err
}

func nothingToEdit(example string) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: "nothing to change was given", Hint: "for instance " + example}
}
