package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// workshop is where the tests build: clones of what is committed, so that no
// edit of the moment changes what they see.
var workshop string

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "penstock-image-test-*"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(workshop) // the system's own sweep takes what is left
	os.Exit(status)
}

// built is the images of the newest commit, made once for all tests.
var built = sync.OnceValues(func() (string, error) { return buildClone("first") })

func images(t *testing.T) string {
	t.Helper()
	out, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// buildClone clones the repository into a folder of that name, with the scripts
// that git ignores, and makes the images of it.
func buildClone(folder string) (string, error) {
	dir := filepath.Join(workshop, folder)
	if out, err := exec.Command("git", "clone", "--quiet", "--shared", "../..", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("clone: %w\n%s", err, out)
	}
	const vendor = "internal/webui/assets/vendor"
	if _, err := os.Stat(filepath.Join("../..", vendor)); err == nil {
		if err := os.CopyFS(filepath.Join(dir, vendor), os.DirFS(filepath.Join("../..", vendor))); err != nil {
			return "", err
		}
	}
	out := filepath.Join(dir, ".build", "image")
	return out, build(context.Background(), dir, out, io.Discard)
}

// load gives an image's index, and the image of each platform with its files.
func load(t *testing.T, r recipe) (v1.ImageIndex, map[string]contents) {
	t.Helper()
	whole, _, err := r.load(images(t))
	if err != nil {
		t.Fatal(err)
	}
	list, err := whole.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]contents{}
	for _, d := range list.Manifests {
		i, err := whole.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		all[d.Platform.String()] = open(t, i)
	}
	return whole, all
}

// contents is an image unpacked.
type contents struct {
	image  v1.Image
	config v1.Config
	files  map[string]tar.Header
	bytes  map[string][]byte
}

func open(t *testing.T, i v1.Image) contents {
	t.Helper()
	config, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := contents{image: i, config: config.Config, files: map[string]tar.Header{}, bytes: map[string][]byte{}}
	content := mutate.Extract(i)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		c.files[h.Name] = *h
		if c.bytes[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSameCommitInAnotherFolderGivesTheSameBytes(t *testing.T) {
	first := images(t)
	second, err := buildClone("another folder")
	if err != nil {
		t.Fatal(err)
	}
	var names int
	for _, dir := range []string{first, second} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			names++
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			a, errA := os.ReadFile(filepath.Join(first, rel))
			b, errB := os.ReadFile(filepath.Join(second, rel))
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: %d bytes and %d bytes, which differ (%v, %v)", rel, len(a), len(b), errA, errB)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if names < 20 {
		t.Errorf("only %d files were compared", names)
	}
}

func TestLayoutsAreValidForBothPlatforms(t *testing.T) {
	for _, r := range recipes() {
		whole, all := load(t, r)
		if err := validate.Index(whole); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		if all["linux/amd64"].image == nil || all["linux/arm64"].image == nil || len(all) != 2 {
			t.Errorf("%s is for %d platforms", r.name, len(all))
		}
	}
}

func TestProgramsAreStaticSmallAndKnowNothingOfThisMachine(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}
	for _, r := range recipes() {
		_, all := load(t, r)
		for platform, c := range all {
			for _, p := range r.programs {
				at := strings.TrimPrefix(r.folder+"/"+p, "/")
				content := c.bytes[at]
				t.Logf("%s %s: %s has %d bytes", r.name, platform, p, len(content))
				f, err := elf.NewFile(bytes.NewReader(content))
				if err != nil {
					t.Errorf("%s %s: %s: %v", r.name, platform, p, err)
					continue
				}
				if f.Machine != machines[platform] {
					t.Errorf("%s %s: %s is for %s", r.name, platform, p, f.Machine)
				}
				for _, s := range f.Progs {
					if s.Type == elf.PT_INTERP || s.Type == elf.PT_DYNAMIC {
						t.Errorf("%s %s: %s asks for a dynamic loader", r.name, platform, p)
					}
				}
				if mode := c.files[at].Mode; mode != 0o555 {
					t.Errorf("%s %s: %s has mode %o", r.name, platform, p, mode)
				}
				if limit := 15_000_000; p == "penstock-agent" && len(content) > limit {
					t.Errorf("%s %s: the agent has %d bytes, more than %d", r.name, platform, len(content), limit)
				}
				for _, trace := range []string{workshop, home + "/go", os.Getenv("GOCACHE"), "penstock-image-test"} {
					if trace != "" && bytes.Contains(content, []byte(trace)) {
						t.Errorf("%s %s: %s names the folder %s", r.name, platform, p, trace)
					}
				}
			}
		}
	}
}

func TestImagesRunAsANumberedUserAndSayWhatTheyAre(t *testing.T) {
	s, err := readSource(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recipes() {
		whole, all := load(t, r)
		list, err := whole.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for platform, c := range all {
			if c.config.User != "65532:65532" {
				t.Errorf("%s %s runs as %q", r.name, platform, c.config.User)
			}
			if entry := strings.TrimPrefix(c.config.Entrypoint[0], "/"); len(c.bytes[entry]) == 0 {
				t.Errorf("%s %s starts %s, which it doesn't have", r.name, platform, entry)
			}
			if diff := cmp.Diff(list.Annotations, c.config.Labels); diff != "" {
				t.Errorf("%s %s: labels aren't the index's annotations:\n%s", r.name, platform, diff)
			}
		}
		version := list.Annotations["org.opencontainers.image.version"]
		want := r.annotations(s, version)
		if diff := cmp.Diff(want, list.Annotations); diff != "" || !strings.HasPrefix(version, "v") || strings.Contains(version, "dirty") {
			t.Errorf("%s %q:\n%s", r.name, version, diff)
		}
	}
}

func TestServerFindsCertificatesUserAndFolders(t *testing.T) {
	_, all := load(t, recipes()[0])
	c := all["linux/amd64"]
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.bytes["etc/ssl/certs/ca-certificates.crt"]) {
		t.Error("there are no certificates")
	}
	if n := bytes.Count(c.bytes["etc/ssl/certs/ca-certificates.crt"], []byte("BEGIN CERTIFICATE")); n < 50 {
		t.Errorf("there are %d certificates only", n)
	}
	if !strings.Contains(string(c.bytes["etc/passwd"]), "penstock:x:65532:65532:") {
		t.Errorf("passwd is %q", c.bytes["etc/passwd"])
	}
	if tmp := c.files["tmp"]; tmp.Typeflag != tar.TypeDir || tmp.Mode != 0o1777 {
		t.Errorf("/tmp has mode %o", tmp.Mode)
	}
	if data := c.files["var/lib/penstock"]; data.Mode != 0o700 || data.Uid != user {
		t.Errorf("/var/lib/penstock has mode %o and is %d's", data.Mode, data.Uid)
	}
}

func TestAgentImageHasTheAgentAlone(t *testing.T) {
	_, all := load(t, recipes()[1])
	for platform, c := range all {
		if _, ok := c.files["penstock-agent"]; !ok || len(c.files) != 1 {
			t.Errorf("%s has %d files", platform, len(c.files))
		}
	}
}

// What is in the image installs itself with nothing else there: as an init
// container does.
func TestAgentOfTheImageInstallsItself(t *testing.T) {
	_, all := load(t, recipes()[1])
	c, ok := all["linux/"+goarch(t)]
	if !ok {
		t.Skip("NOT TESTED: no image is for this machine")
	}
	dir, to := t.TempDir(), t.TempDir()
	agent := filepath.Join(dir, "penstock-agent")
	if err := os.WriteFile(agent, c.bytes["penstock-agent"], 0o500); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), agent, "install", to)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(to, "penstock-agent"))
	if err != nil || !bytes.Equal(got, c.bytes["penstock-agent"]) {
		t.Errorf("the copy has %d bytes (%v)", len(got), err)
	}
}

func goarch(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOHOSTARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestSBOMNamesWhatTheBinariesWereBuiltFrom(t *testing.T) {
	out := images(t)
	for _, r := range recipes() {
		for _, arch := range []string{"amd64", "arm64"} {
			f, err := os.Open(filepath.Join(out, fmt.Sprintf("%s-linux-%s.cdx.json", r.name, arch)))
			if err != nil {
				t.Fatal(err)
			}
			var b cdx.BOM
			err = errors.Join(cdx.NewBOMDecoder(f, cdx.BOMFileFormatJSON).Decode(&b), f.Close())
			if err != nil || b.Components == nil {
				t.Fatalf("%s %s: %v", r.name, arch, err)
			}
			have := map[string]bool{}
			for _, c := range *b.Components {
				have[c.Name] = true
			}
			want := []string{"penstock-agent", "stdlib"}
			if r.name == "penstock" {
				want = append(want, "penstock", "modernc.org/sqlite", "github.com/jackc/pgx/v5", authorityModule)
			}
			for _, name := range want {
				if !have[name] {
					t.Errorf("%s %s: %s isn't among %d components", r.name, arch, name, len(*b.Components))
				}
			}
			for _, d := range *b.Dependencies {
				for _, ref := range *d.Dependencies {
					if !contains(*b.Components, ref) {
						t.Errorf("%s %s: %s needs %s, which isn't listed", r.name, arch, d.Ref, ref)
					}
				}
			}
		}
	}
}

func contains(all []cdx.Component, ref string) bool {
	for _, c := range all {
		if c.BOMRef == ref {
			return true
		}
	}
	return false
}

func TestTarballIsTheImageAloneUnderItsLocalName(t *testing.T) {
	for _, r := range recipes() {
		whole, _ := load(t, r)
		want, err := whole.Digest()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		unpack(t, filepath.Join(images(t), r.name+".tar"), dir)
		i, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		list, err := i.IndexManifest()
		if err != nil || len(list.Manifests) != 1 {
			t.Fatalf("%s: %d entries (%v)", r.name, len(list.Manifests), err)
		}
		d := list.Manifests[0]
		if d.Digest != want || d.Annotations["io.containerd.image.name"] != "localhost/"+r.name+":dev" {
			t.Errorf("%s: %s called %s", r.name, d.Digest, d.Annotations["io.containerd.image.name"])
		}
		if err := validate.Index(i); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

func unpack(t *testing.T, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(to, content, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Registries with and without the referrers API: the second kind keeps them
// under tags.
func TestWhatIsPushedComesBackWithItsSBOMs(t *testing.T) {
	for _, c := range []struct {
		knows string
		with  []registry.Option
	}{
		{"referrers", []registry.Option{registry.WithReferrersSupport(true)}},
		{"tags alone", nil},
	} {
		t.Run(c.knows, func(t *testing.T) {
			server := httptest.NewServer(registry.New(append(c.with, registry.Logger(log.New(io.Discard, "", 0)))...))
			t.Cleanup(server.Close)
			to := strings.TrimPrefix(server.URL, "http://") + "/team/penstock"
			for range 2 { // again, as after a push that was cut
				var said, told bytes.Buffer
				if status := dispatch(t.Context(), []string{"-out", images(t), "push", to}, &said, &told); status != 0 {
					t.Fatalf("push exits with %d: %s", status, told.String())
				}
				if strings.Count(said.String(), "@sha256:") != 2 {
					t.Errorf("push says %q", said.String())
				}
			}
			for _, r := range recipes() {
				pulled(t, r, to+r.suffix)
			}
		})
	}
}

// pulled holds what is in a registry against what was built.
func pulled(t *testing.T, r recipe, from string) {
	t.Helper()
	whole, all := load(t, r)
	version, err := versionOf(whole)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(from + ":" + tag(version))
	if err != nil {
		t.Fatal(err)
	}
	back, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(back); err != nil {
		t.Errorf("%s: %v", ref, err)
	}
	want, errWant := whole.Digest()
	got, errGot := back.Digest()
	if errWant != nil || errGot != nil || want != got {
		t.Errorf("%s: %s was pushed, %s came back (%v, %v)", ref, want, got, errWant, errGot)
	}
	for platform, c := range all {
		digest, err := c.image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		referring, err := remote.Referrers(ref.Context().Digest(digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := referring.IndexManifest()
		if err != nil || len(list.Manifests) != 1 {
			t.Fatalf("%s %s: its referrers are %v (%v)", ref, platform, list.Manifests, err)
		}
		artifact, err := remote.Image(ref.Context().Digest(list.Manifests[0].Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		// The registry under test lists every artifact by the type of its
		// configuration, whatever type the artifact says it is of.
		is, err := artifact.Manifest()
		if err != nil || is.ArtifactType != string(sbomType) {
			t.Errorf("%s %s: what refers to it is of type %q (%v), not an SBOM", ref, platform, is.ArtifactType, err)
		}
		onDisk, err := os.ReadFile(filepath.Join(images(t), r.name+"-"+strings.ReplaceAll(platform, "/", "-")+".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(onDisk), layerOf(t, artifact)); diff != "" {
			t.Errorf("%s %s: the SBOM differs:\n%s", ref, platform, diff)
		}
	}
}

func layerOf(t *testing.T, i v1.Image) string {
	t.Helper()
	layers, err := i.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers (%v)", len(layers), err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestWhatCantBePushedIsToldBeforeAnythingIsSent(t *testing.T) {
	dirty := t.TempDir()
	r := recipes()[0]
	m, err := r.image(source{revision: "0"}, platforms()[0], []program{{name: "penstock", info: bareInfo("v1.0.0+dirty")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(source{}, "v1.0.0+dirty", []made{m}, dirty, io.Discard); err != nil {
		t.Fatal(err)
	}
	for out, c := range map[string]struct{ to, says string }{
		images(t):   {"penstock", "REGISTRY/NAME"},
		t.TempDir(): {"127.0.0.1:1/penstock", "make image"},
		dirty:       {"127.0.0.1:1/penstock", "commit them"},
	} {
		if err := push(t.Context(), out, c.to, io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("push to %s says %v, without %q", c.to, err, c.says)
		}
	}
}

func bareInfo(version string) *buildinfo.BuildInfo {
	return &buildinfo.BuildInfo{GoVersion: "go1.26.0", Path: "m/cmd/penstock", Main: debug.Module{Path: "m", Version: version}}
}

func TestWrongArgumentsExitWith2AndAMissingRepositoryWith1(t *testing.T) {
	for _, args := range [][]string{nil, {"push"}, {"build", "more"}, {"-nope"}} {
		var told strings.Builder
		if status := dispatch(t.Context(), args, io.Discard, &told); status != 2 || !strings.Contains(told.String(), "usage") {
			t.Errorf("%v exits with %d and says %q", args, status, told.String())
		}
	}
	var told strings.Builder
	if status := dispatch(t.Context(), []string{"-source", t.TempDir(), "build"}, io.Discard, &told); status != 1 || !strings.Contains(told.String(), "git") {
		t.Errorf("exits with %d and says %q", status, told.String())
	}
}
