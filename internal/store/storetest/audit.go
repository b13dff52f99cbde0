package storetest

import (
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/store"
)

func entry(n int) store.AuditEntry {
	return store.AuditEntry{At: minute(n), Actor: "ann", Role: "admin", Verb: "create", Target: "job/vision/train", Outcome: "ok", Detail: "a <b> & ü"}
}

func auditTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"EntriesAreChainedFromSixtyFourZeros":    testChain,
		"ManyWritersMakeOneChain":                testParallelChain,
		"AChangedOrMissingEntryBreaksTheChain":   testTampering,
		"WhatTheCallerSetsOfTheChainIsOverruled": testOverruled,
		"WhatIsNoTextIsKeptLegibleAndChained":    testIllegible,
	}
}

// broken is the index of the first entry that doesn't follow from the one
// before it, or -1.
func broken(entries []store.AuditEntry) int {
	prev := strings.Repeat("0", 64)
	for i, e := range entries {
		if e.Seq != int64(i+1) || e.Prev != prev || e.Hash != e.Sum() {
			return i
		}
		prev = e.Hash
	}
	return -1
}

func appendEntries(t *testing.T, s store.Store, n int) []store.AuditEntry {
	t.Helper()
	var made []store.AuditEntry
	for i := range n {
		update(t, s, func(tx store.Tx) error {
			e := entry(i)
			e.At = e.At.Add(789) // less than a microsecond isn't kept
			e, err := tx.AppendAudit(e)
			made = append(made, e)
			return err
		})
	}
	return made
}

func auditLog(t *testing.T, s store.Store, after int64, limit int) []store.AuditEntry {
	return read(t, s, func(tx store.Tx) ([]store.AuditEntry, error) { return tx.Audit(after, limit) })
}

func testChain(t *testing.T, s store.Store) {
	made := appendEntries(t, s, 5)
	if i := broken(made); i >= 0 {
		t.Errorf("entry %d doesn't follow: %+v", i, made[i])
	}
	wantSame(t, auditLog(t, s, 0, 0), made)
	wantSame(t, auditLog(t, s, 2, 2), made[2:4])
}

func testParallelChain(t *testing.T, s store.Store) {
	parallel(20, func(n int) {
		err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.AppendAudit(entry(n)); return err })
		if err != nil {
			t.Errorf("append: %v", err)
		}
	})
	all := auditLog(t, s, 0, 0)
	if i := broken(all); len(all) != 20 || i >= 0 {
		t.Errorf("of %d entries the chain breaks at %d", len(all), i)
	}
}

func testTampering(t *testing.T, s store.Store) {
	appendEntries(t, s, 4)
	all := auditLog(t, s, 0, 0)
	for what, change := range map[string]func(*store.AuditEntry){
		"at":      func(e *store.AuditEntry) { e.At = e.At.Add(1000) },
		"actor":   func(e *store.AuditEntry) { e.Actor = "bob" },
		"role":    func(e *store.AuditEntry) { e.Role = "" },
		"verb":    func(e *store.AuditEntry) { e.Verb = "get" },
		"target":  func(e *store.AuditEntry) { e.Target += "x" },
		"outcome": func(e *store.AuditEntry) { e.Outcome = "denied" },
		"detail":  func(e *store.AuditEntry) { e.Detail = "" },
		"itself, with a hash that fits": func(e *store.AuditEntry) {
			e.Actor = "bob"
			e.Hash = e.Sum()
		},
	} {
		forged := append([]store.AuditEntry{}, all...)
		change(&forged[1])
		if broken(forged) < 0 {
			t.Errorf("changing %s isn't noticed", what)
		}
	}
	if broken(append(all[:1:1], all[2:]...)) < 0 {
		t.Error("a missing entry isn't noticed")
	}
}

func testOverruled(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error {
		e := entry(1)
		e.Seq, e.Prev, e.Hash = 99, "x", "y"
		got, err := tx.AppendAudit(e)
		if broken([]store.AuditEntry{got}) >= 0 {
			t.Errorf("got %+v", got)
		}
		return err
	})
}

// testIllegible appends what anybody may send: bytes that aren't UTF-8, and zero.
func testIllegible(t *testing.T, s store.Store) {
	const bad, want = "a\xffb\x00c", "a\uFFFDb\uFFFDc"
	update(t, s, func(tx store.Tx) error {
		e := entry(1)
		e.Target, e.Detail = bad, bad
		if _, err := tx.AppendAudit(e); err != nil {
			return err
		}
		return tx.AppendEvent(store.Event{At: minute(1), UID: uid(1), Reason: bad, Message: bad})
	})
	all := auditLog(t, s, 0, 0)
	if len(all) != 1 || all[0].Target != want || all[0].Detail != want || broken(all) >= 0 {
		t.Errorf("the entry is %+v", all)
	}
	events := read(t, s, func(tx store.Tx) ([]store.Event, error) { return tx.Events("", uid(1), 0) })
	if len(events) != 1 || events[0].Reason != want || events[0].Message != want {
		t.Errorf("the events are %+v", events)
	}
}
