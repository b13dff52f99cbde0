package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// gate brings the version into production: first the numbers, then a yes of
// somebody who didn't make it.
func (t *tour) gate(ctx context.Context) error {
	said, err := t.refused(ctx, 4, "ann", "model", "promote", "tiny-go")
	if err != nil {
		return err
	}
	t.check(strings.Contains(said, string(penstock.MetricMissing)) && strings.Contains(said, string(penstock.ApprovalMissing)), "both reasons are told: %s", firstLine(said))
	t.report.Gates = append(t.report.Gates, asked{"ann", "promote, before evaluation", firstLine(said)})

	if _, err := t.do(ctx, "ann", "apply", "-f", t.manifests("evaluate.yaml")); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "wait", "job/evaluate", "--timeout", "10m"); err != nil {
		return err
	}
	v, err := t.readVersion(ctx)
	if err != nil {
		return err
	}
	loss, measured := v.Status.Metrics["heldout_loss"]
	t.check(measured && loss > 0 && loss < 3.3, "the version's loss on held-out data is %.3f nats a byte; the gate lets 3.3 through", loss)
	if said, err = t.refused(ctx, 4, "ann", "model", "promote", "tiny-go"); err != nil {
		return err
	}
	t.check(!strings.Contains(said, string(penstock.MetricMissing)) && strings.Contains(said, string(penstock.ApprovalMissing)), "only the approval is missing now: %s", firstLine(said))
	t.report.Gates = append(t.report.Gates, asked{"ann", "promote, after evaluation", firstLine(said)})
	if err := t.approve(ctx); err != nil {
		return err
	}
	return t.promote(ctx)
}

func (t *tour) readVersion(ctx context.Context) (v1.ModelVersion, error) {
	return client.GetAs[v1.ModelVersionSpec, v1.ModelVersionStatus](ctx, t.api, ref(penstock.KindModelVersion, "tiny-go-"+t.version.Short()))
}

// approve shows that ann's yes to her own version doesn't count, whatever role
// she has, and takes bob's.
func (t *tour) approve(ctx context.Context) error {
	said, err := t.refused(ctx, 4, "ann", "model", "approve", "tiny-go")
	if err != nil {
		return err
	}
	t.report.Gates = append(t.report.Gates, asked{"ann (developer)", "approve", firstLine(said)})
	if err := t.approveOwn(ctx); err != nil {
		return err
	}
	if _, err := t.do(ctx, "bob", "model", "approve", "tiny-go", "--comment", "loss is fine"); err != nil {
		return err
	}
	t.report.Gates = append(t.report.Gates, asked{"bob (approver)", "approve", "yes: loss is fine"})
	return nil
}

// approveOwn gives ann the role and a token for it, and takes the role back.
func (t *tour) approveOwn(ctx context.Context) error {
	text, err := os.ReadFile(t.manifests("project.yaml"))
	if err != nil {
		return err
	}
	raised := t.manifests("extra", "project.yaml")
	if err := os.WriteFile(raised, []byte(strings.Replace(string(text), "subject: ann, role: developer", "subject: ann, role: approver", 1)), 0o600); err != nil {
		return err
	}
	if _, err := t.do(ctx, root, "apply", "-f", raised); err != nil {
		return err
	}
	token, err := t.do(ctx, root, "token", "create", "ann", "--role", "approver")
	if err != nil {
		return err
	}
	const approver = "ann as approver"
	t.tokens[approver] = strings.TrimSpace(token)
	said, err := t.refused(ctx, 4, approver, "model", "approve", "tiny-go")
	if err != nil {
		return err
	}
	t.check(strings.Contains(said, "made this version"), "as an approver she still can't: %s", firstLine(said))
	t.report.Gates = append(t.report.Gates, asked{"ann (approver)", "approve", firstLine(said)})
	_, err = t.do(ctx, root, "apply", "-f", t.manifests("project.yaml"))
	return err
}

func (t *tour) promote(ctx context.Context) error {
	if _, err := t.do(ctx, "ann", "model", "promote", "tiny-go", "--note", "first version"); err != nil {
		return err
	}
	if _, err := t.do(ctx, "ann", "model", "history", "tiny-go"); err != nil {
		return err
	}
	v, err := t.readVersion(ctx)
	if err != nil {
		return err
	}
	t.report.Version = v
	approved := slices.ContainsFunc(v.Status.Approvals, func(a v1.Approval) bool { return a.By == "bob" && a.Alias == "production" })
	t.check(approved && len(v.Status.Approvals) == 1, "the version has %d approval, by bob", len(v.Status.Approvals))
	t.report.Gates = append(t.report.Gates, asked{"ann", "promote", "production points to " + t.version.Short()})
	return t.checkProduction(ctx, 1)
}

// checkProduction holds the alias to the first version, after so many moves.
func (t *tour) checkProduction(ctx context.Context, moves int) error {
	m, err := client.GetAs[v1.ModelSpec, v1.ModelStatus](ctx, t.api, ref(penstock.KindModel, "tiny-go"))
	if err != nil {
		return err
	}
	history, err := t.api.History(ctx, m.Ref())
	if err != nil {
		return err
	}
	t.check(m.Status.Aliases["production"] == t.version && len(history) == moves, "production points to %s, after %d move", m.Status.Aliases["production"].Short(), len(history))
	return nil
}
