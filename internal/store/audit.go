package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Genesis is the Prev of the first entry, which has none before it.
const Genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// Sum is the hash that e must have: the SHA-256, in lower-case hex, of Prev
// followed by the canonical JSON (RFC 8785) of e without Hash. At is taken in
// UTC to the microsecond, since that is what a store keeps; bytes that aren't
// UTF-8 count as U+FFFD. Every adapter fills Hash with it, so that a chain can
// be checked without the database that wrote it.
func (e AuditEntry) Sum() string {
	h := sha256.New()
	h.Write([]byte(e.Prev))
	h.Write(e.canonical())
	return hex.EncodeToString(h.Sum(nil))
}

// canonical writes the members by hand, in sorted order: unlike an encoder it
// can't fail, and a hash that may be missing is no hash.
func (e AuditEntry) canonical() []byte {
	at := e.At.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	b := []byte{'{'}
	for _, m := range []struct{ name, text string }{
		{"actor", e.Actor}, {"at", at}, {"detail", e.Detail}, {"outcome", e.Outcome}, {"prev", e.Prev},
		{"role", e.Role}, {"seq", ""}, {"target", e.Target}, {"verb", e.Verb},
	} {
		if m.text == "" && (m.name == "detail" || m.name == "role") {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, m.name...)
		b = append(b, '"', ':')
		if m.name == "seq" {
			b = strconv.AppendInt(b, e.Seq, 10)
			continue
		}
		b, _ = jsontext.AppendQuote(b, m.text) // the error only says that U+FFFD was put in
	}
	return append(b, '}')
}
