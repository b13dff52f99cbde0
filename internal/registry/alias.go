package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/spec"
)

// Resolve is the digest that r means now. versions are the model's, oldest
// first; without an alias or digest the newest Ready one counts. It only names:
// whether that version may be used is for the gate. NotFound says what there is.
func Resolve(r spec.ModelRef, model v1.Model, versions []v1.ModelVersion) (penstock.Digest, error) {
	want := r.Digest
	if r.Alias != "" {
		if want = model.Status.Aliases[r.Alias]; want == "" {
			return "", notFound(r, "the model has no such alias", aliasesOf(model))
		}
	}
	for _, v := range slices.Backward(versions) {
		if v.Spec.Digest == want || want == "" && v.Metadata.Phase == penstock.PhaseReady {
			return v.Spec.Digest, nil
		}
	}
	if want == "" {
		return "", notFound(r, fmt.Sprintf("none of the model's %d versions is usable", len(versions)), "penstock model show tells what each version waits for")
	}
	return "", notFound(r, fmt.Sprintf("the model has %d versions, and %s isn't one", len(versions), want.Short()), aliasesOf(model))
}

func notFound(r spec.ModelRef, msg, hint string) error {
	return &penstock.Error{Code: penstock.NotFound, Where: r.String(), Msg: msg, Hint: hint}
}

func aliasesOf(model v1.Model) string {
	names := slices.Sorted(maps.Keys(model.Status.Aliases))
	if len(names) == 0 {
		return "no alias has been set yet"
	}
	return "the aliases are " + strings.Join(names, ", ")
}

// Move gives model with alias pointing to to, if it points to from now; from is
// empty where the alias isn't set yet. If somebody else was faster, it is
// Conflict and says where the alias points. model itself isn't changed.
func Move(model v1.Model, alias string, from, to penstock.Digest) (v1.Model, error) {
	if err := penstock.CheckName(alias); err != nil {
		return model, fmt.Errorf("alias: %w", err)
	}
	if _, err := penstock.ParseDigest(string(to)); err != nil {
		return model, fmt.Errorf("move alias %s: %w", alias, err)
	}
	if now := model.Status.Aliases[alias]; now != from {
		return model, &penstock.Error{
			Code: penstock.Conflict, Where: model.Metadata.Name + "@" + alias,
			Msg:  fmt.Sprintf("the alias points to %s, not to %s", orNothing(now), orNothing(from)),
			Hint: "look at the version that it points to now, and move it from there",
		}
	}
	aliases := maps.Clone(model.Status.Aliases)
	if aliases == nil {
		aliases = make(map[string]penstock.Digest, 1)
	}
	aliases[alias] = to
	model.Status.Aliases = aliases
	return model, nil
}

func orNothing(d penstock.Digest) string {
	if d == "" {
		return "nothing"
	}
	return d.Short()
}

// At answers what alias pointed to at time t: the last move up to and with t.
// It is false before the first one. moves may be of several aliases and in any
// order; of two at the same time, the later in the list came later.
func At(moves []v1.AliasMove, alias string, t time.Time) (v1.AliasMove, bool) {
	var last v1.AliasMove
	found := false
	for _, m := range moves {
		if m.Alias == alias && !m.At.After(t) && (!found || !m.At.Before(last.At)) {
			last, found = m, true
		}
	}
	return last, found
}
