package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// leave deletes everything, and holds what stays to the reasons that are given
// for it. A tour that keeps its server only looks at what would go.
func (t *tour) leave(ctx context.Context) error {
	args := []string{"delete", "-f", t.manifests(), "-o", "json"}
	if t.After == keep {
		args = append(args, "--dry-run")
	}
	var record []v1.Retirement
	if err := t.quiet(ctx, root, &record, args...); err != nil {
		return err
	}
	kept, gone := sortOut(record)
	stays := t.evidence()
	if t.After != keep {
		left, err := t.settle(ctx, stays)
		if err != nil {
			return err
		}
		for _, at := range slices.Sorted(maps.Keys(kept)) {
			if !slices.Contains(left, at) { // it was kept for something that went later
				gone = append(gone, at)
				delete(kept, at)
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(kept)) {
		t.report.Kept = append(t.report.Kept, stay{at, kept[at]})
	}
	t.report.Gone = gone
	for _, at := range stays {
		t.check(kept[at] != "", "%s is kept: %s", at, kept[at])
	}
	t.check(len(gone) > 0, "%d other objects go, none of which is evidence", len(gone))
	return t.checkAudit(ctx)
}

// stay is an object that outlives its deletion, and why.
type stay struct{ Ref, Why string }

// evidence is what must stay: what was in production, and all it came from.
func (t *tour) evidence() []string {
	refs := []penstock.Ref{
		ref(penstock.KindModelVersion, "tiny-go-"+t.version.Short()), ref(penstock.KindModel, "tiny-go"), ref(penstock.KindJob, "train"),
		ref(penstock.KindDatasetVersion, "go-"+t.dataset.Short()), ref(penstock.KindDataset, "go"), ref(penstock.KindJob, "go-prepare-1"),
	}
	names := []string{penstock.Ref{Kind: penstock.KindProject, Name: project}.String()}
	for _, r := range refs {
		names = append(names, r.String())
	}
	return names
}

// sortOut takes a record apart: what is kept for now, with the reason, and what goes.
func sortOut(record []v1.Retirement) (kept map[string]string, gone []string) {
	kept = map[string]string{}
	for _, r := range record {
		for _, k := range r.Kept {
			kept[k.Ref.String()] = k.Why
		}
	}
	for _, r := range record {
		for _, g := range append(r.Deleted, r.Waiting...) {
			if kept[g.String()] == "" && !slices.Contains(gone, g.String()) {
				gone = append(gone, g.String())
			}
		}
	}
	return kept, gone
}

// settle waits until nothing is left but what must stay, and gives what is left.
func (t *tour) settle(ctx context.Context, stays []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var left []string
	err := t.until(ctx, "only evidence is left", func() (bool, error) {
		left = []string{stays[0]} // the project, in which the others are
		for _, kind := range penstock.Kinds() {
			if kind.Global() {
				continue
			}
			objects, _, err := t.api.List(ctx, kind, client.ListOptions{Project: project})
			if err != nil {
				return false, err
			}
			for _, o := range objects {
				left = append(left, o.Ref().String())
			}
		}
		return len(left) <= len(stays), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w; left are %v", err, left)
	}
	return left, nil
}

// checkAudit looks for the tour's refusals in the log, and verifies its chain.
func (t *tour) checkAudit(ctx context.Context) error {
	denied, after := 0, int64(0)
	for {
		page, err := t.api.Audit(ctx, after)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.Outcome != "ok" && e.Actor == "vic" {
				denied++
			}
		}
		after = page[len(page)-1].Seq
	}
	t.check(denied > 0, "the audit log has vic's refusal (%d entries)", denied)
	_, err := t.do(ctx, root, "audit", "verify")
	return err
}
