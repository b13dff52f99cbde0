package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// data prepares the dataset, and shows that every document is accounted for and
// that the same recipe gives the same bytes.
func (t *tour) data(ctx context.Context) error {
	manifest := t.manifests("dataset.yaml")
	prepared, err := t.prepareDataset(ctx, manifest, "go")
	if err != nil {
		return err
	}
	counts, dropped := prepared.Status.Counts, int64(0)
	var why []string
	for _, cause := range slices.Sorted(maps.Keys(counts.Dropped)) {
		dropped += counts.Dropped[cause]
		why = append(why, fmt.Sprintf("%d %s", counts.Dropped[cause], strings.ReplaceAll(cause, "_", " ")))
	}
	t.check(counts.In > 0 && counts.In == counts.Out+dropped, "%d documents in = %d out + %d dropped (%s)", counts.In, counts.Out, dropped, strings.Join(why, ", "))
	t.dataset = prepared.Status.Version
	first, err := t.readDataset(ctx, "go", t.dataset)
	if err != nil {
		return err
	}
	t.checkSplits(first)
	t.report.Data = counted{Counts: *counts, Version: t.dataset, Splits: first.Spec.Splits}

	again, err := t.do(ctx, "ann", "apply", "-f", manifest)
	if err != nil {
		return err
	}
	t.check(strings.Contains(again, "unchanged"), "applying it again changes nothing")
	return t.prepareTwin(ctx, manifest, first)
}

// prepareTwin makes a second dataset by the same recipe.
func (t *tour) prepareTwin(ctx context.Context, manifest string, first v1.DatasetVersion) error {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	twin := t.manifests("extra", "twin.yaml")
	if err := os.WriteFile(twin, []byte(strings.Replace(string(text), "\n  name: go\n", "\n  name: twin\n", 1)), 0o600); err != nil {
		return err
	}
	other, err := t.prepareDataset(ctx, twin, "twin")
	if err != nil {
		return err
	}
	second, err := t.readDataset(ctx, "twin", other.Status.Version)
	if err != nil {
		return err
	}
	same := second.Spec.Digest == first.Spec.Digest && reflect.DeepEqual(second.Spec.Splits, first.Spec.Splits)
	t.check(same, "a second dataset by the same recipe has the same version, %s, shard for shard", first.Spec.Digest.Short())
	return nil
}

func (t *tour) prepareDataset(ctx context.Context, manifest, name string) (v1.Dataset, error) {
	if _, err := t.do(ctx, "ann", "apply", "-f", manifest); err != nil {
		return v1.Dataset{}, err
	}
	if _, err := t.do(ctx, "ann", "wait", "dataset/"+name, "--timeout", "3m"); err != nil {
		return v1.Dataset{}, err
	}
	d, err := client.GetAs[v1.DatasetSpec, v1.DatasetStatus](ctx, t.api, ref(penstock.KindDataset, name))
	if err == nil && d.Status.Counts == nil {
		err = fmt.Errorf("dataset %s is %s and has no counts", name, d.Metadata.Phase)
	}
	return d, err
}

func (t *tour) readDataset(ctx context.Context, name string, version penstock.Digest) (v1.DatasetVersion, error) {
	return client.GetAs[v1.DatasetVersionSpec, struct{}](ctx, t.api, ref(penstock.KindDatasetVersion, name+"-"+version.Short()))
}

func (t *tour) checkSplits(v v1.DatasetVersion) {
	var documents int64
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v.Spec.Splits)) {
		s := v.Spec.Splits[name]
		documents += s.Documents
		parts = append(parts, fmt.Sprintf("%s %d documents, %d tokens, %d shards", name, s.Documents, s.Tokens, len(s.Shards)))
	}
	t.check(documents == v.Spec.Counts.Out, "the splits hold each of the %d documents once: %s", documents, strings.Join(parts, "; "))
}
