package main

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// recipe is how one of the images is made.
type recipe struct {
	name        string
	suffix      string // of the repository's name in a registry
	description string
	root        []entry
	folder      string   // of the programs
	programs    []string // the first is what the image starts
	command     []string // its arguments, unless others are given
}

func recipes() []recipe {
	return []recipe{{
		name: "penstock", description: "The control plane for AI work on scarce accelerators",
		root: root(), folder: "usr/local/bin", programs: []string{"penstock", "penstock-agent"},
		command: []string{"serve", "--config", "/etc/penstock/penstock.yaml"},
	}, {
		// It has no certificates: the server tells agents whom to trust.
		name: "penstock-agent", suffix: "-agent", description: "The agent that Penstock puts next to every task: 'install DIR' copies it there",
		programs: []string{"penstock-agent"}, command: []string{"version"},
	}}
}

// annotations are what the OCI image specification (annotations.md) has names
// for.
func (r recipe) annotations(s source, version string) map[string]string {
	const key = "org.opencontainers.image."
	return map[string]string{
		key + "title": r.name, key + "description": r.description, key + "licenses": "Apache-2.0",
		key + "source": "https://github.com/penstock/penstock", key + "revision": s.revision, key + "version": version,
		key + "created": s.time.Format(time.RFC3339),
	}
}

// made is an image of one platform, with the list of what is in it.
type made struct {
	platform v1.Platform
	image    v1.Image
	sbom     []byte
}

// image makes the image of one platform from its programs.
func (r recipe) image(s source, p v1.Platform, programs []program) (made, error) {
	m := made{platform: p}
	layers, err := r.layers(s, programs)
	if err != nil {
		return m, err
	}
	labels := r.annotations(s, programs[0].version())
	created := v1.Time{Time: s.time}
	base, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		Created: created, OS: p.OS, Architecture: p.Architecture, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: fmt.Sprintf("%d:%[1]d", user), WorkingDir: "/", Env: []string{"PATH=/" + r.folder}, Labels: labels,
			Entrypoint: []string{"/" + path.Join(r.folder, r.programs[0])}, Cmd: r.command,
		},
	})
	if err != nil {
		return m, fmt.Errorf("make %s: %w", r.name, err)
	}
	var adds []mutate.Addendum
	for _, l := range layers {
		adds = append(adds, mutate.Addendum{Layer: l, History: v1.History{Created: created, CreatedBy: "hack/image"}})
	}
	if base, err = mutate.Append(base, adds...); err != nil {
		return m, fmt.Errorf("make %s: %w", r.name, err)
	}
	m.image = mutate.Annotations(base, labels).(v1.Image) // it gives back what it was given
	m.sbom, err = r.sbom(s, programs)
	return m, err
}

// layers are one of what seldom changes, where there is such, and one of
// programs.
func (r recipe) layers(s source, programs []program) ([]v1.Layer, error) {
	var all [][]entry
	if len(r.root) > 0 {
		all = append(all, r.root)
	}
	var last []entry
	for i, c := range r.folder {
		if c == '/' {
			last = append(last, folder(r.folder[:i], 0o755, 0))
		}
	}
	if r.folder != "" {
		last = append(last, folder(r.folder, 0o755, 0))
	}
	for _, p := range programs {
		last = append(last, file(path.Join(r.folder, p.name), 0o555, p.content))
	}
	var layers []v1.Layer
	for _, entries := range append(all, last) {
		l, err := layer(entries, s.time)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// index joins the images of all platforms under one name.
func index(images []made, annotations map[string]string) v1.ImageIndex {
	i := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, m := range images {
		i = mutate.AppendManifests(i, mutate.IndexAddendum{Add: m.image, Descriptor: v1.Descriptor{Platform: &m.platform}})
	}
	return mutate.Annotations(i, maps.Clone(annotations)).(v1.ImageIndex) // it gives back what it was given
}

// tag is a version as a registry takes it: it knows no plus sign.
func tag(version string) string { return strings.ReplaceAll(version, "+", "-") }
