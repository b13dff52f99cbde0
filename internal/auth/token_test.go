package auth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func issue(t testing.TB, r auth.Request) (auth.TokenString, store.Credential) {
	t.Helper()
	token, c, err := auth.Issue(r, noon)
	if err != nil {
		t.Fatal(err)
	}
	return token, c
}

var (
	access  = auth.Request{Use: store.Access, Subject: "ann", Project: "vision", Role: penstock.RoleDeveloper}
	gateway = auth.Request{Use: store.Gateway, Subject: "app", Project: "vision", Endpoints: []string{"chat"}, Limit: 1000, Rate: 60}
	agent   = auth.Request{Use: store.Agent, Subject: "agent of train-1", Project: "vision", Attempt: "0190-attempt"}
)

func TestATokenIsKeptAsItsHashOnly(t *testing.T) {
	for prefix, r := range map[string]auth.Request{"pst_": access, "psk_": gateway, "psa_": agent} {
		token, c := issue(t, r)
		text := token.Reveal()
		if !strings.HasPrefix(text, prefix+c.ID+"_") || !auth.WellFormed(text) {
			t.Errorf("%s is no token of id %s", text, c.ID)
		}
		want := store.Credential{
			ID: c.ID, Hash: auth.Hash(text), Use: r.Use, Subject: r.Subject, Project: r.Project, Role: r.Role, Attempt: r.Attempt,
			Endpoints: r.Endpoints, Limit: r.Limit, Rate: r.Rate, Created: noon,
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		kept, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if secret := strings.Split(text, "_")[2]; bytes.Contains(kept, []byte(secret[:16])) {
			t.Errorf("the credential %s holds the secret", kept)
		}
	}
}

func TestTokensNeverRepeat(t *testing.T) {
	ids, texts := map[string]bool{}, map[string]bool{}
	for range 1000 {
		token, c := issue(t, access)
		ids[c.ID], texts[token.Reveal()] = true, true
	}
	if len(ids) != 1000 || len(texts) != 1000 {
		t.Errorf("1000 tokens have %d ids and %d texts", len(ids), len(texts))
	}
}

func TestEveryTypoIsSeenWithoutAsking(t *testing.T) {
	token, _ := issue(t, access)
	text := token.Reveal()
	for i := range text {
		for _, other := range "a7_A \x00" {
			if typo := text[:i] + string(other) + text[i+1:]; typo != text && auth.WellFormed(typo) {
				t.Errorf("%q at %d of %d isn't seen", other, i, len(text))
			}
		}
		if i > 0 && auth.WellFormed(text[:i]) {
			t.Errorf("cut to %d it is still a token", i)
		}
		if i > 0 && text[i] != text[i-1] && auth.WellFormed(text[:i-1]+string(text[i])+string(text[i-1])+text[i+1:]) {
			t.Errorf("two letters exchanged at %d aren't seen", i)
		}
	}
	if auth.WellFormed(" " + text) {
		t.Error("a space before it isn't seen")
	}
}

func TestNothingPrintsAToken(t *testing.T) {
	token, _ := issue(t, access)
	secret := strings.Split(token.Reveal(), "_")[2]
	type exported struct{ Token auth.TokenString }
	type unexported struct{ token auth.TokenString }
	var out strings.Builder
	for _, v := range []any{token, &token, exported{token}, unexported{token}, []auth.TokenString{token}, map[string]auth.TokenString{"a": token}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%w"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("hello", "token", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("hello", "token", v)
	}
	for _, part := range []string{secret, secret[:12], fmt.Sprintf("%x", secret[:12]), fmt.Sprintf("%X", secret[:12])} {
		if strings.Contains(out.String(), part) {
			t.Errorf("%q is in what was printed", part)
		}
	}
	if want := token.Reveal()[:8] + "…"; token.String() != want || fmt.Sprint(token) != want {
		t.Errorf("a token shows itself as %s, want %s", token, want)
	}
	if s := fmt.Sprint(auth.TokenString{}); s != "…" {
		t.Errorf("no token shows itself as %q", s)
	}
}

func TestNoTokenIsIssuedForNonsense(t *testing.T) {
	change := func(r auth.Request, by func(*auth.Request)) auth.Request {
		by(&r)
		return r
	}
	for name, r := range map[string]auth.Request{
		"no use":                   change(access, func(r *auth.Request) { r.Use = "" }),
		"no subject":               change(access, func(r *auth.Request) { r.Subject = " " }),
		"no role":                  change(access, func(r *auth.Request) { r.Role = "" }),
		"unknown role":             change(access, func(r *auth.Request) { r.Role = "root" }),
		"access for an attempt":    change(access, func(r *auth.Request) { r.Attempt = "x" }),
		"access with endpoints":    change(access, func(r *auth.Request) { r.Endpoints = []string{"chat"} }),
		"gateway with a role":      change(gateway, func(r *auth.Request) { r.Role = penstock.RoleViewer }),
		"gateway for all projects": change(gateway, func(r *auth.Request) { r.Project = "" }),
		"limit below 0":            change(gateway, func(r *auth.Request) { r.Limit = -1 }),
		"rate below 0":             change(gateway, func(r *auth.Request) { r.Rate = -1 }),
		"agent without attempt":    change(agent, func(r *auth.Request) { r.Attempt = "" }),
		"agent with a limit":       change(agent, func(r *auth.Request) { r.Limit = 5 }),
		"expired":                  change(access, func(r *auth.Request) { r.Expires = noon }),
	} {
		if token, c, err := auth.Issue(r, noon); penstock.CodeOf(err) != penstock.Invalid || token.Reveal() != "" || c.Hash != "" {
			t.Errorf("%s: %v, %v; want Invalid", name, c, err)
		}
	}
}
