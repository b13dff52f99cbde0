package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

func (s *session) getCommand() *cobra.Command {
	var o client.ListOptions
	var labels, phases []string
	var all, watch bool
	c := &cobra.Command{
		Use: "get KIND [NAME]", Short: "Show objects", Args: cobra.RangeArgs(1, 2),
		Example: "  penstock get jobs -w\n  penstock get modelversion tiny-go-1a2b3c4d5e6f -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseKind(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return s.getOne(cmd.Context(), s.ref(k, args[1]))
			}
			if !all && !k.Global() {
				o.Project = s.projectName()
			}
			if o.Labels, err = parsePairs(labels); err != nil {
				return err
			}
			for _, p := range phases {
				o.Phases = append(o.Phases, penstock.Phase(p))
			}
			return s.getMany(cmd.Context(), k, o, watch)
		},
	}
	c.Flags().StringSliceVarP(&labels, "label", "l", nil, "only with these labels, as key=value")
	c.Flags().StringSliceVar(&phases, "phase", nil, "only in these phases, such as Running")
	c.Flags().BoolVarP(&all, "all-projects", "A", false, "of all projects")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what changes")
	s.outputFlag(c)
	return c
}

func parsePairs(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%q is not key=value", p)}
		}
		out[key] = value
	}
	return out, nil
}

func (s *session) getOne(ctx context.Context, ref penstock.Ref) error {
	c, format, err := s.begin()
	if err != nil {
		return err
	}
	o, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	if format != "table" && format != "wide" {
		return s.printObjects(format, []v1.Object{o})
	}
	return s.printTable([]v1.Object{o}, format)
}

func (s *session) getMany(ctx context.Context, k penstock.Kind, o client.ListOptions, watch bool) error {
	c, format, err := s.begin()
	if err != nil {
		return err
	}
	objects, revision, err := c.List(ctx, k, o)
	if err != nil {
		return err
	}
	sort.SliceStable(objects, func(i, j int) bool { return objects[i].Ref().String() < objects[j].Ref().String() })
	show := func(objects []v1.Object) error {
		if format != "table" && format != "wide" {
			return s.printObjects(format, objects)
		}
		return s.printTable(objects, format)
	}
	if len(objects) == 0 && s.Terminal && !watch {
		fmt.Fprintf(s.Err, "no %s in project %s\n", client.Plural(k), o.Project)
		return nil
	}
	if err := show(objects); err != nil || !watch {
		return err
	}
	return c.Watch(ctx, client.WatchOptions{Project: o.Project, Kind: k, After: revision}, func(change v1.Change) error {
		if change.Op == "deleted" {
			fmt.Fprintf(s.Err, "%s was deleted\n", change.Object.Ref())
			return nil
		}
		return show([]v1.Object{change.Object})
	})
}

// printTable shows objects of one kind: the columns that all kinds have, and
// one that says the most about this kind.
func (s *session) printTable(objects []v1.Object, format string) error {
	columns := []string{"NAME", "PHASE", "AGE", "DETAIL"}
	if format == "wide" {
		columns = []string{"PROJECT", "NAME", "PHASE", "AGE", "BY", "REVISION", "LABELS", "DETAIL"}
	}
	t := s.table(columns...)
	for _, o := range objects {
		m := o.Metadata
		what, err := detail(o)
		if err != nil {
			return err
		}
		phase := string(m.Phase)
		if !m.DeletedAt.IsZero() {
			phase += ",retiring"
		}
		if format == "wide" {
			t.add(m.Project, m.Name, phase, s.when(m.CreatedAt), m.CreatedBy, fmt.Sprint(m.Revision), pairs(m.Labels), what)
			continue
		}
		t.add(m.Name, phase, s.when(m.CreatedAt), what)
	}
	t.print()
	return nil
}

func pairs(labels map[string]string) string {
	var parts []string
	for k, v := range labels {
		parts = append(parts, k+"="+v)
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

// detail is the one line that says the most about an object.
func detail(o v1.Object) (string, error) {
	switch o.Kind {
	case penstock.KindJob:
		return jobDetail(o)
	case penstock.KindEndpoint:
		e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](o)
		ready := 0
		for _, r := range e.Status.Replicas {
			if r.Ready {
				ready++
			}
		}
		return fmt.Sprintf("%s, %d/%d ready %s", e.Spec.Model, ready, max(1, e.Spec.Replicas), penstock.Join(e.Status.Reasons)), err
	case penstock.KindDataset:
		d, err := v1.As[v1.DatasetSpec, v1.DatasetStatus](o)
		if d.Status.Counts == nil {
			return "", err
		}
		return fmt.Sprintf("version %s, %d of %d documents", d.Status.Version.Short(), d.Status.Counts.Out, d.Status.Counts.In), err
	case penstock.KindModel:
		m, err := v1.As[v1.ModelSpec, v1.ModelStatus](o)
		var parts []string
		for alias, d := range m.Status.Aliases {
			parts = append(parts, alias+"="+d.Short())
		}
		sort.Strings(parts)
		return strings.Join(parts, " "), err
	case penstock.KindPool:
		p, err := v1.As[v1.PoolSpec, v1.PoolStatus](o)
		nodes := "1 node"
		if n := len(p.Status.Nodes); n != 1 {
			nodes = fmt.Sprintf("%d nodes", n)
		}
		return nodes + ", " + resources(p.Status.Capacity), err
	case penstock.KindMonitor:
		m, err := v1.As[v1.MonitorSpec, v1.MonitorStatus](o)
		var parts []string
		for _, sig := range m.Status.Signals {
			parts = append(parts, fmt.Sprintf("%s PSI %.3f", sig.Name, sig.PSI))
		}
		return fmt.Sprintf("%s; %d alerts", strings.Join(parts, ", "), m.Status.Alerts), err
	case penstock.KindPipeline:
		p, err := v1.As[v1.PipelineSpec, v1.PipelineStatus](o)
		return fmt.Sprintf("%d runs", p.Status.Next), err
	}
	return specDetail(o)
}

func specDetail(o v1.Object) (string, error) {
	var spec struct {
		Digest penstock.Digest `json:"digest"`
		Owner  string          `json:"owner"`
		Pool   string          `json:"pool"`
	}
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		return "", fmt.Errorf("decode spec of %s: %w", o.Ref(), err)
	}
	return first(spec.Digest.Short(), spec.Owner, spec.Pool), nil
}

func resources(r penstock.Resources) string {
	var parts []string
	for _, name := range r.Names() {
		parts = append(parts, name.Short(r[name])+" "+string(name))
	}
	return strings.Join(parts, ", ")
}

func jobDetail(o v1.Object) (string, error) {
	job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
	var parts []string
	if job.Status.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d", job.Status.Attempt))
	}
	if job.Status.Step > 0 {
		parts = append(parts, fmt.Sprintf("checkpoint %d", job.Status.Step))
	}
	if loss, ok := job.Status.Metrics["loss"]; ok {
		parts = append(parts, fmt.Sprintf("loss %.3f", loss))
	}
	if len(job.Status.Reasons) > 0 {
		parts = append(parts, job.Status.Reasons[0].String())
	}
	return strings.Join(parts, ", "), err
}

func (s *session) deleteCommand() *cobra.Command {
	var files []string
	var dryRun bool
	c := &cobra.Command{
		Use: "delete (-f FILE | KIND/NAME...)", Short: "Retire objects, and tell what is kept and why",
		Long: `Delete stops the work of the named objects and removes them and what was made for them.
What is evidence stays: versions that were in production, and whatever they came from.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			refs, err := s.deleteRefs(files, args)
			if err != nil {
				return err
			}
			return s.delete(cmd.Context(), v1.DeleteRequest{Refs: refs, DryRun: dryRun})
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "manifest or folder of manifests")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would go, and change nothing")
	s.outputFlag(c)
	return c
}

func (s *session) deleteRefs(files, args []string) ([]penstock.Ref, error) {
	var refs []penstock.Ref
	if len(files) > 0 {
		manifests, err := s.readManifests(files)
		if err != nil {
			return nil, err
		}
		for _, m := range manifests {
			refs = append(refs, m.object.Ref())
		}
	}
	for _, arg := range args {
		if !strings.Contains(arg, "/") {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%q doesn't say what kind it is", arg), Hint: "write kind/name, such as job/" + arg}
		}
		ref, err := s.parseRef(arg, "")
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "nothing was named", Hint: "give -f FILE, or kind/name"}
	}
	return refs, nil
}

func (s *session) delete(ctx context.Context, in v1.DeleteRequest) error {
	c, format, err := s.begin()
	if err != nil {
		return err
	}
	retired, err := c.Delete(ctx, in)
	if err != nil {
		return err
	}
	if format == "json" || format == "yaml" {
		return s.printDocument(format, retired)
	}
	for _, r := range retired {
		for _, ref := range r.Deleted {
			fmt.Fprintf(s.Out, "%s\tdeleted\n", ref)
		}
		for _, ref := range r.Waiting {
			fmt.Fprintf(s.Out, "%s\tstopping first\n", ref)
		}
		for _, k := range r.Kept {
			fmt.Fprintf(s.Out, "%s\tkept: %s\n", k.Ref, k.Why)
		}
	}
	return nil
}
