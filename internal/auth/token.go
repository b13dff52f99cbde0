// Package auth says who calls and what they may do. A caller shows a token; its
// hash finds the credential; the credential's role, held against the caller's
// membership in the project, is looked up in one table (see Rules). There is no
// other way in, and no anonymous one.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/secret"
	"github.com/penstock/penstock/internal/store"
)

// A token is <prefix>_<id>_<secret><check>: the prefix of its use, a public id
// of 80 bits, a secret of 256 bits, and the CRC-32 of all before it, each in
// lower-case base32 (RFC 4648). Prefix and check let a scanner find a leaked
// token without asking anybody, and tell a mistyped token from an unknown one.
const (
	idBytes, idChars         = 10, 16
	secretBytes, secretChars = 32, 52
	checkChars               = 7
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func prefixOf(use store.CredentialUse) string {
	switch use {
	case store.Access:
		return "pst"
	case store.Gateway:
		return "psk"
	case store.Agent:
		return "psa"
	}
	return ""
}

// TokenString is a token that nothing prints: it shows itself as its prefix and
// the start of its public id ("pst_ab12…"). Only Reveal gives the text.
type TokenString struct{ value secret.Value }

// Reveal is the whole token, to be handed to its owner once.
func (t TokenString) Reveal() string { return t.value.Reveal() }

// String is the part that may be seen.
func (t TokenString) String() string {
	text := t.value.Reveal()
	if len(text) < 8 {
		return "…"
	}
	return text[:8] + "…"
}

// Format shows the same for every verb of fmt.
func (t TokenString) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// GoString is the part that may be seen.
func (t TokenString) GoString() string { return t.String() }

// MarshalJSON writes the part that may be seen.
func (t TokenString) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// LogValue logs the part that may be seen.
func (t TokenString) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Request is what a new token shall be good for. Its fields are those of
// store.Credential.
type Request struct {
	Use       store.CredentialUse
	Subject   string
	Project   string
	Role      penstock.Role
	Attempt   penstock.UID
	Endpoints []string
	Limit     int64
	Rate      int64
	Expires   time.Time
}

// Issue makes a token and the credential to store for it. The token itself is
// kept nowhere: what isn't shown to its owner now is lost.
func Issue(r Request, now time.Time) (TokenString, store.Credential, error) {
	if err := r.check(now); err != nil {
		return TokenString{}, store.Credential{}, err
	}
	var random [idBytes + secretBytes]byte
	if _, err := rand.Read(random[:]); err != nil {
		return TokenString{}, store.Credential{}, fmt.Errorf("read randomness for a token: %w", err)
	}
	id := encoding.EncodeToString(random[:idBytes])
	text := prefixOf(r.Use) + "_" + id + "_" + encoding.EncodeToString(random[idBytes:])
	text += check(text)
	return TokenString{secret.Hide(text)}, store.Credential{
		ID: id, Hash: Hash(text), Use: r.Use, Subject: r.Subject, Project: r.Project, Role: r.Role, Attempt: r.Attempt,
		Endpoints: slices.Clone(r.Endpoints), Limit: r.Limit, Rate: r.Rate, Created: now, Expires: r.Expires,
	}, nil
}

func (r Request) check(now time.Time) error {
	known := slices.Contains(penstock.Roles(), r.Role)
	switch {
	case prefixOf(r.Use) == "":
		return invalid("%.40q isn't a use of a token", r.Use)
	case strings.TrimSpace(r.Subject) == "":
		return invalid("a token needs a subject: who will use it")
	case r.Use == store.Access && !known:
		return invalid("%.40q isn't a role; the roles are %v", r.Role, penstock.Roles())
	case r.Use != store.Access && (r.Role != "" || r.Project == ""):
		return invalid("a token for use %s has a project and no role; it has project %q and role %q", r.Use, r.Project, r.Role)
	case (r.Use == store.Agent) != (r.Attempt != ""):
		return invalid("an agent's token, and no other, is for one attempt")
	case r.Use != store.Gateway && (len(r.Endpoints) > 0 || r.Limit != 0 || r.Rate != 0):
		return invalid("endpoints, limit and rate are for gateway keys; this token's use is %s", r.Use)
	case r.Limit < 0 || r.Rate < 0:
		return invalid("limit %d and rate %d; neither can be below 0", r.Limit, r.Rate)
	case !r.Expires.IsZero() && !r.Expires.After(now):
		return invalid("the token would expire at %s, which is past", r.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf(format, args...)}
}

// Hash is the form in which a token is kept: its SHA-256 in hex. A token is 256
// random bits, so it needs neither salt nor a slow hash.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// check is the check sum of what stands before it in a token.
func check(text string) string {
	return encoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
}

// WellFormed reports whether text has the form of a token and its check sum is
// right: then it is one, of this installation or another.
func WellFormed(text string) bool {
	const length = 4 + idChars + 1 + secretChars + checkChars
	if len(text) != length || text[3] != '_' || text[4+idChars] != '_' {
		return false
	}
	switch text[:3] {
	case "pst", "psk", "psa":
		return check(text[:length-checkChars]) == text[length-checkChars:]
	}
	return false
}
