package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// pointTime bounds one of the short tests.
const pointTime = 2 * time.Minute

// object makes one that can be applied.
func object(t *testing.T, kind penstock.Kind, name string, spec any) v1.Object {
	t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	o := v1.Object{APIVersion: v1.Version, Kind: kind, Metadata: v1.Metadata{Name: name}, Spec: raw}
	if !kind.Global() {
		o.Metadata.Project = "default"
	}
	return o
}

// scratch is a dataset of some real text.
func scratch(t *testing.T) v1.Object {
	t.Helper()
	return object(t, penstock.KindDataset, "text", v1.DatasetSpec{
		Source:  v1.Source{Path: filepath.Join(goroot(t), "src"), Include: []string{"go/**/*.go", "net/**/*.go"}},
		Prepare: v1.Prepare{Deduplicate: "near", Split: map[string]int{"train": 90, "heldout": 10}, Tokeniser: "bytes", Format: "tokens-u16", ShardBytes: 1 << 20},
	})
}

// What a server has acknowledged is there after kill -9 in the same moment, and
// the audit chain that tells of it is whole.
func TestWhatWasAcknowledgedOutlivesTheServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), pointTime)
	defer cancel()
	p := newPlant(t)
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("p%d", i)
		o := object(t, penstock.KindProject, name, v1.ProjectSpec{Owner: "ann@example.org", CostCentre: "1", Environment: "test"})
		p.call(ctx, "apply", func(ctx context.Context, c *client.Client) error {
			_, err := c.Apply(ctx, v1.ApplyRequest{Objects: []v1.Object{o}}, name)
			if err == nil && !p.killServer() {
				t.Error("there was no server to kill")
			}
			return err
		})
		want = append(want, name)
	}
	var got []string
	p.call(ctx, "list", func(ctx context.Context, c *client.Client) error {
		all, _, err := c.List(ctx, penstock.KindProject, client.ListOptions{})
		for _, o := range all {
			if strings.HasPrefix(o.Metadata.Name, "p") {
				got = append(got, o.Metadata.Name)
			}
		}
		return err
	})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("projects (-acknowledged +there):\n%s", d)
	}
	p.call(ctx, "verify the audit chain", func(ctx context.Context, c *client.Client) error {
		report, err := c.VerifyAudit(ctx)
		if err == nil && (!report.Whole || report.Entries < 5) {
			t.Errorf("the audit chain is %+v", report)
		}
		return err
	})
	p.stop()
}

// A preparation that loses its agent, its worker, and then the server, gives the
// version that it gives undisturbed.
func TestADatasetIsPreparedWhoeverIsKilledMeanwhile(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), pointTime)
	defer cancel()
	calm, stormy := prepare(t, ctx), prepare(t, ctx, agent, worker, server)
	if calm != stormy || calm == "" {
		t.Errorf("the version is %s, and undisturbed %s", stormy, calm)
	}
}

// prepare makes a dataset's version on a new plant, of which processes of these
// roles are killed one after the other while the preparation runs.
func prepare(t *testing.T, ctx context.Context, victims ...role) penstock.Digest {
	t.Helper()
	p := newPlant(t)
	o := scratch(t)
	p.call(ctx, "apply", func(ctx context.Context, c *client.Client) error {
		_, err := c.Apply(ctx, v1.ApplyRequest{Objects: []v1.Object{o}}, "once")
		return err
	})
	for _, victim := range victims {
		p.until(ctx, "kill the preparation's "+string(victim), func(context.Context, *client.Client) (bool, error) {
			return p.killOne(victim), nil
		})
	}
	p.reach(ctx, o.Ref(), penstock.PhaseReady)
	d, err := v1.As[v1.DatasetSpec, v1.DatasetStatus](p.get(ctx, o.Ref()))
	if err != nil {
		t.Fatal(err)
	}
	p.until(ctx, "wait until the agents have left", func(context.Context, *client.Client) (bool, error) { return len(look(p.data)) == 0, nil })
	p.stop()
	return d.Status.Version
}

// killOne kills a process of a role while a worker runs, if there is one.
func (p *plant) killOne(victim role) bool {
	seen := look(p.data)
	for _, w := range seen {
		if w.role != worker {
			continue
		}
		if victim == server {
			return p.killServer()
		}
		for _, other := range seen {
			if other.role == victim {
				return other.kill()
			}
		}
	}
	return false
}
