package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
	"github.com/penstock/penstock/internal/secret"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres/pgtest"
	"github.com/penstock/penstock/internal/store/storetest"
)

// cluster writes a settings file of an installation on PostgreSQL and S3.
func cluster(t *testing.T) string {
	t.Helper()
	dir, bucket := t.TempDir(), s3test.Start(t)
	text := fmt.Sprintf("data_dir: %s\nsecret_dir: %s\nstore: {url: '%s'}\nblobs: {s3: {endpoint: '%s', bucket: '%s', region: '%s', credentials_file: '%s', style: path}}\n",
		filepath.Join(dir, "data"), filepath.Join(dir, "key"), pgtest.Shared(t).Database(t), bucket.Endpoint, bucket.Bucket, bucket.Region, bucket.CredentialsFile)
	path := filepath.Join(dir, "penstock.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inhabit makes an installation with something of everything in it.
func inhabit(t *testing.T, path string) (files []penstock.Digest, sealed []byte) {
	t.Helper()
	s := opened(t, path)
	storetest.Fill(t, s.store)
	err := s.store.Update(t.Context(), func(tx store.Tx) error {
		uid, err := penstock.NewUID(time.Now(), rand.Reader)
		if err != nil {
			return err
		}
		o := v1.Object{Kind: penstock.KindPool, Metadata: v1.Metadata{Name: "rack", UID: uid, Labels: map[string]string{"team": "vision"}}}
		if _, err := tx.Create(o); err != nil {
			return err
		}
		lease, err := tx.TakeLease(store.Lease{Name: "copied"}, "nobody", time.Now().UTC().Truncate(time.Microsecond))
		if err != nil {
			return err
		}
		_, err = tx.BeatLease(lease)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "one", strings.Repeat("many", 1<<18)} {
		sum := sha256.Sum256([]byte(content))
		d := penstock.DigestOf(sum[:])
		if err := s.blobs.Put(t.Context(), d, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		files = append(files, d)
	}
	if err := os.MkdirAll(s.secretDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	box, err := secret.Load(s.secretDir())
	if err != nil {
		t.Fatal(err)
	}
	if sealed, err = box.Seal(map[string]string{"token": "hidden"}); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	return files, sealed
}

func opened(t *testing.T, path string) *server {
	t.Helper()
	s, err := place(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t *testing.T, s *server) {
	t.Helper()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// same fails the test unless both places hold the same state, files and key.
func same(t *testing.T, a, b string, files []penstock.Digest, sealed []byte) {
	t.Helper()
	x, y := opened(t, a), opened(t, b)
	defer closed(t, x)
	defer closed(t, y)
	storetest.Same(t, y.store, x.store)
	for _, d := range files {
		r, err := y.blobs.Open(t.Context(), d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil || penstock.DigestOf(sum.Sum(nil)) != d {
			t.Errorf("file %s: %v", d, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	box, err := secret.Load(y.secretDir())
	if err != nil {
		t.Fatal(err)
	}
	if values, err := box.Open(sealed); err != nil || values["token"] != "hidden" {
		t.Errorf("what was sealed before opens with %v, %v", values, err)
	}
}

func TestAnInstallationMovesToPostgreSQLAndS3Whole(t *testing.T) {
	folder, big := filepath.Join(t.TempDir(), "data"), cluster(t)
	files, sealed := inhabit(t, folder)
	done, err := copyInstallation(t.Context(), folder, big, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if done.Blobs.Count != 3 || done.Audit.Entries == 0 {
		t.Errorf("copied %+v, audit of %d entries", done.Blobs, done.Audit.Entries)
	}
	same(t, folder, big, files, sealed)
	goesOn(t, big)
}

// The whole of a disaster: a backup is taken while servers write, they go on,
// all is lost, and what comes back is what was at the backup's moment.
func TestABackupOfALivingInstallationBringsItBackToItsMoment(t *testing.T) {
	live, backup, restored := cluster(t), filepath.Join(t.TempDir(), "backup"), cluster(t)
	files, sealed := inhabit(t, live)
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				goesOn(t, live)
			}
		}
	})
	_, err := copyInstallation(t.Context(), live, backup, io.Discard)
	close(stop)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	goesOn(t, live)
	done, err := copyInstallation(t.Context(), backup, restored, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	same(t, backup, restored, files, sealed)
	if now := entries(t, live); now <= done.Audit.Entries {
		t.Errorf("the log that went on has %d entries, the restored one %d", now, done.Audit.Entries)
	}
	goesOn(t, restored)
}

func entries(t *testing.T, path string) int64 {
	t.Helper()
	s := opened(t, path)
	defer closed(t, s)
	report, err := audit.Verify(t.Context(), s.store)
	if err != nil {
		t.Fatal(err)
	}
	return report.Entries
}

// goesOn writes to a copy what its database numbers: nothing is numbered twice.
func goesOn(t *testing.T, path string) {
	t.Helper()
	s := opened(t, path)
	defer closed(t, s)
	at := time.Now().UTC().Truncate(time.Microsecond)
	err := s.store.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.AppendEvent(store.Event{At: at, Project: "vision", Kind: penstock.KindJob, UID: "u", Name: "n", Reason: "Later"}); err != nil {
			return err
		}
		if err := tx.AppendRate(store.Rate{Pool: "p", Resource: "cpu", From: at}); err != nil {
			return err
		}
		_, err := tx.AppendAudit(store.AuditEntry{At: at, Actor: "ann", Verb: "GET", Target: "/", Outcome: "200"})
		return err
	})
	if err != nil {
		t.Errorf("after the copy: %v", err)
	}
}

func TestACopyMergesNothingAndLeavesTheTargetAsItWas(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	files, sealed := inhabit(t, a)
	if _, err := copyInstallation(t.Context(), a, b, io.Discard); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_, err := copyInstallation(t.Context(), a, b, &said)
	if penstock.CodeOf(err) != penstock.Exists || !strings.Contains(err.Error(), "rows there already") {
		t.Errorf("a second copy into the same place: %v", err)
	}
	same(t, a, b, files, sealed)
	c := filepath.Join(t.TempDir(), "c")
	if err := os.Mkdir(c, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Load(c); err != nil { // it has a key of its own
		t.Fatal(err)
	}
	if _, err := copyInstallation(t.Context(), a, c, io.Discard); penstock.CodeOf(err) != penstock.Conflict {
		t.Errorf("into a place with another key: %v", err)
	}
	for name, from := range map[string]string{"nothing": filepath.Join(t.TempDir(), "none"), "a folder that is no installation": t.TempDir()} {
		if _, err := copyInstallation(t.Context(), from, filepath.Join(t.TempDir(), "to"), io.Discard); penstock.CodeOf(err) != penstock.NotFound {
			t.Errorf("%s was copied: %v", name, err)
		}
		if entries, _ := os.ReadDir(from); len(entries) > 0 {
			t.Errorf("looking at %s left something there", name)
		}
	}
	if _, err := copyInstallation(t.Context(), a, a, io.Discard); penstock.CodeOf(err) != penstock.Busy {
		t.Errorf("onto itself: %v", err)
	}
}

func TestACopyThatIsCutGoesOnWhereItStopped(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	files, sealed := inhabit(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := copyInstallation(ctx, a, b, cutter{cancel})
	if penstock.CodeOf(err) != penstock.Canceled {
		t.Fatalf("the cut copy: %v", err)
	}
	done, err := copyInstallation(t.Context(), a, b, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if done.Blobs.Present != done.Blobs.Count {
		t.Errorf("%d of %d files were sent again", done.Blobs.Count-done.Blobs.Present, done.Blobs.Count)
	}
	same(t, a, b, files, sealed)
}

// cutter ends a copy when it has told of the first table.
type cutter struct{ cancel func() }

func (c cutter) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

// A table that the copy doesn't know would be lost without a word.
func TestTheCopyKnowsEveryTable(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	inhabit(t, a)
	done, err := copyInstallation(t.Context(), a, b, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var copied, empty []string
	for _, table := range done.Tables {
		copied = append(copied, table.Table)
		if table.Rows == 0 {
			empty = append(empty, table.Table)
		}
	}
	if len(empty) > 0 {
		t.Errorf("nothing was there to copy in %v", empty)
	}
	db, err := sql.Open("sqlite", filepath.Join(a, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var there []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		there = append(there, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(there)
	slices.Sort(copied)
	if diff := cmp.Diff(there, copied); diff != "" {
		t.Errorf("tables that are there (-) and that are copied (+):\n%s", diff)
	}
}
