package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, folder string, keep int64) store.Store {
		s, err := open(t.Context(), filepath.Join(folder, "state.db"), keep)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		return s
	})
}
