// Package storetest is the conformance suite of the store port: one subtest for
// each promise of its contract. An adapter's test calls Run.
package storetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Open opens the store that lives in a folder: the same folder again, after
// Close, is the same store. Its change log keeps the newest keep revisions and
// less than twice as many.
type Open func(t *testing.T, folder string, keep int64) store.Store

// plenty is a change log that no test but the one of trimming fills.
const plenty = 1_000_000

// Run runs the suite.
func Run(t *testing.T, open Open) {
	groups := map[string]map[string]func(*testing.T, store.Store){
		"Transactions": transactionTests(),
		"Objects":      objectTests(),
		"Edges":        edgeTests(),
		"Lists":        listTests(),
		"Changes":      changeTests(),
		"Facts":        factTests(),
		"Audit":        auditTests(),
		"Ledger":       ledgerTests(),
		"Requests":     requestTests(),
		"Credentials":  credentialTests(),
		"Leases":       leaseTests(),
	}
	for group, tests := range groups {
		t.Run(group, func(t *testing.T) {
			for promise, test := range tests {
				t.Run(promise, func(t *testing.T) {
					s := open(t, t.TempDir(), plenty)
					test(t, s)
					if err := s.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
			}
		})
	}
	t.Run("Reopening", func(t *testing.T) { testReopening(t, open) })
	t.Run("Trimming", func(t *testing.T) { testTrimming(t, open) })
}

// start is when the suite's facts happen.
var start = time.Date(2026, 3, 1, 9, 30, 0, 123_456_000, time.UTC)

func minute(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }

// uid is the UID of the nth object; a larger n sorts later.
func uid(n int) penstock.UID {
	var random [10]byte
	binary.BigEndian.PutUint64(random[2:], uint64(n))
	id, err := penstock.NewUID(start.Add(time.Duration(n)*time.Millisecond), bytes.NewReader(random[:]))
	if err != nil {
		panic(err) // there are as many bytes as it reads
	}
	return id
}

// digest is a Digest made of one hex digit.
func digest(c byte) penstock.Digest {
	return penstock.Digest("sha256:" + string(bytes.Repeat([]byte{c}, 64)))
}

// job is the nth job of a project.
func job(n int, project, name string) v1.Object {
	return v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindJob,
		Metadata: v1.Metadata{
			UID: uid(n), Project: project, Name: name, Phase: penstock.PhasePending,
			CreatedBy: "ann", CreatedAt: minute(n), UpdatedAt: minute(n),
		},
		Spec: json.RawMessage(`{"priority":1}`),
	}
}

func update(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// create stores an object and gives it as stored.
func create(t testing.TB, s store.Store, o v1.Object) (made v1.Object) {
	t.Helper()
	update(t, s, func(tx store.Tx) (err error) {
		made, err = tx.Create(o)
		return err
	})
	return made
}

// read gives what one call of a View answers.
func read[T any](t testing.TB, s store.Store, fn func(store.Tx) (T, error)) (v T) {
	t.Helper()
	view(t, s, func(tx store.Tx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v
}

func wantCode(t testing.TB, err error, want penstock.Code) {
	t.Helper()
	if got := penstock.CodeOf(err); got != want {
		t.Errorf("code is %q, want %q (error: %v)", got, want, err)
	}
}

func wantSame[T any](t testing.TB, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

// refuse runs fn in an Update that goes through, and gives fn's error: fn must
// have changed nothing.
func refuse(t testing.TB, s store.Store, fn func(store.Tx) error) (err error) {
	t.Helper()
	before := everything(t, s)
	update(t, s, func(tx store.Tx) error {
		err = fn(tx)
		return nil
	})
	wantSame(t, everything(t, s), before)
	return err
}

// Fill writes something of each sort to an empty store, always the same. A
// released schema is kept with it, for the tests of migrations.
func Fill(t testing.TB, s store.Store) {
	t.Helper()
	update(t, s, writeEverything)
}

// Same reports what of a store that was filled differs from another one.
func Same(t testing.TB, got, want store.Store) {
	t.Helper()
	wantSame(t, everything(t, got), everything(t, want))
}

// state is all that the port can tell about the projects and jobs of the suite.
type state struct {
	Objects     []v1.Object
	Changes     []store.Change
	Edges       []store.Edge
	Events      []store.Event
	Metrics     []v1.MetricPoint
	Checkpoints []v1.Checkpoint
	Moves       []v1.AliasMove
	Audit       []store.AuditEntry
	Usage       []store.Usage
	Rates       []store.Rate
	Requests    []store.Request
	Tallies     []store.Tally
	Credentials []store.Credential
	Lease       store.Lease
}

func everything(t testing.TB, s store.Store) (all state) {
	t.Helper()
	view(t, s, func(tx store.Tx) error {
		var errs [14]error
		all.Objects, errs[0] = tx.List(store.Query{})
		all.Changes, errs[1] = tx.Changes(0, 0)
		all.Edges, errs[2] = tx.Links(uid(1))
		all.Events, errs[3] = tx.Events("", "", 0)
		all.Metrics, errs[4] = tx.Metrics(uid(1), 0)
		all.Checkpoints, errs[5] = tx.Checkpoints(uid(1))
		all.Moves, errs[6] = tx.AliasMoves("vision", "resnet")
		all.Audit, errs[7] = tx.Audit(0, 0)
		all.Usage, errs[8] = tx.Usage(minute(-1e6), minute(1e6))
		all.Rates, errs[9] = tx.Rates(minute(1e6))
		all.Requests, errs[10] = tx.Requests(store.RequestQuery{})
		all.Tallies, errs[11] = tx.Tally(minute(-1e6), minute(1e6))
		all.Credentials, errs[12] = tx.ListCredentials("")
		all.Lease, errs[13] = tx.Lease("loops")
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

// writeEverything writes something of each sort: object 1, used by object 2,
// and a fact of each sort about it.
func writeEverything(tx store.Tx) error {
	for i, name := range []string{"train", "tune"} {
		if _, err := tx.Create(job(i+1, "vision", name)); err != nil {
			return err
		}
	}
	for _, write := range []func() error{
		func() error { return tx.Link(store.Edge{From: uid(2), To: uid(1), Relation: "job"}) },
		func() error { return tx.AppendEvent(event(1, "Started")) },
		func() error { return tx.AppendMetrics(uid(1), 1, []v1.MetricPoint{point(1, 1)}) },
		func() error { return tx.CommitCheckpoint(checkpoint(10, 'a')) },
		func() error { return tx.AppendAliasMove(move(1), "vision") },
		func() error { _, err := tx.AppendAudit(entry(1)); return err },
		func() error { return tx.Remember(answer("k1")) },
		func() error { return tx.AppendUsage(usage("u1", 0, 60)) },
		func() error { return tx.AppendRate(rate(0)) },
		func() error { return tx.Reserve(request("r1", 100), 0) },
		func() error { _, err := tx.Settle(settled("r1", 20, 30)); return err },
		func() error { return tx.Reserve(request("r2", 100), 0) },
		func() error { return tx.PutCredential(credential("c1")) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}
