// Command image makes Penstock's two OCI images with nothing but Go, and pushes
// them where it is told to:
//
//	penstock         the server, with the agent for tasks of its own machine beside it
//	penstock-agent   the agent alone, which an init container copies into a pod
//
// Both start FROM scratch, run as a numeric user that isn't root, and are one
// index for linux/amd64 and linux/arm64. The same commit gives the same digests,
// on whatever machine and in whatever folder (reproducible-builds.org,
// SOURCE_DATE_EPOCH). Under the output folder there are, for each image:
//
//	NAME/                      an OCI layout: the index, and an SBOM that refers to each of its images
//	NAME.tar                   the same without SBOMs, for 'ctr images import'
//	NAME-linux-ARCH.cdx.json   the SBOMs (CycloneDX), as files
//
// It has a Go module of its own, so that what it needs isn't what the server is
// built from.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `usage:
  go -C hack/image run . build                  make the images, in .build/image
  go -C hack/image run . push REGISTRY/NAME     push what was made, to REGISTRY/NAME and REGISTRY/NAME-agent,
                                                tagged with the version; credentials are those of 'docker login'
flags, before the command:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// dispatch runs one command and gives the program's exit status.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	dir := flags.String("source", filepath.Join("..", ".."), "the repository")
	out := flags.String("out", "", "folder of the images (default .build/image of the repository)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *out == "" {
		*out = filepath.Join(*dir, ".build", "image")
	}
	var err error
	switch rest := flags.Args(); {
	case len(rest) == 1 && rest[0] == "build":
		err = build(ctx, *dir, *out, stdout)
	case len(rest) == 2 && rest[0] == "push":
		err = push(ctx, *out, rest[1], stdout)
	default:
		flags.Usage()
		return 2
	}
	if err != nil {
		fmt.Fprintf(stderr, "image: %s\n", err)
		return 1
	}
	return 0
}
