package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

func (s *session) topCommand() *cobra.Command {
	var every time.Duration
	var once bool
	c := &cobra.Command{
		Use: "top", Short: "Show the fleet, the queue and the endpoints, live", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			for {
				if s.Terminal && !once {
					fmt.Fprint(s.Out, "\x1b[H\x1b[2J")
				}
				if err := s.showTop(cmd.Context(), c); err != nil || once || !s.Terminal {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often to look")
	c.Flags().BoolVar(&once, "once", false, "look once (always so in a pipe)")
	return c
}

func (s *session) showTop(ctx context.Context, c *client.Client) error {
	pools, _, err := c.List(ctx, penstock.KindPool, client.ListOptions{})
	if err != nil {
		return err
	}
	attempts, _, err := c.List(ctx, penstock.KindAttempt, client.ListOptions{Phases: []penstock.Phase{penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping}})
	if err != nil {
		return err
	}
	held := map[string]penstock.Resources{}
	for _, o := range attempts {
		a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
		if err != nil {
			return err
		}
		for _, t := range a.Spec.Tasks {
			held[a.Spec.Pool] = held[a.Spec.Pool].Plus(t.Resources)
		}
	}
	t := s.table("POOL", "RESOURCE", "HELD", "OF", "SHARE")
	for _, o := range pools {
		p, err := v1.As[v1.PoolSpec, v1.PoolStatus](o)
		if err != nil {
			return err
		}
		for _, name := range p.Status.Capacity.Names() {
			total, used := p.Status.Capacity[name], held[p.Metadata.Name][name]
			t.add(p.Metadata.Name, string(name), name.Short(used), name.Short(total), fmt.Sprintf("%d %%", int64(used)*100/max(1, int64(total))))
		}
	}
	t.print()
	for _, k := range []penstock.Kind{penstock.KindJob, penstock.KindEndpoint} {
		o := client.ListOptions{}
		if k == penstock.KindJob {
			o.Phases = []penstock.Phase{penstock.PhasePending, penstock.PhaseQueued, penstock.PhaseStarting, penstock.PhaseRunning, penstock.PhaseStopping}
		}
		objects, _, err := c.List(ctx, k, o)
		if err != nil {
			return err
		}
		if len(objects) == 0 {
			continue
		}
		fmt.Fprintln(s.Out)
		if err := s.printTable(objects, "table"); err != nil {
			return err
		}
	}
	return nil
}
