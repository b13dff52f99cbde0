package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func (s *session) costCommand() *cobra.Command {
	var by []string
	var since time.Duration
	var from, to string
	c := &cobra.Command{
		Use: "cost", Short: "Show what the fleet cost, and who used it", Args: cobra.NoArgs,
		Long: `Cost shows what the pools cost in a window, who used it, and what stood idle: the lines and the
idle line sum to the total, to the billionth. LOST is what was spent on attempts that came to nothing.
Served endpoints are shown with their cost per 1,000 requests and per successful answer.`,
		Example: "  penstock cost --by job\n  penstock cost --by team,model --since 24h -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, format, err := s.begin()
			if err != nil {
				return err
			}
			window := [2]time.Time{}
			for i, text := range []string{from, to} {
				if window[i], err = parseTime(text); err != nil {
					return err
				}
			}
			if since > 0 {
				window[0] = time.Now().Add(-since)
			}
			report, err := c.Cost(cmd.Context(), window[0], window[1], by)
			if err != nil {
				return err
			}
			if format == "json" || format == "yaml" {
				return s.printDocument(format, report)
			}
			s.showCost(report)
			return nil
		},
	}
	c.Flags().StringSliceVar(&by, "by", []string{"job"}, "group by: project, job, attempt, model, dataset, environment, team, endpoint, class, outcome")
	c.Flags().DurationVar(&since, "since", 0, "the last so long (default: this month, UTC)")
	c.Flags().StringVar(&from, "from", "", "start, as 2026-11-01 or RFC 3339")
	c.Flags().StringVar(&to, "to", "", "end (default: now)")
	s.outputFlag(c)
	return c
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%q is not a time", text), Hint: "write 2026-11-01 or 2026-11-01T12:00:00Z"}
}

func (s *session) showCost(r v1.CostReport) {
	fmt.Fprintf(s.Err, "%s to %s, in %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.Currency)
	columns := make([]string, 0, len(r.By)+2)
	for _, d := range r.By {
		columns = append(columns, strings.ToUpper(d))
	}
	t := s.table(append(columns, "COST", "LOST")...)
	row := func(name string, cost, lost penstock.Money) {
		cells := make([]string, len(r.By), len(r.By)+2)
		if len(cells) > 0 {
			cells[0] = name
		}
		t.add(append(cells, cost.String(), lost.String())...)
	}
	for _, line := range r.Lines {
		var cells []string
		for _, d := range r.By {
			cells = append(cells, first(line.Keys[d], "-"))
		}
		t.add(append(cells, line.Cost.String(), line.Lost.String())...)
	}
	row("(idle)", r.Idle, 0)
	row("(total)", r.Total, 0)
	t.print()
	if len(r.Endpoints) > 0 {
		fmt.Fprintln(s.Out)
		s.showUnits(r.Endpoints)
	}
	for _, text := range append(r.Unpriced, r.Imbalances...) {
		fmt.Fprintf(s.Err, "penstock: note: %s\n", text)
	}
}

func (s *session) showUnits(units []v1.UnitCost) {
	t := s.table("ENDPOINT", "COST", "REQUESTS", "OK", "TOKENS IN", "TOKENS OUT", "PER 1000", "PER OK", "PER 1000 TOKENS")
	money := func(m *penstock.Money) string {
		if m == nil {
			return "-"
		}
		return m.String()
	}
	for _, u := range units {
		t.add(u.Endpoint, u.Cost.String(), fmt.Sprint(u.Requests), fmt.Sprint(u.Succeeded), fmt.Sprint(u.PromptTokens), fmt.Sprint(u.CompletionTokens),
			money(u.PerThousandRequests), money(u.PerSuccess), money(u.PerThousandTokens))
	}
	t.print()
}
