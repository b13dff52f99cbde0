package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push sends the images in out to a registry, to, such as
// registry.example.com/team/penstock, and their SBOMs with them. Registries that
// don't know referrers get the tags that stand for them. An image of changes
// that were never committed is refused: nobody could ever say what is in it.
func push(ctx context.Context, out, to string, stdout io.Writer) error {
	for _, r := range recipes() {
		repository, err := name.NewRepository(to+r.suffix, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("%q is not REGISTRY/NAME, such as registry.example.com/team/penstock: %w", to, err)
		}
		whole, artifacts, err := r.load(out)
		if err != nil {
			return err
		}
		version, err := versionOf(whole)
		if err != nil {
			return err
		}
		if strings.HasSuffix(version, "+dirty") {
			return fmt.Errorf("%s %s was made of a tree with changes: commit them and make it again", r.name, version)
		}
		if err := pushTo(ctx, repository.Tag(tag(version)), whole, artifacts); err != nil {
			return err
		}
		digest, err := whole.Digest()
		if err != nil {
			return fmt.Errorf("digest %s: %w", r.name, err)
		}
		fmt.Fprintf(stdout, "%s@%s\n", repository.Tag(tag(version)), digest)
	}
	return nil
}

func pushTo(ctx context.Context, ref name.Tag, whole v1.ImageIndex, artifacts []v1.Image) error {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(ref, whole, options...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	for _, a := range artifacts {
		digest, err := a.Digest()
		if err != nil {
			return fmt.Errorf("digest an SBOM: %w", err)
		}
		if err := remote.Write(ref.Context().Digest(digest.String()), a, options...); err != nil {
			return fmt.Errorf("push SBOM of %s: %w", ref, err)
		}
	}
	return nil
}

func versionOf(whole v1.ImageIndex) (string, error) {
	m, err := whole.IndexManifest()
	if err != nil {
		return "", fmt.Errorf("read an index: %w", err)
	}
	version := m.Annotations["org.opencontainers.image.version"]
	if version == "" {
		return "", fmt.Errorf("the index doesn't say its version: make it again with 'make image'")
	}
	return version, nil
}
