package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is whom the images run as. It is a number, so that Kubernetes can see
// without /etc/passwd that it isn't root (runAsNonRoot).
const user = 65532

// entry is a file of an image, or a folder where its mode is one.
type entry struct {
	name    string // without a slash at its beginning
	mode    int64
	folder  bool
	owner   int
	content []byte
}

func folder(name string, mode int64, owner int) entry {
	return entry{name: name + "/", mode: mode, folder: true, owner: owner}
}

func file(name string, mode int64, content []byte) entry {
	return entry{name: name, mode: mode, content: content}
}

// root is what the server finds in its image besides programs.
func root() []entry {
	return []entry{
		folder("etc", 0o755, 0),
		file("etc/group", 0o444, fmt.Appendf(nil, "root:x:0:\npenstock:x:%d:\n", user)),
		file("etc/passwd", 0o444, fmt.Appendf(nil, "root:x:0:0:root:/:/nologin\npenstock:x:%d:%[1]d:penstock:/var/lib/penstock:/nologin\n", user)),
		folder("etc/ssl", 0o755, 0),
		folder("etc/ssl/certs", 0o755, 0),
		file("etc/ssl/certs/ca-certificates.crt", 0o444, authorities()),
		folder("tmp", 0o1777, 0),
		folder("var", 0o755, 0),
		folder("var/lib", 0o755, 0),
		folder("var/lib/penstock", 0o700, user),
	}
}

// authorities are the certificates that Mozilla trusts, in PEM. They come from a
// Go module rather than from the machine that builds: so go.sum pins them, every
// machine makes the same image, and one line in go.mod renews them. It is a file
// and not part of the binary, so that a site can mount its own over it. Roots
// that Mozilla trusts within limits only are left out, since a PEM file can't
// say the limits.
func authorities() []byte {
	var out bytes.Buffer
	for r := range bundle.Roots() {
		if r.Constraint == nil {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}))
		}
	}
	return out.Bytes()
}

// layer packs entries, in their order, with one time for all of them.
func layer(entries []entry, at time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, ModTime: at, Size: int64(len(e.content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if e.folder {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack a layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
