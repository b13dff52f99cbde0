package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/penstock/penstock/internal/store"
)

func TestSumIsPrevAndTheCanonicalJSONWithoutHash(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 123456000, time.UTC)
	for name, e := range map[string]store.AuditEntry{
		"all fields": {Seq: 7, At: at, Actor: "ann", Role: "admin", Verb: "create", Target: "job/a/b", Outcome: "ok", Detail: "1 < 2 & \u2028 ü\n", Prev: "abc"},
		"no role":    {Seq: 1, At: at, Actor: "ann", Verb: "get", Target: "pool/p", Outcome: "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			want := jsontext.Value(raw)
			if err := want.Canonicalize(); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(append([]byte(e.Prev), want...))
			if got := e.Sum(); got != hex.EncodeToString(sum[:]) {
				t.Errorf("Sum is %s, the canonical JSON %s says %x", got, want, sum)
			}
		})
	}
}

func TestSumIgnoresHashAndWhatAStoreDoesNotKeep(t *testing.T) {
	e := store.AuditEntry{Seq: 1, At: time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.UTC), Actor: "ann", Verb: "get"}
	kept := e
	kept.Hash = e.Sum()
	kept.At = e.At.Truncate(time.Microsecond).In(time.FixedZone("CET", 3600))
	if kept.Sum() != e.Sum() {
		t.Error("an entry read back has another sum than the one written")
	}
	changed := e
	changed.Actor = "bob"
	if changed.Sum() == e.Sum() {
		t.Error("another actor has the same sum")
	}
}
