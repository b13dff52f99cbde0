package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// localName is what an image is called where it wasn't pushed yet: a name that
// no registry can ever answer to, so that a cluster never fetches a stranger's.
// deploy/kubernetes uses it.
func localName(name string) string { return "localhost/" + name + ":dev" }

// build makes all images of the source in dir and puts them in place of those in
// out. Until all are made those stay.
func build(ctx context.Context, dir, out string, stdout io.Writer) error {
	s, err := readSource(ctx, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("make the folder of images: %w", err)
	}
	next, err := os.MkdirTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return fmt.Errorf("make the folder of images: %w", err)
	}
	defer func() { _ = os.RemoveAll(next) }() // after success it has another name
	if err := os.Chmod(next, 0o755); err != nil {
		return fmt.Errorf("make the folder of images: %w", err)
	}
	for _, r := range recipes() {
		if err := r.build(ctx, s, next, stdout); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("remove the images of before: %w", err)
	}
	return os.Rename(next, out)
}

// build makes one image and writes all forms of it into the folder to.
func (r recipe) build(ctx context.Context, s source, to string, stdout io.Writer) error {
	work, err := os.MkdirTemp("", "penstock-image-*")
	if err != nil {
		return fmt.Errorf("make a folder to build in: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }() // nothing in it is wanted
	var all []made
	version := ""
	for _, p := range platforms() {
		var programs []program
		for _, name := range r.programs {
			built, err := s.compile(ctx, p, name, work)
			if err != nil {
				return err
			}
			programs = append(programs, built)
		}
		m, err := r.image(s, p, programs)
		if err != nil {
			return err
		}
		all, version = append(all, m), programs[0].version()
		for _, p := range programs {
			fmt.Fprintf(stdout, "%s %s: %s has %.1f MB\n", r.name, m.platform, p.name, float64(len(p.content))/1e6)
		}
	}
	return r.write(s, version, all, to, stdout)
}

func (r recipe) write(s source, version string, all []made, to string, stdout io.Writer) error {
	whole := index(all, r.annotations(s, version))
	path, err := layout.Write(filepath.Join(to, r.name), empty.Index)
	if err != nil {
		return fmt.Errorf("write layout of %s: %w", r.name, err)
	}
	if err := path.AppendIndex(whole, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag(version), "io.containerd.image.name": localName(r.name),
	})); err != nil {
		return fmt.Errorf("write layout of %s: %w", r.name, err)
	}
	// The tarball has no SBOMs: who imports it makes a name of each entry.
	if err := pack(string(path), filepath.Join(to, r.name+".tar"), s.time); err != nil {
		return fmt.Errorf("write tarball of %s: %w", r.name, err)
	}
	for _, m := range all {
		if err := r.attach(path, m, to, s.time); err != nil {
			return fmt.Errorf("attach SBOM of %s: %w", r.name, err)
		}
	}
	digest, err := whole.Digest()
	if err != nil {
		return fmt.Errorf("digest %s: %w", r.name, err)
	}
	fmt.Fprintf(stdout, "%s %s is %s\n", localName(r.name), version, digest)
	return nil
}

// attach writes an image's SBOM as a file, and into the layout as an artifact.
func (r recipe) attach(path layout.Path, m made, to string, at time.Time) error {
	name := fmt.Sprintf("%s-%s-%s.cdx.json", r.name, m.platform.OS, m.platform.Architecture)
	if err := os.WriteFile(filepath.Join(to, name), m.sbom, 0o644); err != nil {
		return err
	}
	artifact, err := refer(m.image, name, m.sbom, at)
	if err != nil {
		return err
	}
	return path.AppendImage(artifact)
}

// pack writes the files below dir into a tarball, in the order of their names.
func pack(dir, to string, at time.Time) (err error) {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Name: name + "/", Mode: 0o755, Typeflag: tar.TypeDir, ModTime: at, Format: tar.FormatUSTAR})
		}
		return packFile(w, path, name, at)
	}); err != nil {
		return err
	}
	return w.Close()
}

func packFile(w *tar.Writer, path, name string, at time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: info.Size(), ModTime: at, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// load reads the layout of an image that was built: its index, and the artifacts
// beside it.
func (r recipe) load(out string) (v1.ImageIndex, []v1.Image, error) {
	all, err := layout.ImageIndexFromPath(filepath.Join(out, r.name))
	if err != nil {
		return nil, nil, fmt.Errorf("read the layout of %s: make it with 'make image': %w", r.name, err)
	}
	list, err := all.IndexManifest()
	if err != nil {
		return nil, nil, fmt.Errorf("read the layout of %s: %w", r.name, err)
	}
	var whole v1.ImageIndex
	var artifacts []v1.Image
	for _, d := range list.Manifests {
		if d.MediaType.IsIndex() {
			if whole, err = all.ImageIndex(d.Digest); err != nil {
				return nil, nil, fmt.Errorf("read the index of %s: %w", r.name, err)
			}
			continue
		}
		a, err := all.Image(d.Digest)
		if err != nil {
			return nil, nil, fmt.Errorf("read an SBOM of %s: %w", r.name, err)
		}
		artifacts = append(artifacts, a)
	}
	if whole == nil {
		return nil, nil, fmt.Errorf("the layout of %s has no image in it: make it again with 'make image'", r.name)
	}
	return whole, artifacts, nil
}
