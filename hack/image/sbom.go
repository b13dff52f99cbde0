package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sbomType is the media type of CycloneDX in JSON (IANA), for the bytes and for
// the artifact that carries them.
const sbomType types.MediaType = "application/vnd.cyclonedx+json"

// authorityModule is where the certificates of the image come from.
const authorityModule = "golang.org/x/crypto/x509roots/fallback"

// sbom lists what is in an image: its programs, the modules that each was built
// from as the linker noted them, and Go's own library. CycloneDX 1.6, JSON.
func (r recipe) sbom(s source, programs []program) ([]byte, error) {
	b := cdx.NewBOM()
	b.SpecVersion, b.JSONSchema = cdx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	image := cdx.Component{BOMRef: r.name, Type: cdx.ComponentTypeContainer, Name: r.name, Version: programs[0].version(), Licenses: apache()}
	b.Metadata = &cdx.Metadata{Timestamp: s.time.Format(time.RFC3339), Component: &image}
	found := map[string]cdx.Component{}
	var of []cdx.Dependency
	var parts []string
	for _, p := range programs {
		c, needs := p.component()
		found[c.BOMRef] = c
		parts = append(parts, c.BOMRef)
		var refs []string
		for _, n := range needs {
			found[n.BOMRef] = n
			refs = append(refs, n.BOMRef)
		}
		slices.Sort(refs)
		of = append(of, cdx.Dependency{Ref: c.BOMRef, Dependencies: &refs})
	}
	if len(r.root) > 0 {
		c, err := authorityComponent()
		if err != nil {
			return nil, err
		}
		found[c.BOMRef] = c
		parts = append(parts, c.BOMRef)
	}
	of = append(of, cdx.Dependency{Ref: image.BOMRef, Dependencies: &parts})
	components := make([]cdx.Component, 0, len(found))
	for _, c := range found {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	b.Components, b.Dependencies = &components, &of
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(b); err != nil {
		return nil, fmt.Errorf("write SBOM of %s: %w", r.name, err)
	}
	return out.Bytes(), nil
}

func apache() *cdx.Licenses { return &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}} }

// component is the program itself, and the modules in it.
func (p program) component() (cdx.Component, []cdx.Component) {
	sum := sha256.Sum256(p.content)
	url := purl(p.info.Main.Path, p.version()) + "#" + strings.TrimPrefix(strings.TrimPrefix(p.info.Path, p.info.Main.Path), "/")
	own := cdx.Component{
		BOMRef: url, PackageURL: url, Type: cdx.ComponentTypeApplication, Name: p.name, Version: p.version(), Licenses: apache(),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}
	needs := []cdx.Component{library("stdlib", strings.TrimPrefix(p.info.GoVersion, "go"), "")}
	for _, m := range p.info.Deps {
		needs = append(needs, moduleComponent(m))
	}
	return own, needs
}

func moduleComponent(m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	return library(m.Path, m.Version, m.Sum)
}

// library is a Go module; sum is its hash in go.sum, which is no plain hash of a
// file and so none of CycloneDX's own.
func library(path, version, sum string) cdx.Component {
	url := purl(path, version)
	c := cdx.Component{BOMRef: url, PackageURL: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}

// purl is the package URL of a Go module (github.com/package-url/purl-spec). In
// a version only the plus sign needs escaping.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// authorityComponent is the module of the certificates: it is linked into this
// very program.
func authorityComponent() (cdx.Component, error) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path == authorityModule {
				c := moduleComponent(m)
				c.Type = cdx.ComponentTypeData
				return c, nil
			}
		}
	}
	return cdx.Component{}, fmt.Errorf("this program doesn't say which %s it has: build it with 'go build' or 'go run'", authorityModule)
}

// referrer is an artifact with nothing but bytes, which refers to an image (OCI
// image specification 1.1, manifest.md, "Guidelines for Artifact Usage").
type referrer struct {
	manifest []byte
	content  v1.Layer
}

func refer(subject v1.Image, name string, content []byte, created time.Time) (v1.Image, error) {
	to, err := partial.Descriptor(subject)
	if err != nil {
		return nil, fmt.Errorf("describe an image: %w", err)
	}
	// The subject is named by its bytes alone: what an index adds is not its.
	to = &v1.Descriptor{MediaType: to.MediaType, Size: to.Size, Digest: to.Digest}
	layer := static.NewLayer(content, sbomType)
	bytesOf, err := partial.Descriptor(layer)
	if err != nil {
		return nil, fmt.Errorf("describe an SBOM: %w", err)
	}
	bytesOf.Annotations = map[string]string{"org.opencontainers.image.title": name}
	none, size, err := v1.SHA256(strings.NewReader("{}"))
	if err != nil {
		return nil, fmt.Errorf("describe an empty configuration: %w", err)
	}
	raw, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: string(sbomType), Subject: to,
		Config: v1.Descriptor{MediaType: types.OCIEmptyJSON, Digest: none, Size: size}, Layers: []v1.Descriptor{*bytesOf},
		Annotations: map[string]string{"org.opencontainers.image.created": created.Format(time.RFC3339)},
	})
	if err != nil {
		return nil, fmt.Errorf("write an artifact's manifest: %w", err)
	}
	return partial.CompressedToImage(referrer{manifest: raw, content: layer})
}

func (r referrer) RawConfigFile() ([]byte, error)      { return []byte("{}"), nil }
func (r referrer) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (r referrer) RawManifest() ([]byte, error)        { return r.manifest, nil }

// LayerByDigest gives the one layer that there is.
func (r referrer) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	have, err := r.content.Digest()
	if err == nil && have != h {
		return nil, fmt.Errorf("an artifact of %s has no layer %s: %w", have, h, io.EOF)
	}
	return r.content, err
}
