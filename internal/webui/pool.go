package webui

import (
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// pools shows each pool with its machines.
func (s *site) pools(v visit) (content, error) {
	var uses []poolUse
	err := s.Store.View(v.Context(), func(tx store.Tx) (err error) {
		uses, err = poolUses(v, tx)
		return err
	})
	return content{"Pools", true, poolsPage(uses, v.who.Project, s.Currency)}, err
}

// heldBy heads the column of what is held. A project's token sees what that
// project holds, and the heading says so.
func heldBy(project string) string {
	if project == "" {
		return "held"
	}
	return "held by " + project
}

// place is where a pool is and whose.
func place(p v1.PoolSpec) string {
	parts := []string{"executor " + p.Executor}
	for _, word := range []string{p.Provider, p.Region, p.Jurisdiction, p.Market} {
		if word != "" {
			parts = append(parts, word)
		}
	}
	return strings.Join(parts, " · ")
}

// nodes are the machines as they were found, or as they were declared where
// nobody has looked yet.
func nodes(p v1.Pool) []v1.Node {
	if len(p.Status.Nodes) > 0 {
		return p.Status.Nodes
	}
	return p.Spec.Nodes
}

// unit is what a price is for.
func unit(r penstock.Resource) string {
	switch r {
	case penstock.CPU:
		return "CPU"
	case penstock.Memory:
		return "GiB"
	}
	return "device"
}

func devices(n v1.Node) string {
	var ids []string
	for _, d := range n.Devices {
		ids = append(ids, d.ID+" ("+string(d.Type)+")")
	}
	return strings.Join(ids, ", ")
}
