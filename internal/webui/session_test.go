package webui

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/store"
)

func TestALoginKeepsTheTokenWhereScriptsAndOtherSitesCannotUseIt(t *testing.T) {
	w := newWorld(t)
	form := url.Values{"token": {" " + w.tokens["vision"] + "\n"}, "next": {"/jobs/vision/train-7?x=1"}}
	for scheme, secure := range map[string]bool{"http": false, "https": true} {
		answer := w.ask("", "POST", "/login", form, func(r *http.Request) {
			if secure {
				r.TLS = &tls.ConnectionState{}
			}
		})
		cookies := answer.Result().Cookies()
		if answer.Code != http.StatusSeeOther || answer.Header().Get("Location") != "/jobs/vision/train-7?x=1" || len(cookies) != 1 {
			t.Fatalf("%s: %d to %q with %d cookies", scheme, answer.Code, answer.Header().Get("Location"), len(cookies))
		}
		c := cookies[0]
		if c.Name != sessionCookie || c.Value != w.tokens["vision"] || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Secure != secure {
			t.Errorf("%s: cookie is %+v", scheme, c)
		}
	}
	var entries []store.AuditEntry
	w.check(w.store.View(t.Context(), func(tx store.Tx) (err error) { entries, err = tx.Audit(0, 10); return err }))
	if len(entries) != 2 || entries[0].Actor != "vision-user" || entries[0].Verb != "login" || strings.Contains(entries[0].Detail, w.tokens["vision"]) {
		t.Errorf("the audit log has %+v", entries)
	}
}

func TestWhatIsNoAccessTokenLogsNobodyIn(t *testing.T) {
	w := newWorld(t)
	for name, token := range map[string]string{
		"nothing": "", "garbage": hostile, "a gateway key": w.tokens["gateway"], "a token of another installation": strangeToken(t), "a mistyped token": w.tokens["admin"][:79] + "0",
	} {
		answer := w.ask("", "POST", "/login", url.Values{"token": {token}})
		body := answer.Body.String()
		if answer.Code != http.StatusUnauthorized && answer.Code != http.StatusForbidden || len(answer.Result().Cookies()) > 0 {
			t.Errorf("%s: %d", name, answer.Code)
		}
		if !strings.Contains(body, `role="alert"`) || token != "" && strings.Contains(body, token) {
			t.Errorf("%s: the form says nothing, or repeats the token", name)
		}
	}
}

func TestATokenInTheAddressLogsNobodyIn(t *testing.T) {
	w := newWorld(t)
	address := "/login?token=" + w.tokens["admin"]
	for _, method := range []string{"GET", "POST"} {
		answer := w.ask("", method, address, url.Values{})
		if len(answer.Result().Cookies()) > 0 || strings.Contains(answer.Body.String(), w.tokens["admin"]) {
			t.Errorf("%s took the token from the address", method)
		}
	}
}

func TestALoginLeadsToNoOtherSite(t *testing.T) {
	w := newWorld(t)
	for asked, want := range map[string]string{
		"": "/", "/cost?by=team": "/cost?by=team", "https://evil.example/": "/", "//evil.example": "/", "/\\evil.example": "/", "\\\\evil.example": "/",
		"javascript:alert(1)": "/", "/\t/evil.example": "/", "///evil.example": "/", "evil": "/", "/%2F/evil.example": "/", "/a\r\nSet-Cookie: x=y": "/",
	} {
		answer := w.ask("", "POST", "/login", url.Values{"token": {w.tokens["admin"]}, "next": {asked}})
		if got := answer.Header().Get("Location"); got != want {
			t.Errorf("next=%q leads to %q, want %q", asked, got, want)
		}
	}
}

func TestOtherSitesCannotSendForms(t *testing.T) {
	w := newWorld(t)
	form := url.Values{"token": {w.tokens["admin"]}}
	for name, header := range map[string][2]string{
		"cross-site": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site"}, "origin": {"Origin", "https://evil.example"}, "no origin": {"Origin", "null"},
	} {
		for _, target := range []string{"/login", "/logout"} {
			answer := w.ask("admin", "POST", target, form, func(r *http.Request) { r.Header.Set(header[0], header[1]) })
			if answer.Code != http.StatusForbidden || len(answer.Result().Cookies()) > 0 {
				t.Errorf("%s to %s: %d", name, target, answer.Code)
			}
		}
	}
	if answer := w.ask("", "POST", "/login", form, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }); answer.Code != http.StatusSeeOther {
		t.Errorf("our own form: %d", answer.Code)
	}
}

func TestAFormThatIsTooLargeIsNotRead(t *testing.T) {
	w := newWorld(t)
	answer := w.ask("", "POST", "/login", url.Values{"token": {w.tokens["admin"]}, "next": {strings.Repeat("x", maxForm)}})
	if answer.Code != http.StatusBadRequest || len(answer.Result().Cookies()) > 0 {
		t.Errorf("%d", answer.Code)
	}
}

func TestALogoutAndARevocationEndTheSession(t *testing.T) {
	w := newWorld(t)
	answer := w.ask("vision", "POST", "/logout", nil)
	if cookies := answer.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 || cookies[0].Value != "" {
		t.Errorf("logout leaves %+v", cookies)
	}
	if answer := w.ask("vision", "GET", "/", nil); answer.Code != http.StatusOK {
		t.Fatalf("before it is revoked: %d", answer.Code)
	}
	w.check(w.verifier.Revoke(t.Context(), w.ids["vision"]))
	if answer := w.ask("vision", "GET", "/", nil); answer.Code != http.StatusSeeOther {
		t.Errorf("a revoked token still shows the overview: %d", answer.Code)
	}
}
