package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/dataset"
	"github.com/penstock/penstock/internal/gate"
	"github.com/penstock/penstock/internal/registry"
	"github.com/penstock/penstock/internal/registry/scan"
	"github.com/penstock/penstock/internal/store"
)

// harvest is what a successful attempt's outputs hold, read and checked before
// the transaction that registers it.
type harvest struct {
	versions map[string]v1.DatasetVersionSpec // by output
	metrics  map[string]map[string]float64    // by output
	problem  *penstock.Reason
}

// maxManifest bounds the small files of an output that are read whole.
const maxManifest = 16 << 20

func (c *Control) readOutputs(ctx context.Context, tx store.Tx, job v1.Job, a v1.Attempt) (*harvest, error) {
	h := &harvest{versions: map[string]v1.DatasetVersionSpec{}, metrics: map[string]map[string]float64{}}
	for _, out := range job.Spec.Outputs {
		files := collected(a, out.Name)
		var err error
		switch {
		case len(files) == 0:
			err = &penstock.Error{Code: penstock.Invalid, Msg: "nothing was written to it"}
		case out.Dataset != "":
			h.versions[out.Name], err = c.readDatasetVersion(ctx, out.Dataset, files)
		case out.Metrics != nil:
			h.metrics[out.Name], err = c.readMetrics(ctx, files, out.Metrics.File)
		}
		switch code := penstock.CodeOf(err); {
		case err == nil:
		case code == penstock.Invalid || code == penstock.NotFound || code == penstock.TooLarge:
			r := penstock.Because(penstock.PreparingFailed, penstock.Change, "output %s can't be registered: %s", out.Name, err)
			h.problem = &r
		default:
			return nil, err
		}
	}
	return h, nil
}

// collected are the files of one output. Tasks of several ranks may add to it;
// of equal paths the lowest rank's is taken.
func collected(a v1.Attempt, name string) []v1.File {
	var files []v1.File
	seen := map[string]bool{}
	for _, c := range a.Status.Outputs {
		if c.Name != name {
			continue
		}
		for _, f := range c.Files {
			if !seen[f.Path] {
				seen[f.Path] = true
				files = append(files, f)
			}
		}
	}
	return files
}

func (c *Control) readFile(ctx context.Context, files []v1.File, path string) ([]byte, error) {
	for _, f := range files {
		if f.Path != path {
			continue
		}
		if f.Size > maxManifest {
			return nil, &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("%s has %d bytes, %d are allowed", path, f.Size, maxManifest)}
		}
		r, err := c.Blobs.Open(ctx, f.Digest, 0, -1)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		return b, errors.Join(err, r.Close())
	}
	return nil, &penstock.Error{Code: penstock.NotFound, Msg: "there is no file " + path}
}

func (c *Control) readDatasetVersion(ctx context.Context, name string, files []v1.File) (v1.DatasetVersionSpec, error) {
	var spec v1.DatasetVersionSpec
	b, err := c.readFile(ctx, files, "version.json")
	if err != nil {
		return spec, err
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return spec, &penstock.Error{Code: penstock.Invalid, Msg: "version.json is not a dataset manifest", Err: err}
	}
	spec.Dataset = name
	spec.Digest = dataset.Digest(spec)
	return spec, dataset.Verify(spec, files)
}

func (c *Control) readMetrics(ctx context.Context, files []v1.File, path string) (map[string]float64, error) {
	b, err := c.readFile(ctx, files, path)
	if err != nil {
		return nil, err
	}
	var metrics map[string]float64
	if err := json.Unmarshal(b, &metrics); err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: path + " is not a JSON object of numbers", Err: err}
	}
	for name, v := range metrics {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("metric %s is not a finite number", name)}
		}
	}
	return metrics, nil
}

// register turns the outputs into versions and evaluations, and notes on the
// job what became of them. The caller saves the job.
func (h *harvest) register(tx store.Tx, job *v1.Job, a v1.Attempt) error {
	for _, out := range job.Spec.Outputs {
		var result v1.Result
		var err error
		switch {
		case out.Model != "":
			result, err = registerModel(tx, *job, a, out)
		case out.Dataset != "":
			result, err = registerDataset(tx, *job, out, h.versions[out.Name])
		case out.Metrics != nil:
			result, err = recordEvaluation(tx, *job, out, h.metrics[out.Name])
		}
		if err != nil {
			return fmt.Errorf("register output %s: %w", out.Name, err)
		}
		result.Output = out.Name
		job.Status.Results = append(job.Status.Results, result)
	}
	return nil
}

// registerModel adds an immutable version, invisible until it is scanned. The
// same bytes again are the same version.
func registerModel(tx store.Tx, job v1.Job, a v1.Attempt, out v1.Output) (v1.Result, error) {
	model, err := store.Load[v1.ModelSpec, v1.ModelStatus](tx, penstock.Ref{Kind: penstock.KindModel, Project: job.Metadata.Project, Name: out.Model})
	if err != nil {
		return v1.Result{}, err
	}
	files := collected(a, out.Name)
	digest, err := registry.VersionDigest(files)
	if err != nil {
		return v1.Result{}, err
	}
	result := v1.Result{Kind: penstock.KindModelVersion, Name: registry.VersionName(out.Model, digest), Digest: digest}
	if _, err := tx.Get(versionRef(model, digest)); penstock.CodeOf(err) != penstock.NotFound {
		return result, err
	}
	lineage, err := lineageOf(tx, job, a)
	if err != nil {
		return result, err
	}
	version := v1.ModelVersion{
		Kind:     penstock.KindModelVersion,
		Metadata: v1.Metadata{Project: job.Metadata.Project, Name: result.Name, Owner: model.Metadata.UID, Labels: job.Metadata.Labels, CreatedBy: job.Metadata.CreatedBy},
		Spec:     v1.ModelVersionSpec{Model: out.Model, Digest: digest, Files: files, Lineage: lineage},
	}
	if err := create(tx, &version, penstock.PhaseScanning); err != nil {
		return result, err
	}
	model.Status.Versions++
	if err := save(tx, &model); err != nil {
		return result, err
	}
	return result, linkLineage(tx, version.Metadata.UID, job)
}

func lineageOf(tx store.Tx, job v1.Job, a v1.Attempt) (v1.Lineage, error) {
	have, err := tx.Checkpoints(job.Metadata.UID)
	if err != nil || len(have) == 0 {
		return registry.Lineage(job, a, nil), err
	}
	return registry.Lineage(job, a, &have[0]), nil
}

func linkLineage(tx store.Tx, version penstock.UID, job v1.Job) error {
	edges := []store.Edge{{From: version, To: job.Metadata.UID, Relation: "job"}}
	for _, in := range job.Status.Inputs {
		relation := "dataset"
		if in.Kind == penstock.KindModelVersion {
			relation = "base"
		}
		edges = append(edges, store.Edge{From: version, To: in.UID, Relation: relation})
	}
	for _, e := range edges {
		if err := tx.Link(e); err != nil {
			return err
		}
	}
	return nil
}

// recordEvaluation adds a job's numbers to the version that it evaluated.
func recordEvaluation(tx store.Tx, job v1.Job, out v1.Output, metrics map[string]float64) (v1.Result, error) {
	for _, in := range job.Status.Inputs {
		if in.Name != out.Metrics.Model || in.Kind != penstock.KindModelVersion {
			continue
		}
		version, err := store.LoadUID[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, in.UID)
		if err != nil {
			return v1.Result{}, err
		}
		version.Status.Evaluations = append(version.Status.Evaluations, v1.Evaluation{Job: job.Metadata.Name, JobUID: job.Metadata.UID, Metrics: metrics, At: now()})
		if version.Status.Metrics == nil {
			version.Status.Metrics = map[string]float64{}
		}
		maps.Copy(version.Status.Metrics, metrics)
		if err := save(tx, &version); err != nil {
			return v1.Result{}, err
		}
		return v1.Result{Kind: version.Kind, Name: version.Metadata.Name, Digest: version.Spec.Digest},
			event(tx, version.Kind, version.Metadata, "Evaluated", fmt.Sprintf("by job %s: %s", job.Metadata.Name, figures(metrics)))
	}
	return v1.Result{}, &penstock.Error{Code: penstock.Invalid, Where: job.Ref().String(), Msg: fmt.Sprintf("no input model is named %q", out.Metrics.Model)}
}

func figures(metrics map[string]float64) string {
	var b bytes.Buffer
	for i, name := range sortedKeys(metrics) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%.4g", name, metrics[name])
	}
	return b.String()
}

// scanVersions looks at the files of new model versions: clean ones become
// visible, all others are refused.
func (c *Control) scanVersions(ctx context.Context) error {
	var fresh []v1.ModelVersion
	if err := c.Store.View(ctx, func(tx store.Tx) (err error) {
		fresh, err = store.LoadAll[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, store.Query{Kind: penstock.KindModelVersion, Phases: []penstock.Phase{penstock.PhaseScanning}})
		return err
	}); err != nil {
		return err
	}
	for _, v := range fresh {
		verdict := c.scanFiles(ctx, v.Spec.Files)
		verdict.At = now()
		if err := c.Store.Update(ctx, func(tx store.Tx) error { return settleScan(tx, v.Ref(), verdict) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) scanFiles(ctx context.Context, files []v1.File) v1.Scan {
	in := make([]scan.File, len(files))
	for i, f := range files {
		in[i] = scan.File{Path: f.Path, Size: f.Size, ReaderAt: &blobAt{ctx: ctx, blobs: c.Blobs, digest: f.Digest}}
	}
	return scan.Scan(in)
}

func settleScan(tx store.Tx, ref penstock.Ref, verdict v1.Scan) error {
	v, err := store.Load[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, ref)
	if err != nil || v.Metadata.Phase != penstock.PhaseScanning {
		return err
	}
	v.Status.Scan = &verdict
	to, said := penstock.PhaseReady, fmt.Sprintf("%d files are clean by ruleset %s", len(v.Spec.Files), verdict.Ruleset)
	if verdict.Verdict != "clean" {
		to, said = penstock.PhaseRefused, verdict.Verdict
		for _, f := range verdict.Findings {
			said += fmt.Sprintf("; %s: %s", f.Path, f.Detail)
		}
	}
	return move(tx, &v, to, string(to), said)
}

// blobAt reads a blob at any place, as scanners need.
type blobAt struct {
	ctx    context.Context
	blobs  blob.Store
	digest penstock.Digest
}

// ReadAt reads len(p) bytes from offset on.
func (b *blobAt) ReadAt(p []byte, offset int64) (int, error) {
	r, err := b.blobs.Open(b.ctx, b.digest, offset, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, errors.Join(err, r.Close())
}

// Approve adds one person's yes to a version for an alias.
func (c *Control) Approve(ctx context.Context, by string, version penstock.Ref, a v1.Approval) (v1.ModelVersion, error) {
	var out v1.ModelVersion
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		v, err := store.Load[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, version)
		if err != nil {
			return err
		}
		if by == v.Spec.Lineage.Author {
			return &penstock.Error{Code: penstock.Denied, Where: version.String(), Msg: by + " made this version and can't approve it", Hint: "ask another approver"}
		}
		a.By, a.At = by, now()
		v.Status.Approvals = append(v.Status.Approvals, a)
		if err := save(tx, &v); err != nil {
			return err
		}
		out = v
		return event(tx, v.Kind, v.Metadata, "Approved", fmt.Sprintf("for %s by %s", a.Alias, by))
	})
	return out, err
}

// Promote moves an alias from one version to another, if it still points to
// from and the gate is open.
func (c *Control) Promote(ctx context.Context, by string, project string, m v1.AliasMove) (v1.Model, error) {
	var out v1.Model
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		model, err := store.Load[v1.ModelSpec, v1.ModelStatus](tx, penstock.Ref{Kind: penstock.KindModel, Project: project, Name: m.Model})
		if err != nil {
			return err
		}
		version, err := store.Load[v1.ModelVersionSpec, v1.ModelVersionStatus](tx, versionRef(model, m.To))
		if err != nil {
			return err
		}
		if closed := gate.Check(model.Spec.Gates[m.Alias], version, m.Alias, version.Spec.Lineage.Author); len(closed) > 0 {
			return &penstock.Error{
				Code: penstock.Denied, Where: version.Ref().String(), Msg: "the gate of " + m.Alias + " is closed: " + penstock.Join(closed),
				Hint: "penstock model show " + m.Model + " tells what each version still needs",
			}
		}
		if model, err = registry.Move(model, m.Alias, m.From, m.To); err != nil {
			return err
		}
		if err := save(tx, &model); err != nil {
			return err
		}
		m.By, m.At, out = by, now(), model
		if err := tx.AppendAliasMove(m, project); err != nil {
			return err
		}
		return event(tx, model.Kind, model.Metadata, "Promoted", fmt.Sprintf("%s points to %s, moved by %s", m.Alias, m.To.Short(), by))
	})
	return out, err
}

// gateReasons are what the model's gates still ask of a version, over all aliases.
func gateReasons(model v1.Model, v v1.ModelVersion) []penstock.Reason {
	var reasons []penstock.Reason
	for _, alias := range sortedKeys(model.Spec.Gates) {
		reasons = append(reasons, gate.Check(model.Spec.Gates[alias], v, alias, v.Spec.Lineage.Author)...)
	}
	return reasons
}
