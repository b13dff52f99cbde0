package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/secret"
)

var values = map[string]string{"token": "hunter2-hunter2", "empty": "", "key": "-----BEGIN\n\x00\u2028ü"}

func load(t testing.TB, dir string) *secret.Box {
	t.Helper()
	b, err := secret.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func seal(t testing.TB, b *secret.Box, values map[string]string) []byte {
	t.Helper()
	sealed, err := b.Seal(values)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func opens(t testing.TB, b *secret.Box, sealed []byte) {
	t.Helper()
	got, err := b.Open(sealed)
	if diff := cmp.Diff(values, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestWhatIsSealedOpensAgainAlsoAfterARestart(t *testing.T) {
	dir := t.TempDir()
	sealed := seal(t, load(t, dir), values)
	opens(t, load(t, dir), sealed)
}

func TestAnyValuesComeBackAsTheyWere(t *testing.T) {
	b := load(t, t.TempDir())
	rapid.Check(t, func(r *rapid.T) {
		want := rapid.MapOfN(rapid.String(), rapid.String(), 0, 5).Draw(r, "values")
		sealed, err := b.Seal(want)
		if err != nil {
			r.Fatal(err)
		}
		got, err := b.Open(sealed)
		if err != nil || !maps.Equal(want, got) {
			r.Fatalf("%v: got %v, want %v", err, got, want)
		}
	})
}

func TestSealedBytesHoldNoPlaintextAndNeverRepeat(t *testing.T) {
	b := load(t, t.TempDir())
	first, second := seal(t, b, values), seal(t, b, values)
	if bytes.Equal(first, second) {
		t.Error("the same values are sealed to the same bytes")
	}
	for name, value := range values {
		for _, part := range []string{name, value} {
			if part != "" && bytes.Contains(first, []byte(part)) {
				t.Errorf("%q is in the sealed bytes", part)
			}
		}
	}
}

func TestAnotherKeyIsToldClearly(t *testing.T) {
	sealed := seal(t, load(t, t.TempDir()), values)
	_, err := load(t, t.TempDir()).Open(sealed)
	var e *penstock.Error
	if !errors.As(err, &e) || e.Code != penstock.Corrupt || !strings.Contains(e.Msg, "another key") || e.Hint == "" {
		t.Errorf("error is %+v", err)
	}
}

func TestEveryChangedByteIsRefused(t *testing.T) {
	b := load(t, t.TempDir())
	sealed := seal(t, b, values)
	for i := range sealed {
		spoiled := slices.Clone(sealed)
		spoiled[i] ^= 1
		if got, err := b.Open(spoiled); penstock.CodeOf(err) != penstock.Corrupt || got != nil {
			t.Errorf("byte %d changed: %v, %v; want Corrupt", i, got, err)
		}
	}
	for _, n := range []int{0, 1, len(sealed) / 2, len(sealed) - 1} {
		if _, err := b.Open(sealed[:n]); penstock.CodeOf(err) != penstock.Corrupt {
			t.Errorf("cut to %d bytes: %v; want Corrupt", n, err)
		}
	}
}

func TestTooMuchIsNotSealed(t *testing.T) {
	_, err := load(t, t.TempDir()).Seal(map[string]string{"big": strings.Repeat("x", 5<<20)})
	if penstock.CodeOf(err) != penstock.TooLarge {
		t.Errorf("error is %v, want TooLarge", err)
	}
}

func TestBytesThatWouldChangeAreNotSealed(t *testing.T) {
	b := load(t, t.TempDir())
	for _, values := range []map[string]string{{"a": "\xff"}, {"\xff": "a"}} {
		if _, err := b.Seal(values); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%q: %v, want Invalid", values, err)
		}
	}
}

func TestTheKeyFileIsForItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	load(t, dir)
	file := filepath.Join(dir, secret.KeyFile)
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode is %v, %v; want 0600", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o622, 0o601} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := secret.Load(dir); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("mode %v: %v, want Invalid", mode, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v; want the key file alone", entries, err)
	}
}

func TestADamagedKeyFileIsNeitherUsedNorReplacedNorQuoted(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "rubbish": "AGE-SECRET-KEY-1RUBBISH\n", "half a key": "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6\n"} {
		dir := t.TempDir()
		file := filepath.Join(dir, secret.KeyFile)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := secret.Load(dir)
		if penstock.CodeOf(err) != penstock.Corrupt {
			t.Errorf("%s: %v, want Corrupt", name, err)
		}
		if content != "" && strings.Contains(fmt.Sprintf("%+v", err), strings.TrimSpace(content)) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != content {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, secret.KeyFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Load(dir); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("a folder in its place: %v, want Invalid", err)
	}
}

func TestTwoFirstStartsAtOnceShareOneKey(t *testing.T) {
	dir := t.TempDir()
	boxes := make([]*secret.Box, 8)
	var wg sync.WaitGroup
	for i := range boxes {
		wg.Go(func() {
			b, err := secret.Load(dir)
			if err != nil {
				t.Error(err)
				return
			}
			boxes[i] = b
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	sealed := seal(t, boxes[0], values)
	for _, b := range boxes {
		opens(t, b, sealed)
	}
}

func TestRotationSealsAnewAndStillOpensTheOld(t *testing.T) {
	dir := t.TempDir()
	b := load(t, dir)
	old := seal(t, b, values)
	before, err := os.ReadFile(filepath.Join(dir, secret.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	opens(t, b, old)
	fresh := seal(t, b, values)
	opens(t, load(t, dir), fresh)
	opens(t, load(t, dir), old)

	// Who holds the old file can't open what was sealed since.
	stolen := t.TempDir()
	if err := os.WriteFile(filepath.Join(stolen, secret.KeyFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	opens(t, load(t, stolen), old)
	if _, err := load(t, stolen).Open(fresh); penstock.CodeOf(err) != penstock.Corrupt {
		t.Errorf("the old key opens what was sealed after the rotation: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, secret.KeyFile))
	if err != nil || !bytes.HasSuffix(after, before) || bytes.Count(after, []byte("\n")) != 2 {
		t.Errorf("the file doesn't hold the new key and then the old: %v", err)
	}
}

func TestNothingPrintsAValue(t *testing.T) {
	v := secret.Hide("hunter2-hunter2")
	type exported struct{ V secret.Value }
	type unexported struct{ v secret.Value }
	var out strings.Builder
	for _, x := range []any{v, &v, exported{v}, unexported{v}, []secret.Value{v}, map[string]secret.Value{"a": v}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		if b, err := json.Marshal(x); err == nil {
			out.Write(b)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("hello", "v", x)
		slog.New(slog.NewTextHandler(&out, nil)).Info("hello", "v", x)
	}
	for _, part := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(out.String(), part) {
			t.Errorf("%q is in what was printed", part)
		}
	}
	if v.Reveal() != "hunter2-hunter2" || (secret.Value{}).Reveal() != "" {
		t.Error("Reveal doesn't give the text")
	}
}
