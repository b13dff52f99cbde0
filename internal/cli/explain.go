package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func (s *session) explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain (JOB | KIND/NAME)", Short: "Say why something is where it is, and what would move it", Args: cobra.ExactArgs(1),
		Long: `Explain tells why a job waits, with the numbers: who holds what it needs, and what would start it.
A FIX line is printed only after the planner has started the job on a copy of the present state.
The last column says who can do something: wait, change (you), ask (somebody with more rights).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := s.format()
			if err != nil {
				return err
			}
			ref, err := s.parseRef(args[0], penstock.KindJob)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			x, err := c.Explain(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if format == "json" || format == "yaml" {
				return s.printDocument(format, x)
			}
			s.showExplanation(x)
			return nil
		},
	}
	s.outputFlag(c)
	return c
}

func (s *session) showExplanation(x v1.Explanation) {
	fmt.Fprintln(s.Out, strings.TrimSpace(fmt.Sprintf("%s   %s %s   %s", x.Ref, x.Phase, span(time.Since(x.Since)), x.Wants)))
	for _, r := range x.Reasons {
		fmt.Fprintf(s.Out, "WHY   %-16s %s   [%s]\n", r.Code, r.Message, r.Class)
	}
	for _, h := range x.Holders {
		until := ""
		if !h.Until.IsZero() {
			until = ", until " + h.Until.Local().Format("15:04") + " at the latest"
		}
		fmt.Fprintf(s.Out, "WHO   %s holds %s for %s%s\n", h.Job, resources(h.Holds), span(time.Since(h.Since)), until)
	}
	if x.Placed != "" {
		fmt.Fprintf(s.Out, "WHERE %s\n", x.Placed)
	}
	for _, f := range x.Fixes {
		fmt.Fprintf(s.Out, "FIX   %s\n      %s\n", f.Command, f.Effect)
	}
	for _, e := range x.Events {
		fmt.Fprintf(s.Out, "      %s  %s  %s\n", e.At.Local().Format("15:04:05"), e.Reason, strings.TrimPrefix(e.Message, e.Reason+": "))
	}
}
