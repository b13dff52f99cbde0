package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func (s *session) tokenCommand() *cobra.Command {
	return parent(&cobra.Command{Use: "token", Short: "Access tokens and gateway keys"},
		s.tokenCreateCommand(), s.tokenListCommand(), s.tokenRevokeCommand(), s.whoamiCommand())
}

func (s *session) tokenCreateCommand() *cobra.Command {
	var role string
	var lifetime time.Duration
	var key, everywhere bool
	var limits v1.KeyLimits
	c := &cobra.Command{
		Use: "create SUBJECT", Short: "Make a token, or with --key a gateway key; it is shown this once", Args: cobra.ExactArgs(1),
		Long: `Create prints a new token on stdout. Penstock keeps only its hash: what isn't noted now is lost.
Roles, each with the rights of those before it: viewer, developer, approver, operator, admin.`,
		Example: "  penstock token create ada --role developer -p vision\n  penstock token create shop --key --per-minute 600 -p vision",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := v1.TokenRequest{Subject: args[0], Project: s.projectName(), Role: penstock.Role(role)}
			if everywhere {
				in.Project = ""
			}
			if lifetime > 0 {
				in.Expires = time.Now().Add(lifetime).UTC().Truncate(time.Second)
			}
			if key {
				in.Key, in.Role = &limits, ""
			}
			return s.createToken(cmd.Context(), in)
		},
	}
	f := c.Flags()
	f.StringVar(&role, "role", "developer", "what the holder may do")
	f.DurationVar(&lifetime, "lifetime", 0, "how long it is good (default: until it is revoked)")
	f.BoolVar(&everywhere, "installation", false, "for all projects")
	f.BoolVar(&key, "key", false, "make a gateway key: it opens the models and nothing else")
	f.StringSliceVar(&limits.Endpoints, "endpoint", nil, "with --key: only these endpoints")
	f.Int64Var(&limits.Tokens, "tokens", 0, "with --key: this many tokens in all (default: no limit)")
	f.Int64Var(&limits.PerMinute, "per-minute", 0, "with --key: this many requests a minute (default: no limit)")
	return c
}

func (s *session) createToken(ctx context.Context, in v1.TokenRequest) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	t, err := c.CreateToken(ctx, in)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "%s for %s; note it now, it is not shown again\n", t.ID, t.Subject)
	fmt.Fprintln(s.Out, t.Token)
	return nil
}

func (s *session) tokenListCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "ls", Short: "List tokens and keys, without their secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, format, err := s.begin()
			if err != nil {
				return err
			}
			project := s.projectName()
			if all {
				project = ""
			}
			tokens, err := c.Tokens(cmd.Context(), project)
			if err != nil {
				return err
			}
			if format == "json" || format == "yaml" {
				return s.printDocument(format, tokens)
			}
			t := s.table("ID", "USE", "SUBJECT", "PROJECT", "ROLE", "CREATED", "EXPIRES", "REVOKED", "LIMITS")
			for _, i := range tokens {
				t.add(i.ID, i.Use, i.Subject, first(i.Project, "(all)"), string(i.Role), s.when(i.Created), s.when(i.Expires), s.when(i.Revoked), limits(i.Key))
			}
			t.print()
			return nil
		},
	}
	c.Flags().BoolVarP(&all, "all-projects", "A", false, "of all projects")
	s.outputFlag(c)
	return c
}

func limits(k *v1.KeyLimits) string {
	if k == nil {
		return ""
	}
	var parts []string
	if len(k.Endpoints) > 0 {
		parts = append(parts, strings.Join(k.Endpoints, "+"))
	}
	if k.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", k.Tokens))
	}
	if k.PerMinute > 0 {
		parts = append(parts, fmt.Sprintf("%d a minute", k.PerMinute))
	}
	return strings.Join(parts, ", ")
}

func (s *session) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Short: "End tokens or keys at once", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := c.RevokeToken(cmd.Context(), id); err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "%s\trevoked\n", id)
			}
			return nil
		},
	}
}

func (s *session) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who the present token belongs to", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			w, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s\t%s\t%s\n", w.Subject, w.Role, first(w.Project, "(all)"))
			return nil
		},
	}
}

func (s *session) auditCommand() *cobra.Command {
	return parent(&cobra.Command{Use: "audit", Short: "The audit log: every call, in a chain of hashes"}, &cobra.Command{
		Use: "verify", Short: "Check that no entry was changed, added or lost", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			r, err := c.VerifyAudit(cmd.Context())
			if err != nil {
				return err
			}
			if !r.Whole {
				return &penstock.Error{Code: penstock.Corrupt, Msg: fmt.Sprintf("the audit chain breaks at entry %d: %s", r.Broken, r.Detail)}
			}
			fmt.Fprintf(s.Out, "whole\t%d entries\thead %s\n", r.Entries, r.Head)
			return nil
		},
	}, s.auditListCommand())
}

func (s *session) auditListCommand() *cobra.Command {
	var after int64
	c := &cobra.Command{
		Use: "ls", Short: "List entries, oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, format, err := s.begin()
			if err != nil {
				return err
			}
			entries, err := c.Audit(cmd.Context(), after)
			if err != nil {
				return err
			}
			if format == "json" || format == "yaml" {
				return s.printDocument(format, entries)
			}
			t := s.table("SEQ", "WHEN", "ACTOR", "ROLE", "VERB", "OUTCOME", "TARGET")
			for _, e := range entries {
				t.add(fmt.Sprint(e.Seq), s.when(e.At), e.Actor, e.Role, e.Verb, e.Outcome, e.Target)
			}
			t.print()
			return nil
		},
	}
	c.Flags().Int64Var(&after, "after", 0, "only entries after this number")
	s.outputFlag(c)
	return c
}
