package control

import (
	"fmt"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/gate"
	"github.com/penstock/penstock/internal/registry"
	"github.com/penstock/penstock/internal/spec"
	"github.com/penstock/penstock/internal/store"
)

// pinInputs resolves what a job reads to exact versions. A job that ran before
// keeps the versions it had: a resumed run reads the same data. NotFound and
// Pending mean that the version isn't there yet.
func pinInputs(tx store.Tx, job v1.Job) ([]v1.Input, error) {
	if len(job.Status.Inputs) > 0 {
		return job.Status.Inputs, nil
	}
	var inputs []v1.Input
	for _, d := range job.Spec.Data {
		version, err := findDatasetVersion(tx, job.Metadata.Project, d)
		if err != nil {
			return nil, err
		}
		if _, ok := version.Spec.Splits[d.Split]; d.Split != "" && !ok {
			return nil, &penstock.Error{Code: penstock.Invalid, Where: version.Ref().String(), Msg: fmt.Sprintf("there is no split %q", d.Split)}
		}
		inputs = append(inputs, v1.Input{Name: d.Name, Kind: version.Kind, UID: version.Metadata.UID, Digest: version.Spec.Digest})
	}
	for _, m := range job.Spec.Models {
		version, err := resolveModel(tx, job.Metadata.Project, m.Model)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, v1.Input{Name: m.Name, Kind: version.Kind, UID: version.Metadata.UID, Digest: version.Spec.Digest})
	}
	return inputs, nil
}

func findDatasetVersion(tx store.Tx, project string, d v1.DataRef) (v1.DatasetVersion, error) {
	digest := d.Version
	if digest == "" {
		set, err := store.Load[v1.DatasetSpec, v1.DatasetStatus](tx, penstock.Ref{Kind: penstock.KindDataset, Project: project, Name: d.Dataset})
		if err != nil {
			return v1.DatasetVersion{}, err
		}
		if digest = set.Status.Version; digest == "" {
			return v1.DatasetVersion{}, &penstock.Error{Code: penstock.Pending, Msg: fmt.Sprintf("dataset %s has no version yet: it is %s", d.Dataset, set.Metadata.Phase)}
		}
	}
	return store.Load[v1.DatasetVersionSpec, struct{}](tx, penstock.Ref{
		Kind: penstock.KindDatasetVersion, Project: project, Name: registry.VersionName(d.Dataset, digest),
	})
}

// resolveModel finds the version that a reference means today. A version whose
// scan isn't clean is never given out, and what an alias points to must still
// pass the alias's gate.
func resolveModel(tx store.Tx, project, reference string) (v1.ModelVersion, error) {
	ref, err := spec.ParseModelRef(reference)
	if err != nil {
		return v1.ModelVersion{}, err
	}
	model, err := store.Load[v1.ModelSpec, v1.ModelStatus](tx, penstock.Ref{Kind: penstock.KindModel, Project: project, Name: ref.Name})
	if err != nil {
		return v1.ModelVersion{}, err
	}
	version, err := findModelVersion(tx, model, ref)
	if err != nil {
		return version, err
	}
	if version.Metadata.Phase != penstock.PhaseReady {
		return version, &penstock.Error{Code: penstock.Pending, Where: version.Ref().String(), Msg: fmt.Sprintf("the version is %s", version.Metadata.Phase)}
	}
	if ref.Alias == "" {
		return version, nil
	}
	if closed := gate.Check(model.Spec.Gates[ref.Alias], version, ref.Alias, version.Spec.Lineage.Author); len(closed) > 0 {
		return version, &penstock.Error{Code: penstock.Pending, Where: version.Ref().String(), Msg: "the gate of " + ref.Alias + " is closed: " + penstock.Join(closed)}
	}
	return version, nil
}

// findModelVersion looks a version up by alias, by digest, or takes the newest
// one that is Ready.
func findModelVersion(tx store.Tx, model v1.Model, ref spec.ModelRef) (v1.ModelVersion, error) {
	versions, err := listVersions(tx, model)
	if err != nil {
		return v1.ModelVersion{}, err
	}
	digest, err := registry.Resolve(ref, model, versions)
	if err != nil {
		return v1.ModelVersion{}, err
	}
	return store.Load[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, versionRef(model, digest))
}

func versionRef(model v1.Model, digest penstock.Digest) penstock.Ref {
	return penstock.Ref{Kind: penstock.KindModelVersion, Project: model.Metadata.Project, Name: registry.VersionName(model.Metadata.Name, digest)}
}

// listVersions gives a model's versions, oldest first.
func listVersions(tx store.Tx, model v1.Model) ([]v1.ModelVersion, error) {
	return store.LoadAll[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, store.Query{Kind: penstock.KindModelVersion, Owner: model.Metadata.UID})
}
