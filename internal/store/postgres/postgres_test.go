package postgres

import (
	"context"
	"sync"
	"testing"

	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/storetest"
)

func TestStore(t *testing.T) {
	server := pgtest.Shared(t)
	var databases sync.Map // by folder
	storetest.Run(t, func(t *testing.T, folder string, keep int64) store.Store {
		url, known := databases.Load(folder)
		if !known {
			url = server.Database(t)
			databases.Store(folder, url)
		}
		return mustOpen(t, Options{URL: url.(string), KeepRevisions: keep})
	})
}

func mustOpen(t testing.TB, o Options) store.Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}
