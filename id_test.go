package penstock

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestUIDsAreUUIDv7InOrderOfTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uid := func(name string) (UID, int64) {
			ms := rapid.Int64Range(0, 1<<48-1).Draw(t, name)
			noise := rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, name+" noise")
			id, err := NewUID(time.UnixMilli(ms).Add(999_999), bytes.NewReader(noise))
			if err != nil || !uuid7.MatchString(string(id)) {
				t.Fatalf("%q, %v is no UUIDv7", id, err)
			}
			return id, ms
		}
		a, first := uid("a")
		b, second := uid("b")
		if first < second && a >= b || first > second && a <= b {
			t.Errorf("%s is of %d and %s of %d", a, first, b, second)
		}
	})
}

// TestUIDIsThatOfTheStandard takes the example of RFC 9562, appendix A.6.
func TestUIDIsThatOfTheStandard(t *testing.T) {
	at := time.Date(2022, 2, 22, 14, 22, 22, 0, time.FixedZone("", -5*3600))
	noise := []byte{0x0C, 0xC3, 0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F}
	got, err := NewUID(at, bytes.NewReader(noise))
	if want := UID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"); got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestNoUIDWithoutRandomness(t *testing.T) {
	fault := errors.New("no entropy")
	for _, r := range []io.Reader{iotest.ErrReader(fault), bytes.NewReader(make([]byte, 9))} {
		if id, err := NewUID(time.Unix(1, 0), r); err == nil || id != "" {
			t.Errorf("got %q, %v", id, err)
		}
	}
}

func TestADigestHasOneForm(t *testing.T) {
	sum := sha256.Sum256([]byte("penstock"))
	d := DigestOf(sum[:])
	got, err := ParseDigest(string(d))
	if err != nil || got != d || len(d.Hex()) != 64 || d.Short() != d.Hex()[:12] {
		t.Errorf("%s was read as %s, %v; hex %s, short %s", d, got, err, d.Hex(), d.Short())
	}
	for _, s := range []string{
		"", "sha256:", d.Hex(), strings.ToUpper(string(d)), string(d) + "0", string(d[:len(d)-1]), " " + string(d), string(d) + "\n",
		"sha512:" + d.Hex(), "sha256:../../" + d.Hex()[6:], "sha256:" + strings.Repeat("g", 64),
	} {
		if got, err := ParseDigest(s); CodeOf(err) != Invalid || got != "" {
			t.Errorf("%q was read as %q, %v", s, got, err)
		}
	}
	if got := Digest("sha256:ab").Short(); got != "ab" {
		t.Errorf("the short form of what is short is %q", got)
	}
}

func TestNamesAreDNSLabels(t *testing.T) {
	for _, name := range []string{"a", "0", "train-7", strings.Repeat("x", 63)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "ä", "a\n", strings.Repeat("x", 64)} {
		if err := CheckName(name); CodeOf(err) != Invalid {
			t.Errorf("%q is %v; want invalid", name, err)
		}
	}
}

func TestRefsReadAsPeopleSayThem(t *testing.T) {
	for want, r := range map[string]Ref{
		"job/vision/train-7":       {KindJob, "vision", "train-7"},
		"pool/gpu":                 {KindPool, "", "gpu"},
		"datasetversion/vision/v1": {KindDatasetVersion, "vision", "v1"},
	} {
		if r.String() != want {
			t.Errorf("got %s, want %s", r, want)
		}
	}
}
