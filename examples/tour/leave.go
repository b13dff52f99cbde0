package main

import (
	"context"
	"fmt"
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
	t.tellRecord(record)
	kept := map[penstock.Ref]string{}
	for _, r := range record {
		for _, k := range r.Kept {
			kept[k.Ref] = k.Why
		}
	}
	version := ref(penstock.KindModelVersion, "tiny-go-"+t.version.Short())
	for _, evidence := range []penstock.Ref{
		version, ref(penstock.KindJob, "train"), ref(penstock.KindDatasetVersion, "go-"+t.dataset.Short()),
	} {
		t.check(kept[evidence] != "", "%s is kept: %s", evidence, kept[evidence])
	}
	if t.After != keep {
		if err := t.checkGone(ctx); err != nil {
			return err
		}
	}
	return t.checkAudit(ctx)
}

// tellRecord prints the record and keeps it for the report.
func (t *tour) tellRecord(record []v1.Retirement) {
	seen := map[string]bool{}
	for _, r := range record {
		for _, gone := range append(r.Deleted, r.Waiting...) {
			if !seen[gone.String()] {
				t.report.Gone = append(t.report.Gone, gone.String())
			}
			seen[gone.String()] = true
		}
		for _, k := range r.Kept {
			if !seen[k.Ref.String()] {
				t.report.Kept = append(t.report.Kept, k)
				t.output(fmt.Sprintf("%s\tkept: %s", k.Ref, k.Why), "")
			}
			seen[k.Ref.String()] = true
		}
	}
	t.tell("%d objects go, %d stay", len(t.report.Gone), len(t.report.Kept))
}

// checkGone waits until nothing is left but what is kept as evidence.
func (t *tour) checkGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var left []string
	err := t.until(ctx, "everything but evidence is gone", func() (bool, error) {
		left = nil
		kept := 0
		for _, kind := range penstock.Kinds() {
			if kind.Global() {
				continue
			}
			objects, _, err := t.api.List(ctx, kind, client.ListOptions{Project: project})
			if err != nil {
				return false, err
			}
			kept += len(objects)
			for _, o := range objects {
				if o.Metadata.Labels["retired"] == "" {
					left = append(left, o.Ref().String())
				}
			}
		}
		return len(left) == 0 && kept > 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w; left are %v", err, left)
	}
	t.check(!slices.Contains(left, "endpoint/tour/chat"), "nothing else is left of the project, and nothing runs")
	return nil
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
