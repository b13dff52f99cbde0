package fs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/blob/blobtest"
)

func TestStore(t *testing.T) {
	blobtest.Run(t, blobtest.Adapter{
		Open: func(t *testing.T, folder string) blob.Store { return mustOpen(t, folder) },
		Damage: func(t *testing.T, folder string, d penstock.Digest, b []byte) {
			t.Helper()
			name := pathOf(folder, d)
			if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		Remains: func(t *testing.T, folder string) []string {
			return slices.DeleteFunc(files(t, folder), func(name string) bool {
				return !strings.HasPrefix(filepath.Base(name), partial)
			})
		},
	})
}

func mustOpen(t *testing.T, folder string) *Store {
	t.Helper()
	s, err := Open(folder)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func digest(b []byte) penstock.Digest {
	sum := sha256.Sum256(b)
	return penstock.DigestOf(sum[:])
}

func pathOf(folder string, d penstock.Digest) string {
	return filepath.Join(folder, "blobs", "sha256", d.Hex()[:2], d.Hex()[2:])
}

// files lists all files below folder.
func files(t *testing.T, folder string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestABlobIsAReadOnlyFileNamedByItsDigest(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	folder := filepath.Join(t.TempDir(), "new", "folder")
	b := []byte("penstock")
	if err := mustOpen(t, folder).Put(t.Context(), digest(b), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	names := files(t, folder)
	if len(names) != 1 || names[0] != pathOf(folder, digest(b)) {
		t.Fatalf("files %q, want the blob alone", names)
	}
	for name, want := range map[string]fs.FileMode{names[0]: 0o400, filepath.Dir(names[0]): 0o700, folder: 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
}

func TestARefusedPutLeavesNoFile(t *testing.T) {
	folder := t.TempDir()
	s := mustOpen(t, folder)
	for _, d := range []penstock.Digest{digest([]byte("else")), "sha256:../../../x", ""} {
		if err := s.Put(t.Context(), d, strings.NewReader("some")); err == nil {
			t.Errorf("put as %q succeeded", d)
		}
	}
	if names := files(t, filepath.Dir(folder)); len(names) > 0 {
		t.Errorf("files %q, want none", names)
	}
}

func TestOpenRemovesOnlyWhatWasAbandoned(t *testing.T) {
	folder := t.TempDir()
	s := mustOpen(t, folder)
	b := []byte("kept")
	if err := s.Put(t.Context(), digest(b), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	young, old := filepath.Join(folder, prefix(7), partial+"YOUNG"), filepath.Join(folder, prefix(255), partial+"OLD")
	past := time.Now().Add(-2 * abandoned)
	for _, name := range []string{young, old} {
		if err := os.WriteFile(name, []byte("part"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chtimes(old, past, past), os.Chtimes(pathOf(folder, digest(b)), past, past)); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, folder)
	var walked int
	if err := again.Walk(t.Context(), func(penstock.Digest, int64) error { walked++; return nil }); err != nil || walked != 1 {
		t.Errorf("walked %d blobs, %v; want 1", walked, err)
	}
	left := strings.Join(files(t, folder), "\n")
	if !strings.Contains(left, young) || strings.Contains(left, old) || !strings.Contains(left, pathOf(folder, digest(b))) {
		t.Errorf("left:\n%s\nwant the young file and the blob", left)
	}
}

func TestASymbolicLinkLeadsNowhere(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	s := mustOpen(t, folder)
	d := digest([]byte("secret"))
	if err := os.Symlink(outside, pathOf(folder, d)); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Open(t.Context(), d, 0, -1); err == nil {
		t.Error("a link out of the store was followed", r.Close())
	}
}

// smallDisk is the size of the disk of the full-disk test, in bytes.
const smallDisk = 1 << 20

// TestAFullDiskIsToldAndLeavesNothing runs itself again in a mount namespace
// with a small tmpfs of its own.
func TestAFullDiskIsToldAndLeavesNothing(t *testing.T) {
	if folder := os.Getenv("PENSTOCK_SMALL_DISK"); folder != "" {
		if err := unix.Mount("none", folder, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk)); err != nil {
			t.Skipf("CANNOT RUN: no tmpfs may be mounted here: %v", err)
		}
		fillDisk(t, folder)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "PENSTOCK_SMALL_DISK="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM), bytes.Contains(out, []byte("CANNOT RUN")):
		t.Skipf("CANNOT RUN: this machine allows no private mounts: %v\n%s", err, out)
	case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, folder string) {
	s, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big, small := make([]byte, 2*smallDisk), []byte("there is room for this")
	for range 3 { // if anything stayed of it, there would be less and less room
		err := s.Put(t.Context(), digest(big), bytes.NewReader(big))
		var e *penstock.Error
		if !errors.As(err, &e) || e.Code != penstock.Unavailable || e.Hint == "" {
			t.Fatalf("got %v, want unavailable with a hint", err)
		}
		if names := files(t, folder); len(names) > 0 {
			t.Fatalf("files %q were left", names)
		}
	}
	if err := s.Put(t.Context(), digest(small), bytes.NewReader(small)); err != nil {
		t.Errorf("a small blob afterwards: %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
		if err := s.Put(b.Context(), digest(data), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := make([]byte, 64<<20)
	if err := s.Put(b.Context(), digest(data), bytes.NewReader(data)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := s.Open(b.Context(), digest(data), 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
