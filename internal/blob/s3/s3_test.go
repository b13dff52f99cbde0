package s3

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/blob/blobtest"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

func TestStore(t *testing.T) {
	server := s3test.Start(t)
	server.Pass(t)
	blobtest.Run(t, blobtest.Adapter{
		Open: func(t *testing.T, folder string) blob.Store {
			o := options(server)
			o.Prefix = prefixOf(folder)
			return mustOpen(t, o)
		},
		Damage: func(t *testing.T, folder string, d penstock.Digest, b []byte) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(server.Folder, prefixOf(folder), base, d.Hex()[:2], d.Hex()[2:]), b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Remains: func(t *testing.T, folder string) []string {
			o := options(server)
			o.Prefix = prefixOf(folder)
			return unfinished(t, mustOpen(t, o))
		},
		Big: 2*MinPartSize + 1<<20,
	})
}

// unfinished lists the uploads in the store that were begun.
func unfinished(t *testing.T, s *Store) (keys []string) {
	t.Helper()
	page, err := s.uploads(t.Context(), s.root, "", "")
	if err != nil {
		t.Fatalf("list uploads: %v", err)
	}
	for _, u := range page.Uploads {
		keys = append(keys, u.Key)
	}
	return keys
}

// prefixOf stands for a folder of the suite.
func prefixOf(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return "suite/" + hex.EncodeToString(sum[:8])
}

func options(server *s3test.Server) Options {
	return Options{
		Endpoint: server.Endpoint, Bucket: server.Bucket, Region: server.Region, PartSize: MinPartSize, Timeout: 20 * time.Second,
		Credentials: Credentials{From: FromFile, File: server.CredentialsFile},
	}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
