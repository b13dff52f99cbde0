// Program image writes an image FROM scratch that holds one static program, as
// an archive that containerd imports:
//
//	image -name penstock.local/pause:1 PROGRAM | ctr images import -
//
// The same program gives the same bytes: nothing of the time or the machine
// goes in. The formats are those of https://github.com/opencontainers/image-spec.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
)

func main() {
	name := flag.String("name", "", "the image's `name`, with a tag")
	flag.Parse()
	if err := run(os.Stdout, *name, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, name string, args []string) error {
	if name == "" || len(args) != 1 {
		return errors.New("usage: image -name NAME:TAG PROGRAM")
	}
	program, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	entry := path.Base(args[0])
	var layer bytes.Buffer
	if err := archive(&layer, []file{{name: entry, mode: 0o755, content: program}}); err != nil {
		return err
	}
	return write(out, name, layer.Bytes(), "/"+entry)
}

// descriptor points to content by its digest.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)), Size: len(content)}
}

// write writes the image's layout: a layer, a configuration, a manifest that
// names both, and an index that names the manifest.
func write(out io.Writer, name string, layer []byte, entry string) error {
	layerAt := describe("application/vnd.oci.image.layer.v1.tar", layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		// 65534 is nobody: the program needs no rights.
		"config": map[string]any{"Entrypoint": []string{entry}, "User": "65534:65534"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerAt.Digest}},
	})
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	configAt := describe("application/vnd.oci.image.config.v1+json", config)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": configAt, "layers": []descriptor{layerAt},
	})
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	manifestAt := describe("application/vnd.oci.image.manifest.v1+json", manifest)
	named := manifestAt
	named.Annotations = map[string]string{"io.containerd.image.name": name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{named}})
	if err != nil {
		return fmt.Errorf("encode the index: %w", err)
	}
	files := []file{
		{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, content: index},
		blob(configAt, config), blob(manifestAt, manifest), blob(layerAt, layer),
	}
	return archive(out, files)
}

func blob(at descriptor, content []byte) file {
	return file{name: "blobs/sha256/" + at.Digest[len("sha256:"):], mode: 0o644, content: content}
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func archive(out io.Writer, files []file) error {
	w := tar.NewWriter(out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}
