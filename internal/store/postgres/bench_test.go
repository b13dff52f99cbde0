package postgres

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/sqldb"
)

// BenchmarkEightWriters compares ways to let writers wait for each other: a lock
// before the snapshot is taken, a lock after it, and none but the repetition.
func BenchmarkEightWriters(b *testing.B) {
	server := pgtest.Private(b, "fsync=on")
	for _, way := range []struct {
		name, lock string
		pool       int
	}{
		{"queue, 1 connection", "LOCK TABLE writer IN EXCLUSIVE MODE", 1},
		{"queue, 2 connections", "LOCK TABLE writer IN EXCLUSIVE MODE", 2},
		{"queue, 8 connections", "LOCK TABLE writer IN EXCLUSIVE MODE", 8},
		{"advisory lock, 8 connections", "SELECT pg_advisory_xact_lock(1)", 8},
		{"no lock, 8 connections", "", 8},
	} {
		b.Run(way.name, func(b *testing.B) {
			c, err := newConnector(Options{URL: server.Database(b)})
			if err != nil {
				b.Fatal(err)
			}
			if err := migrate(b.Context(), c); err != nil {
				b.Fatal(err)
			}
			d := dialect(c)
			d.Lock = way.lock
			s := sqldb.New(sqldb.Config{Writer: c.pool(way.pool), Readers: c.pool(1), Dialect: d, KeepRevisions: keepRevisions, Patience: time.Minute})
			defer s.Close()
			var runs atomic.Int64
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range b.N/8 + 1 {
						err := s.Update(b.Context(), func(tx store.Tx) error {
							runs.Add(1)
							_, err := tx.AppendAudit(store.AuditEntry{At: time.Now(), Actor: "test", Verb: "count"})
							return err
						})
						if err != nil {
							b.Errorf("append: %v", err)
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(runs.Load())/float64(8*(b.N/8+1)), "runs/update")
		})
	}
}
