package penstock

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// UID identifies one object for ever, also after another took its name.
// It is a UUIDv7 (RFC 9562, section 5.7), so UIDs sort by time of creation.
type UID string

// NewUID makes a UID for the time now, with its random part read from random.
// The time is cut to milliseconds.
func NewUID(now time.Time, random io.Reader) (UID, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[6:]); err != nil {
		return "", fmt.Errorf("read randomness for a uid: %w", err)
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli())<<16)
	copy(b[:6], ms[:6])
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]), nil
}

// Digest names bytes by what they are: "sha256:" and 64 lower-case hex digits.
type Digest string

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ParseDigest accepts exactly the one form of a Digest. Anything else is
// refused before it can become part of a path.
func ParseDigest(s string) (Digest, error) {
	if !digestForm.MatchString(s) {
		return "", &Error{
			Code: Invalid, Msg: fmt.Sprintf("%.80q is not a digest", s),
			Hint: "write sha256: and 64 lower-case hex digits",
		}
	}
	return Digest(s), nil
}

// DigestOf makes a Digest from the 32 bytes of a finished SHA-256.
func DigestOf(sum []byte) Digest { return Digest("sha256:" + hex.EncodeToString(sum)) }

// Hex is the 64 hex digits without the algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Short is the first 12 hex digits, for people.
func (d Digest) Short() string {
	h := d.Hex()
	return h[:min(12, len(h))]
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckName says whether name can name an object: a DNS label (RFC 1123) of 1
// to 63 characters, so that it can also be a path, a label and a host name.
func CheckName(name string) error {
	if nameForm.MatchString(name) {
		return nil
	}
	return &Error{
		Code: Invalid, Msg: fmt.Sprintf("%.80q can't be a name", name),
		Hint: "use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
	}
}

// Ref names an object as people do. Project is empty for the global kinds.
type Ref struct {
	Kind    Kind   `json:"kind"`
	Project string `json:"project,omitempty"`
	Name    string `json:"name"`
}

// String is the form used in messages: job/vision/train-7.
func (r Ref) String() string {
	kind := strings.ToLower(string(r.Kind))
	if r.Project == "" {
		return kind + "/" + r.Name
	}
	return kind + "/" + r.Project + "/" + r.Name
}
