package webui

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/gate"
	"github.com/penstock/penstock/internal/store"
)

// modelView is one model with its versions and where they came from and went.
type modelView struct {
	now       time.Time
	model     v1.Model
	versions  []v1.ModelVersion // the newest first
	endpoints []v1.Endpoint     // that serve the model
	gates     []gateView
	moves     []v1.AliasMove // the newest first
}

// gateView is what keeps the newest version from an alias.
type gateView struct {
	alias   string
	current penstock.Digest
	gate    v1.Gate
	version penstock.Digest // that was asked about; empty is none
	missing []penstock.Reason
}

func (s *site) model(v visit) (content, error) {
	m := modelView{now: v.now}
	err := s.Store.View(v.Context(), func(tx store.Tx) error { return m.read(v, tx) })
	return content{m.model.Metadata.Name, true, modelPage(m)}, err
}

func (m *modelView) read(v visit, tx store.Tx) (err error) {
	ref := v.ref(penstock.KindModel)
	if m.model, err = get[v1.ModelSpec, v1.ModelStatus](v, tx, ref); err != nil {
		return err
	}
	m.versions, err = list[v1.ModelVersionSpec, v1.ModelVersionStatus](v, tx, store.Query{Kind: penstock.KindModelVersion, Project: ref.Project, Owner: m.model.Metadata.UID})
	if err != nil {
		return err
	}
	slices.Reverse(m.versions)
	if m.moves, err = tx.AliasMoves(ref.Project, ref.Name); err != nil {
		return err
	}
	slices.Reverse(m.moves)
	endpoints, err := list[v1.EndpointSpec, v1.EndpointStatus](v, tx, store.Query{Kind: penstock.KindEndpoint, Project: ref.Project})
	for _, e := range endpoints {
		if slices.ContainsFunc(m.versions, func(v v1.ModelVersion) bool { return v.Spec.Digest == e.Status.Version }) {
			m.endpoints = append(m.endpoints, e)
		}
	}
	m.gates = gates(m.model, m.versions)
	return err
}

// gates asks the gate of every alias about the newest version. versions are the
// newest first.
func gates(model v1.Model, versions []v1.ModelVersion) []gateView {
	names := slices.Collect(maps.Keys(model.Spec.Gates))
	for alias := range model.Status.Aliases {
		if !slices.Contains(names, alias) {
			names = append(names, alias)
		}
	}
	slices.Sort(names)
	var out []gateView
	for _, alias := range names {
		g := gateView{alias: alias, current: model.Status.Aliases[alias], gate: model.Spec.Gates[alias]}
		if len(versions) > 0 {
			newest := versions[0]
			g.version, g.missing = newest.Spec.Digest, gate.Check(g.gate, newest, alias, newest.Spec.Lineage.Author)
		}
		out = append(out, g)
	}
	return out
}

// asks is what a gate asks for: eval_loss ≤ 2.5, 1 approval.
func asks(g v1.Gate) []string {
	out := []string{"clean scan"}
	for _, b := range g.Metrics {
		if b.Min != nil {
			out = append(out, b.Metric+" ≥ "+number(*b.Min))
		}
		if b.Max != nil {
			out = append(out, b.Metric+" ≤ "+number(*b.Max))
		}
	}
	if g.Approvals == 1 {
		out = append(out, "1 approval")
	} else if g.Approvals > 1 {
		out = append(out, count(int64(g.Approvals))+" approvals")
	}
	return out
}

// aliases are the aliases that point to the version now.
func (m modelView) aliases(d penstock.Digest) []string {
	var out []string
	for _, alias := range slices.Sorted(maps.Keys(m.model.Status.Aliases)) {
		if m.model.Status.Aliases[alias] == d {
			out = append(out, alias)
		}
	}
	return out
}

// servedBy are the endpoints that serve the version now.
func (m modelView) servedBy(d penstock.Digest) []v1.Endpoint {
	return slices.DeleteFunc(slices.Clone(m.endpoints), func(e v1.Endpoint) bool { return e.Status.Version != d })
}

// maxChains is how many lines of descent are drawn.
const maxChains = 6

// drawn are the versions whose descent is drawn: the newest, and those that an
// alias or an endpoint points to.
func (m modelView) drawn() []v1.ModelVersion {
	var out []v1.ModelVersion
	for i, v := range m.versions {
		used := len(m.aliases(v.Spec.Digest)) > 0 || len(m.servedBy(v.Spec.Digest)) > 0
		if (i == 0 || used) && len(out) < maxChains {
			out = append(out, v)
		}
	}
	return out
}

// verdict is what the scan says.
func verdict(v v1.ModelVersion) string {
	if v.Status.Scan == nil {
		return "not yet"
	}
	return v.Status.Scan.Verdict
}

// origin is which start of the job made the version, and at which step.
func origin(l v1.Lineage) string {
	text := fmt.Sprintf("attempt %d", l.Attempt)
	if l.Step >= 0 {
		text += ", step " + count(l.Step)
	}
	if l.Trigger != "" {
		text += ", started by " + l.Trigger
	}
	return text
}
