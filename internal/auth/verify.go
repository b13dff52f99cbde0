package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// Principal is who calls, as far as the token tells.
type Principal struct {
	CredentialID string
	Use          store.CredentialUse
	Subject      string
	// Project bounds the token; empty is the whole installation.
	Project string
	// Role is the most that the token may do: see Effective.
	Role      penstock.Role
	Attempt   penstock.UID
	Endpoints []string
	Limit     int64
	Rate      int64
}

// How long, and how many, credentials are remembered. A credential revoked
// through this Verifier is forgotten at once; one revoked through another
// replica works for at most cacheTTL more.
const (
	cacheTTL  = 2 * time.Second
	cacheSize = 4096
)

// Verifier finds the principal of a token. Its methods may be called from many
// goroutines.
type Verifier struct {
	store store.Store

	mu      sync.Mutex
	cache   map[string]cached // by hash
	revoked uint64            // counts revocations
}

type cached struct {
	credential store.Credential
	until      time.Time
}

// NewVerifier makes a Verifier over the credentials of st.
func NewVerifier(st store.Store) *Verifier {
	return &Verifier{store: st, cache: make(map[string]cached)}
}

// Verify gives the principal of token. Every token that isn't good is
// Unauthenticated; the message tells why only to who has the whole token, or
// mistyped it.
func (v *Verifier) Verify(ctx context.Context, token string) (Principal, error) {
	switch {
	case token == "":
		return Principal{}, unauthenticated("no token was sent", "send it as Authorization: Bearer <token>")
	case !WellFormed(token):
		return Principal{}, unauthenticated("what was sent isn't a token", "tokens have 80 characters and start with pst_, psk_ or psa_; check that it was copied whole")
	}
	hash, now := Hash(token), time.Now()
	c, err := v.credential(ctx, hash, now)
	switch {
	case penstock.CodeOf(err) == penstock.NotFound:
		return Principal{}, unauthenticated("the token is unknown here", "it may be of another installation")
	case err != nil:
		return Principal{}, fmt.Errorf("look up token: %w", err)
	case subtle.ConstantTimeCompare([]byte(c.Hash), []byte(hash)) != 1:
		return Principal{}, unauthenticated("the token is unknown here", "")
	case !c.Revoked.IsZero():
		return Principal{}, unauthenticated("the token "+c.ID+" was revoked", "ask an admin for a new one")
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return Principal{}, unauthenticated(fmt.Sprintf("the token %s expired at %s", c.ID, c.Expires.UTC().Format(time.RFC3339)), "ask an admin for a new one")
	}
	return Principal{
		CredentialID: c.ID, Use: c.Use, Subject: c.Subject, Project: c.Project, Role: c.Role,
		Attempt: c.Attempt, Endpoints: c.Endpoints, Limit: c.Limit, Rate: c.Rate,
	}, nil
}

func unauthenticated(msg, hint string) error {
	return &penstock.Error{Code: penstock.Unauthenticated, Msg: msg, Hint: hint}
}

// credential reads one from the cache or the store.
func (v *Verifier) credential(ctx context.Context, hash string, now time.Time) (store.Credential, error) {
	v.mu.Lock()
	known, revoked := v.cache[hash], v.revoked
	v.mu.Unlock()
	if now.Before(known.until) {
		return known.credential, nil
	}
	var c store.Credential
	err := v.store.View(ctx, func(tx store.Tx) (err error) {
		c, err = tx.CredentialByHash(hash)
		return err
	})
	if err != nil {
		return c, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.revoked != revoked {
		return c, nil // what was read may be from before the revocation: use it once, keep it not
	}
	if len(v.cache) >= cacheSize {
		clear(v.cache)
	}
	v.cache[hash] = cached{c, now.Add(cacheTTL)}
	return c, nil
}

// Revoke takes a credential back. When it returns nil, no later Verify of this
// Verifier accepts it. NotFound if there is none of that id.
func (v *Verifier) Revoke(ctx context.Context, id string) error {
	at := time.Now().UTC().Truncate(time.Microsecond)
	err := v.store.Update(ctx, func(tx store.Tx) error { return tx.RevokeCredential(id, at) })
	v.mu.Lock()
	defer v.mu.Unlock()
	v.revoked++
	for hash, c := range v.cache {
		if c.credential.ID == id {
			delete(v.cache, hash)
		}
	}
	return err
}
