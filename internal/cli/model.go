package cli

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

func (s *session) modelCommand() *cobra.Command {
	return parent(&cobra.Command{Use: "model", Short: "Versions, lineage, gates and aliases of models"},
		s.modelListCommand(), s.modelShowCommand(), s.modelApproveCommand(), s.modelPromoteCommand(), s.modelHistoryCommand())
}

func (s *session) modelListCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ls [MODEL]", Short: "List models, or one model's versions", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return s.getMany(cmd.Context(), penstock.KindModel, client.ListOptions{Project: s.projectName()}, false)
			}
			return s.listVersions(cmd.Context(), args[0])
		},
	}
	s.outputFlag(c)
	return c
}

func (s *session) listVersions(ctx context.Context, name string) error {
	c, format, err := s.begin()
	if err != nil {
		return err
	}
	model, err := client.GetAs[v1.ModelSpec, v1.ModelStatus](ctx, c, s.ref(penstock.KindModel, name))
	if err != nil {
		return err
	}
	objects, _, err := c.List(ctx, penstock.KindModelVersion, client.ListOptions{Project: s.projectName(), Owner: model.Metadata.UID})
	if err != nil {
		return err
	}
	if format != "table" && format != "wide" {
		return s.printObjects(format, objects)
	}
	t := s.table("VERSION", "PHASE", "AGE", "SCAN", "ALIASES", "FROM", "METRICS")
	for _, o := range objects {
		v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
		if err != nil {
			return err
		}
		verdict := ""
		if v.Status.Scan != nil {
			verdict = v.Status.Scan.Verdict
		}
		t.add(v.Spec.Digest.Short(), string(v.Metadata.Phase), s.when(v.Metadata.CreatedAt), verdict, aliasesOf(model, v.Spec.Digest), v.Spec.Lineage.Job, metrics(v.Status.Metrics))
	}
	t.print()
	return nil
}

func aliasesOf(m v1.Model, d penstock.Digest) string {
	var names []string
	for alias, to := range m.Status.Aliases {
		if to == d {
			names = append(names, alias)
		}
	}
	sort.Strings(names)
	return strings.Join(names, ",")
}

func metrics(m map[string]float64) string {
	var parts []string
	for name, v := range m {
		parts = append(parts, fmt.Sprintf("%s=%.4g", name, v))
	}
	sort.Strings(parts)
	return strings.Join(parts, " ")
}

// findVersion finds the version that a reference means: name@digits of its
// digest, name@alias, or name for the newest.
func (s *session) findVersion(ctx context.Context, c *client.Client, reference string) (v1.Model, v1.ModelVersion, error) {
	name, at, _ := strings.Cut(reference, "@")
	model, err := client.GetAs[v1.ModelSpec, v1.ModelStatus](ctx, c, s.ref(penstock.KindModel, name))
	if err != nil {
		return model, v1.ModelVersion{}, err
	}
	objects, _, err := c.List(ctx, penstock.KindModelVersion, client.ListOptions{Project: s.projectName(), Owner: model.Metadata.UID})
	if err != nil {
		return model, v1.ModelVersion{}, err
	}
	var found []v1.ModelVersion
	for _, o := range objects {
		v, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
		if err != nil {
			return model, v, err
		}
		digits := strings.TrimPrefix(at, "sha256:")
		if at == "" || model.Status.Aliases[at] == v.Spec.Digest || len(digits) >= 4 && strings.HasPrefix(v.Spec.Digest.Hex(), digits) {
			found = append(found, v)
		}
	}
	if len(found) == 0 || at != "" && len(found) > 1 {
		return model, v1.ModelVersion{}, &penstock.Error{
			Code: penstock.NotFound, Msg: fmt.Sprintf("%s means %d versions of model %s", reference, len(found), name),
			Hint: "'penstock model ls " + name + "' lists them; give an alias or the first digits of a digest",
		}
	}
	return model, found[len(found)-1], nil
}

func (s *session) modelShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "show MODEL[@ALIAS|@DIGEST]", Short: "Show a version: where it came from, and what its gates still need", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, format, err := s.begin()
			if err != nil {
				return err
			}
			model, v, err := s.findVersion(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if format != "table" && format != "wide" {
				o, err := v.Object()
				if err != nil {
					return err
				}
				return s.printObjects(format, []v1.Object{o})
			}
			x, err := c.Explain(cmd.Context(), v.Ref())
			if err != nil {
				return err
			}
			s.showVersion(model, v, x)
			return nil
		},
	}
	s.outputFlag(c)
	return c
}

func (s *session) showVersion(m v1.Model, v v1.ModelVersion, x v1.Explanation) {
	l := v.Spec.Lineage
	line := func(name, format string, args ...any) {
		fmt.Fprintf(s.Out, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("version", "%s@%s  %s  %s", v.Spec.Model, v.Spec.Digest, v.Metadata.Phase, aliasesOf(m, v.Spec.Digest))
	for _, f := range v.Spec.Files {
		line("file", "%s  %d bytes  %s", f.Path, f.Size, f.Digest.Short())
	}
	line("made by", "job %s, attempt %d, for %s", l.Job, l.Attempt, l.Author)
	if l.Step >= 0 {
		line("checkpoint", "step %d  %s", l.Step, l.Checkpoint.Short())
	}
	if l.Code != "" {
		line("code", "%s", l.Code)
	}
	for _, d := range l.Datasets {
		line("dataset", "%s  %s", d.Name, d.Digest)
	}
	for _, b := range l.Base {
		line("base", "%s  %s", b.Name, b.Digest)
	}
	if l.Trigger != "" {
		line("trigger", "%s", l.Trigger)
	}
	line("parameters", "%s", pairs(l.Parameters))
	if v.Status.Scan != nil {
		line("scan", "%s by ruleset %s", v.Status.Scan.Verdict, v.Status.Scan.Ruleset)
		for _, f := range v.Status.Scan.Findings {
			line("", "%s: %s", f.Path, f.Detail)
		}
	}
	line("metrics", "%s", metrics(v.Status.Metrics))
	for _, a := range v.Status.Approvals {
		line("approved", "for %s by %s, %s", a.Alias, a.By, s.when(a.At))
	}
	for _, r := range x.Reasons {
		line("gate", "%s   [%s]", r, r.Class)
	}
}

func (s *session) modelApproveCommand() *cobra.Command {
	var in v1.ApproveRequest
	c := &cobra.Command{
		Use: "approve MODEL[@DIGEST]", Short: "Say yes to a version for an alias; its author can't", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			_, v, err := s.findVersion(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if _, err := c.Approve(cmd.Context(), v.Ref(), in); err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s\tapproved for %s\n", v.Ref(), in.Alias)
			return nil
		},
	}
	c.Flags().StringVar(&in.Alias, "alias", "production", "the alias that the yes is for")
	c.Flags().StringVar(&in.Comment, "comment", "", "why")
	return c
}

func (s *session) modelPromoteCommand() *cobra.Command {
	var alias, note string
	c := &cobra.Command{
		Use: "promote MODEL[@DIGEST]", Short: "Move an alias to a version, if the gate is open", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			m, v, err := s.findVersion(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			in := v1.PromoteRequest{Alias: alias, From: m.Status.Aliases[alias], To: v.Spec.Digest, Note: note}
			if _, err := c.Promote(cmd.Context(), m.Ref(), in); err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s@%s\t%s\n", m.Metadata.Name, alias, v.Spec.Digest)
			return nil
		},
	}
	c.Flags().StringVar(&alias, "alias", "production", "the alias to move")
	c.Flags().StringVar(&note, "note", "", "why, for the history")
	return c
}

func (s *session) modelHistoryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "history MODEL", Short: "Show every move of the model's aliases", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, format, err := s.begin()
			if err != nil {
				return err
			}
			moves, err := c.History(cmd.Context(), s.ref(penstock.KindModel, args[0]))
			if err != nil {
				return err
			}
			if format == "json" || format == "yaml" {
				return s.printDocument(format, moves)
			}
			t := s.table("WHEN", "ALIAS", "FROM", "TO", "BY", "NOTE")
			for _, m := range moves {
				t.add(s.when(m.At), m.Alias, m.From.Short(), m.To.Short(), m.By, m.Note)
			}
			t.print()
			return nil
		},
	}
	s.outputFlag(c)
	return c
}
