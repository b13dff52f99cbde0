package storetest

import (
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

func credential(id string) store.Credential {
	return store.Credential{
		ID: id, Hash: "hash of " + id, Use: store.Gateway, Subject: "ann", Project: "vision", Role: penstock.RoleViewer, Attempt: uid(3),
		Endpoints: []string{"chat", "embed"}, Limit: 1 << 40, Rate: 60, Created: minute(1), Expires: minute(2), Revoked: time.Time{},
	}
}

func credentialTests() map[string]func(*testing.T, store.Store) {
	return map[string]func(*testing.T, store.Store){
		"ACredentialIsFoundByItsHashOnly":               testByHash,
		"PuttingReplacesTheCredentialOfTheID":           testPutAgain,
		"AHashBelongsToOneCredential":                   testSameHash,
		"CredentialsAreListedByProject":                 testListCredentials,
		"ARevokedCredentialIsStillFoundAndStaysRevoked": testRevoke,
	}
}

func byHash(t *testing.T, s store.Store, hash string) store.Credential {
	t.Helper()
	return read(t, s, func(tx store.Tx) (store.Credential, error) { return tx.CredentialByHash(hash) })
}

func testByHash(t *testing.T, s store.Store) {
	bare := store.Credential{ID: "bare", Hash: "h", Use: store.Access}
	update(t, s, func(tx store.Tx) error {
		if err := tx.PutCredential(bare); err != nil {
			return err
		}
		return tx.PutCredential(credential("c1"))
	})
	wantSame(t, byHash(t, s, "hash of c1"), credential("c1"))
	wantSame(t, byHash(t, s, "h"), bare)
	for _, hash := range []string{"", "c1", "Hash of c1", "hash of c1 "} {
		err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.CredentialByHash(hash); return err })
		wantCode(t, err, penstock.NotFound)
	}
}

func testPutAgain(t *testing.T, s store.Store) {
	changed := store.Credential{
		ID: "c1", Hash: "new", Use: store.Agent, Subject: "bob", Project: "speech", Role: penstock.RoleAdmin, Attempt: uid(4),
		Limit: 7, Rate: 8, Created: minute(5), Revoked: minute(6),
	}
	for _, c := range []store.Credential{credential("c1"), changed} {
		update(t, s, func(tx store.Tx) error { return tx.PutCredential(c) })
		wantSame(t, byHash(t, s, c.Hash), c)
	}
	err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.CredentialByHash("hash of c1"); return err })
	wantCode(t, err, penstock.NotFound)
}

func testSameHash(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.PutCredential(credential("c1")) })
	other := credential("c2")
	other.Hash = "hash of c1"
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.PutCredential(other) }), penstock.Exists)
}

func testListCredentials(t *testing.T, s store.Store) {
	global := credential("a")
	global.Project = ""
	want := []store.Credential{global, credential("b"), credential("c")}
	update(t, s, func(tx store.Tx) error {
		for _, i := range []int{2, 0, 1} {
			if err := tx.PutCredential(want[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for project, list := range map[string][]store.Credential{"": want, "vision": want[1:], "speech": nil} {
		wantSame(t, read(t, s, func(tx store.Tx) ([]store.Credential, error) { return tx.ListCredentials(project) }), list)
	}
}

func testRevoke(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error { return tx.PutCredential(credential("c1")) })
	for _, step := range []struct{ at, want int }{{5, 5}, {9, 5}, {3, 3}} {
		update(t, s, func(tx store.Tx) error { return tx.RevokeCredential("c1", minute(step.at)) })
		want := credential("c1")
		want.Revoked = minute(step.want)
		wantSame(t, byHash(t, s, want.Hash), want)
	}
	wantCode(t, refuse(t, s, func(tx store.Tx) error { return tx.RevokeCredential("c2", minute(1)) }), penstock.NotFound)
}
