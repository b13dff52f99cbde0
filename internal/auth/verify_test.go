package auth_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// credentials is a store that has credentials and nothing else.
type credentials struct {
	store.Store
	mu     sync.Mutex
	byHash map[string]store.Credential
	reads  int
	fail   error
	// reading runs in the middle of a look-up, when the row was read.
	reading func()
}

type tx struct {
	store.Tx
	all *credentials
}

func (c *credentials) View(_ context.Context, fn func(store.Tx) error) error   { return fn(tx{all: c}) }
func (c *credentials) Update(_ context.Context, fn func(store.Tx) error) error { return fn(tx{all: c}) }

func (x tx) CredentialByHash(hash string) (store.Credential, error) {
	x.all.mu.Lock()
	x.all.reads++
	c, found := x.all.byHash[hash]
	fail, reading := x.all.fail, x.all.reading
	x.all.mu.Unlock()
	if reading != nil {
		reading()
	}
	switch {
	case fail != nil:
		return c, fail
	case !found:
		return c, &penstock.Error{Code: penstock.NotFound, Msg: "no such credential"}
	}
	return c, nil
}

func (x tx) RevokeCredential(id string, at time.Time) error {
	x.all.mu.Lock()
	defer x.all.mu.Unlock()
	for hash, c := range x.all.byHash {
		if c.ID == id {
			c.Revoked = at
			x.all.byHash[hash] = c
			return nil
		}
	}
	return &penstock.Error{Code: penstock.NotFound, Msg: "no such credential"}
}

// keep issues a token now and stores its credential.
func (c *credentials) keep(t testing.TB, r auth.Request) (string, store.Credential) {
	t.Helper()
	token, made, err := auth.Issue(r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.byHash == nil {
		c.byHash = map[string]store.Credential{}
	}
	c.byHash[made.Hash] = made
	return token.Reveal(), made
}

func refused(t *testing.T, v *auth.Verifier, token, why string) {
	t.Helper()
	p, err := v.Verify(t.Context(), token)
	if penstock.CodeOf(err) != penstock.Unauthenticated || !strings.Contains(err.Error(), why) {
		t.Errorf("verify says %v, want Unauthenticated with %q", err, why)
	}
	if diff := cmp.Diff(auth.Principal{}, p); diff != "" {
		t.Errorf("a refused token gives a principal:\n%s", diff)
	}
}

func TestAGoodTokenGivesItsPrincipal(t *testing.T) {
	st := &credentials{}
	v := auth.NewVerifier(st)
	for _, r := range []auth.Request{access, gateway, agent} {
		token, c := st.keep(t, r)
		want := auth.Principal{
			CredentialID: c.ID, Use: r.Use, Subject: r.Subject, Project: r.Project, Role: r.Role,
			Attempt: r.Attempt, Endpoints: r.Endpoints, Limit: r.Limit, Rate: r.Rate,
		}
		got, err := v.Verify(t.Context(), token)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	}
}

func TestNoOtherTokenIsGood(t *testing.T) {
	st := &credentials{}
	v := auth.NewVerifier(st)
	token, _ := st.keep(t, access)
	elsewhere, _ := issue(t, access)
	refused(t, v, "", "no token was sent")
	refused(t, v, "hunter2", "isn't a token")
	refused(t, v, token[:len(token)-1], "isn't a token")
	refused(t, v, strings.ToUpper(token), "isn't a token")
	if st.reads != 0 {
		t.Errorf("the store was asked %d times for what isn't a token", st.reads)
	}
	refused(t, v, elsewhere.Reveal(), "unknown here")
}

func TestATokenEndsWhenItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &credentials{}
		v := auth.NewVerifier(st)
		r := access
		r.Expires = time.Now().Add(time.Second)
		token, _ := st.keep(t, r)
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // on the test's own clock; the credential is still remembered
		refused(t, v, token, "expired at")
	})
}

func TestRevocationIsEffectiveAtOnce(t *testing.T) {
	st := &credentials{}
	v := auth.NewVerifier(st)
	token, c := st.keep(t, access)
	other, _ := st.keep(t, access)
	for _, good := range []string{token, other} {
		if _, err := v.Verify(t.Context(), good); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Revoke(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	refused(t, v, token, "was revoked")
	if _, err := v.Verify(t.Context(), other); err != nil {
		t.Errorf("another token is refused too: %v", err)
	}
	if err := v.Revoke(t.Context(), "nosuchid"); penstock.CodeOf(err) != penstock.NotFound {
		t.Errorf("revoking what isn't there: %v", err)
	}
}

func TestALookUpThatRevocationOvertakesIsNotRemembered(t *testing.T) {
	st := &credentials{}
	v := auth.NewVerifier(st)
	token, c := st.keep(t, access)
	st.reading = func() {
		st.reading = nil
		if err := v.Revoke(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatalf("the look-up that was under way: %v", err)
	}
	refused(t, v, token, "was revoked")
}

func TestARevocationElsewhereIsSeenWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &credentials{}
		here, there := auth.NewVerifier(st), auth.NewVerifier(st)
		token, c := st.keep(t, access)
		if _, err := here.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if err := there.Revoke(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // on the test's own clock
		refused(t, here, token, "was revoked")
	})
}

func TestABurstOfCallsReadsTheStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &credentials{}
		v := auth.NewVerifier(st)
		token, _ := st.keep(t, access)
		for range 100 {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		if st.reads != 1 {
			t.Errorf("100 calls read the store %d times", st.reads)
		}
	})
}

func TestABrokenStoreIsNotARefusal(t *testing.T) {
	st := &credentials{fail: errors.New("disk fault")}
	token, _ := st.keep(t, access)
	if _, err := auth.NewVerifier(st).Verify(t.Context(), token); err == nil || penstock.CodeOf(err) == penstock.Unauthenticated {
		t.Errorf("error is %v, want the fault", err)
	}
}
