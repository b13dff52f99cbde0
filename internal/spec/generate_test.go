package spec

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The generators below make valid objects of every kind, with the texts that
// trip readers of YAML up.

var (
	aName   = rapid.StringMatching(`[a-z]([a-z0-9-]{0,8}[a-z0-9])?`)
	aKey    = rapid.StringMatching(`[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}`)
	aDigest = rapid.Custom(func(t *rapid.T) penstock.Digest {
		return penstock.DigestOf(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum"))
	})
	aTrap = rapid.SampledFrom([]string{
		"", " ", "null", "~", "true", "No", "y", "1", "1e3", "0x1f", "010", "1_000", ".5", ".inf", ".nan", "-", "- a", "--", "---", "...",
		"a: b", "a:b", "a :b", ":", "#", "a #b", "[", "]", "{a}", "a, b", "&a", "*a", "!a", "|", ">", "%a", "@a", "`", "'", `"`, `\`, "a\nb",
		"a\n", "\n", "\t", "\ta", " a", "a ", "\r\n", "\u0085", "\u2028", "\ufeff", "\u007f", "\x01", "é", "日本", "😀", "2026-01-02", "12:30:00",
		"-a", "--a=b", "./a", "?", "? a", "a?", "=", "<<", "30s", "4Gi", "1.5h", "$HOME", "http://a/b?c=d", "key: |\n  text\n", `a "b" 'c'`,
	})
	aText = rapid.OneOf(aTrap, rapid.String().Filter(func(s string) bool { return len(s) < 200 })).Filter(func(s string) bool {
		for _, r := range s {
			if r == 0 || r == '\ufffd' {
				return false
			}
		}
		return true
	})
	aLine = rapid.StringMatching(`[A-Za-z0-9:#{}\[\],&*!|>'"%@ =~^?.-]{1,20}`)
)

func names(low, high int) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(aName, low, high, rapid.ID)
}

func resources() *rapid.Generator[penstock.Resources] {
	return rapid.Custom(func(t *rapid.T) penstock.Resources {
		return penstock.Resources{
			penstock.CPU:    penstock.Amount(rapid.Int64Range(1, 1<<40).Draw(t, "cpu")),
			penstock.Memory: penstock.Amount(rapid.Int64Range(1, 1<<48).Draw(t, "memory")),
			"h100":          penstock.Amount(rapid.OneOf(rapid.Int64Range(1, 999), rapid.Just[int64](8000)).Draw(t, "h100")),
		}
	})
}

func duration(low time.Duration) *rapid.Generator[v1.Duration] {
	return rapid.Map(rapid.Int64Range(int64(low), int64(time.Hour)), func(n int64) v1.Duration { return v1.Duration(n) })
}

func jobSpec() *rapid.Generator[v1.JobSpec] {
	return rapid.Custom(func(t *rapid.T) v1.JobSpec {
		s := v1.JobSpec{
			Class:       rapid.SampledFrom(append(penstock.Classes(), "")).Draw(t, "class"),
			Parameters:  rapid.MapOfN(rapid.StringMatching(`[A-Z_][A-Z0-9_]{0,6}`), aText, 0, 3).Draw(t, "parameters"),
			Secrets:     names(0, 2).Draw(t, "secrets"),
			Priority:    rapid.IntRange(-1000, 1000).Draw(t, "priority"),
			Preemptible: rapid.Bool().Draw(t, "preemptible"),
			Deadline:    duration(0).Draw(t, "deadline"),
			Grace:       duration(time.Millisecond).Draw(t, "grace"),
			Retries:     v1.Retries{Max: rapid.IntRange(0, 100).Draw(t, "max"), Backoff: v1.Duration(rapid.Int64Range(0, int64(maxBackoff)).Draw(t, "backoff"))},
		}
		for _, set := range names(1, 3).Draw(t, "sets") {
			s.Tasks = append(s.Tasks, v1.TaskSet{
				Name: set, Replicas: rapid.IntRange(0, 4).Draw(t, "replicas"), Resources: resources().Draw(t, "resources"),
				Command: append([]string{"run"}, rapid.SliceOfN(aText, 0, 4).Draw(t, "arguments")...),
				Image:   rapid.SampledFrom([]string{"", "python", "registry.example:5000/team/train@sha256:0a"}).Draw(t, "image"),
				Env:     rapid.MapOfN(rapid.StringMatching(`X_[a-zA-Z0-9_]{0,6}`), aText, 0, 3).Draw(t, "env"),
				Dir:     rapid.SampledFrom([]string{"", "code", "./a b/ü", "/code", "../x"}).Draw(t, "dir"),
				Code:    &v1.Code{Digest: aDigest.Draw(t, "code"), Files: []v1.File{{Path: "a b/ü.py", Size: 7, Digest: aDigest.Draw(t, "file")}}},
			})
		}
		for _, data := range names(0, 2).Draw(t, "data") {
			s.Data = append(s.Data, v1.DataRef{Name: data, Dataset: aName.Draw(t, "dataset"), Version: aDigest.Draw(t, "version")})
			s.Feed = &v1.Feed{Data: data, Seed: rapid.Int64().Draw(t, "seed"), Window: rapid.IntRange(1, 1<<20).Draw(t, "window"), Batch: 12 * 11 * 10 * 9 * 7}
		}
		for _, model := range names(0, 2).Draw(t, "models") {
			ref := ModelRef{Name: aName.Draw(t, "model"), Digest: aDigest.Draw(t, "digest")}
			s.Models = append(s.Models, v1.ModelRef{Name: model, Model: ref.String()})
			s.Outputs = append(s.Outputs, v1.Output{Name: model, Metrics: &v1.MetricsOut{File: "out/m.json", Model: model}})
		}
		return s
	})
}

// aManifest draws the spec of one object, kind by kind.
func aManifest(t *rapid.T, kind penstock.Kind) (v1.Object, error) {
	m := v1.Metadata{Name: aName.Draw(t, "name"), Labels: rapid.MapOfN(rapid.StringMatching(`[a-z0-9]{1,9}`), aLine, 0, 3).Draw(t, "labels")}
	if !kind.Global() {
		m.Project = aName.Draw(t, "project")
	}
	switch kind {
	case penstock.KindProject:
		return v1.Project{Kind: kind, Metadata: m, Spec: projectSpec(t)}.Object()
	case penstock.KindPool:
		return v1.Pool{Kind: kind, Metadata: m, Spec: poolSpec(t)}.Object()
	case penstock.KindSecret:
		values := rapid.MapOfN(aKey, aText.Filter(func(s string) bool { return s != "" }), 1, 4).Draw(t, "values")
		return v1.Secret{Kind: kind, Metadata: m, Spec: v1.SecretSpec{Values: values}}.Object()
	case penstock.KindDataset:
		return v1.Dataset{Kind: kind, Metadata: m, Spec: datasetSpec(t)}.Object()
	case penstock.KindModel:
		low := rapid.Float64Range(-1e300, 1e300).Draw(t, "min")
		gate := v1.Gate{Approvals: 1, Metrics: []v1.Bound{{Metric: aLine.Draw(t, "metric"), Min: &low}}}
		spec := v1.ModelSpec{Description: aText.Draw(t, "description"), Gates: map[string]v1.Gate{aName.Draw(t, "alias"): gate}}
		return v1.Model{Kind: kind, Metadata: m, Spec: spec}.Object()
	case penstock.KindEndpoint:
		ref := ModelRef{Name: aName.Draw(t, "model"), Alias: aName.Draw(t, "alias")}
		spec := v1.EndpointSpec{Model: ref.String(), Resources: resources().Draw(t, "resources"), Runtime: v1.Runtime{
			Name: "command", Command: append([]string{"serve"}, rapid.SliceOfN(aText, 0, 3).Draw(t, "arguments")...),
		}}
		return v1.Endpoint{Kind: kind, Metadata: m, Spec: spec}.Object()
	case penstock.KindMonitor:
		return v1.Monitor{Kind: kind, Metadata: m, Spec: monitorSpec(t)}.Object()
	case penstock.KindPipeline:
		spec := v1.PipelineSpec{Triggers: []v1.Trigger{{Monitor: aName.Draw(t, "monitor")}, {Every: duration(time.Second).Draw(t, "every")}}}
		for _, step := range names(1, 2).Draw(t, "steps") {
			spec.Steps = append(spec.Steps, v1.Step{Name: step, Job: jobSpec().Draw(t, "job")})
		}
		return v1.Pipeline{Kind: kind, Metadata: m, Spec: spec}.Object()
	case penstock.KindJob:
		return v1.Job{Kind: kind, Metadata: m, Spec: jobSpec().Draw(t, "job")}.Object()
	}
	return v1.Object{}, fmt.Errorf("no generator for kind %s", kind)
}

func projectSpec(t *rapid.T) v1.ProjectSpec {
	s := v1.ProjectSpec{
		Owner: aLine.Draw(t, "owner"), CostCentre: aLine.Draw(t, "costCentre"), Retention: duration(0).Draw(t, "retention"),
		Quota:   v1.Quota{Nominal: resources().Draw(t, "nominal"), Borrow: resources().Draw(t, "borrow")},
		Budget:  &v1.Budget{Monthly: penstock.Money(rapid.Int64Range(1, 1<<62).Draw(t, "monthly"))},
		Expires: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "expires"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanos")).UTC(),
	}
	for _, subject := range rapid.SliceOfNDistinct(aLine, 0, 3, rapid.ID).Draw(t, "members") {
		s.Members = append(s.Members, v1.Member{Subject: subject, Role: rapid.SampledFrom(penstock.Roles()).Draw(t, "role")})
	}
	return s
}

func poolSpec(t *rapid.T) v1.PoolSpec {
	s := v1.PoolSpec{
		Executor: "local", Region: aLine.Draw(t, "region"),
		Prices: map[penstock.Resource]penstock.Money{"h100": penstock.Money(rapid.Int64Range(0, 1<<62).Draw(t, "price"))},
	}
	for _, name := range names(0, 3).Draw(t, "nodes") {
		n := v1.Node{Name: name + ".rack", Capacity: penstock.Resources{penstock.CPU: 1000, "h100": 1000 * penstock.Amount(rapid.IntRange(1, 8).Draw(t, "h100"))}}
		for _, id := range rapid.SliceOfNDistinct(rapid.StringMatching(`GPU-[0-9a-f]{1,6}`), 0, 3, rapid.ID).Draw(t, "devices") {
			n.Devices = append(n.Devices, v1.Device{ID: id, Type: "a100", Memory: rapid.Int64Range(0, 1<<40).Draw(t, "memory")})
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

func datasetSpec(t *rapid.T) v1.DatasetSpec {
	heldout := rapid.IntRange(1, 99).Draw(t, "heldout")
	return v1.DatasetSpec{
		Source: v1.Source{
			Path:    rapid.SampledFrom([]string{"/", "/data/é b", "$GOROOT/src", "$GOROOT/src/net"}).Draw(t, "path"),
			Include: rapid.SliceOf(rapid.SampledFrom([]string{"**/*.go", "*", "a b/[0-9]?.txt"})).Draw(t, "include"),
		},
		Prepare: v1.Prepare{
			Split: map[string]int{"train": 100 - heldout, "heldout": heldout}, Seed: rapid.Int64().Draw(t, "seed"),
			Format: rapid.SampledFrom([]string{"", "tokens-u16", "jsonl"}).Draw(t, "format"),
		},
		Resources: resources().Draw(t, "resources"),
	}
}

func monitorSpec(t *rapid.T) v1.MonitorSpec {
	edge := rapid.Float64Range(-1e30, 1e30).Draw(t, "edge")
	return v1.MonitorSpec{
		Endpoint: aName.Draw(t, "endpoint"), Window: rapid.IntRange(0, 1000).Draw(t, "window"),
		Signals: []v1.Signal{
			{Name: "ttft_ms", Threshold: rapid.Float64Range(1e-9, 1e9).Draw(t, "threshold")},
			{Name: "prompt_tokens", Bins: []float64{edge, edge + 1e20}, Reference: []int64{1, rapid.Int64Range(0, 1<<30).Draw(t, "n"), 0}},
		},
	}
}

// forEachKind runs a property on valid objects of each declarable kind.
func forEachKind(t *testing.T, property func(t *rapid.T, valid v1.Object)) {
	for _, kind := range penstock.Kinds() {
		if !kind.Declarable() {
			continue
		}
		t.Run(string(kind), rapid.MakeCheck(func(t *rapid.T) {
			drawn, err := aManifest(t, kind)
			if err != nil {
				t.Fatal(err)
			}
			valid, err := Check(drawn)
			if err != nil {
				t.Fatalf("the generator made an object that isn't valid: %v\n%s", err, drawn.Spec)
			}
			property(t, valid)
		}))
	}
}
