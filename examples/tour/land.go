package main

import (
	"context"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// land makes the project and its people; from here on they act, not the admin.
func (t *tour) land(ctx context.Context) error {
	if _, err := t.do(ctx, root, "apply", "-f", t.manifests("project.yaml")); err != nil {
		return err
	}
	for _, p := range []struct{ name, role string }{
		{"vic", "viewer"}, {"ann", "developer"}, {"bob", "approver"}, {"olga", "operator"}, {"ada", "admin"},
	} {
		token, err := t.do(ctx, root, "token", "create", p.name, "--role", p.role)
		if err != nil {
			return err
		}
		t.tokens[p.name] = strings.TrimSpace(token)
	}
	if err := t.checkRoom(ctx); err != nil {
		return err
	}
	said, err := t.refused(ctx, 4, "vic", "apply", "-f", t.manifests("dataset.yaml"))
	if err != nil {
		return err
	}
	t.check(strings.Contains(said, "viewer"), "the refusal names the role: %s", firstLine(said))
	_, err = t.api.Get(ctx, ref(penstock.KindDataset, "go"))
	t.check(penstock.CodeOf(err) == penstock.NotFound, "nothing was made by it")
	nobody := client.Client{Base: t.api.Base, Token: "pst_nobody"}
	_, err = nobody.Whoami(ctx)
	t.check(penstock.CodeOf(err) == penstock.Unauthenticated, "an unknown token opens nothing: %v", err)
	return t.checkTokens(ctx)
}

// checkRoom makes sure that the tour's work fits at all: waiting for ever would
// say less.
func (t *tour) checkRoom(ctx context.Context) error {
	pools, _, err := t.api.List(ctx, penstock.KindPool, client.ListOptions{})
	if err != nil {
		return err
	}
	var cpu, memory penstock.Amount
	for _, o := range pools {
		pool, err := v1.As[v1.PoolSpec, v1.PoolStatus](o)
		if err != nil {
			return err
		}
		cpu, memory = cpu.Add(pool.Status.Capacity[penstock.CPU]), memory.Add(pool.Status.Capacity[penstock.Memory])
	}
	t.check(cpu >= 2000 && memory >= 2<<30, "this machine's pool has %s CPUs and %d MiB of memory; the tour needs 2 and 2048",
		penstock.CPU.Format(cpu), int64(memory)>>20)
	return nil
}

func (t *tour) checkTokens(ctx context.Context) error {
	known, err := t.api.Tokens(ctx, project)
	if err != nil {
		return err
	}
	leaked := slices.ContainsFunc(known, func(i v1.TokenInfo) bool { return i.Token != "" })
	t.check(len(known) == 5 && !leaked, "%d tokens are known, and none is shown again", len(known))
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
