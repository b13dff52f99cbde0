package webui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// sessionCookie carries the reader's token: it can be revoked like any other
// use of it, and the server keeps no sessions.
const sessionCookie = "penstock_session"

// maxForm is how many bytes a form may have.
const maxForm = 4 << 10

type principalKey struct{}

func principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// session lets through who has a token in the cookie, and sends everybody else
// to /login.
func (s *site) session(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := ""
		if c, err := r.Cookie(sessionCookie); err == nil {
			token = c.Value
		}
		p, err := s.identify(r.Context(), token)
		switch code := penstock.CodeOf(err); {
		case code == penstock.Unauthenticated || code == penstock.Denied:
			toLogin(w, r)
			return
		case err != nil:
			s.Log.Error("check session", "error", err)
			http.Error(w, "the session could not be checked", http.StatusInternalServerError)
			return
		}
		s.read(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)), next)
	})
}

// identify gives the principal of an access token, with the role that it has
// today: the API counts a project's token in the same way.
func (s *site) identify(ctx context.Context, token string) (auth.Principal, error) {
	p, err := s.Verifier.Verify(ctx, token)
	if err != nil {
		return auth.Principal{}, err
	}
	if p.Use != store.Access {
		return auth.Principal{}, &penstock.Error{
			Code: penstock.Denied, Msg: "this is a token for " + string(p.Use) + " use", Hint: "the page takes an access token, which starts with pst_",
		}
	}
	if p.Project == "" {
		return p, nil
	}
	var project v1.Project
	err = s.Store.View(ctx, func(tx store.Tx) (err error) {
		project, err = store.Load[v1.ProjectSpec, v1.ProjectStatus](tx, penstock.Ref{Kind: penstock.KindProject, Name: p.Project})
		return err
	})
	if penstock.CodeOf(err) == penstock.NotFound {
		p.Role = ""
		return p, nil
	}
	p.Role = auth.Effective(p, project)
	return p, err
}

// toLogin sends a reader to the form, and back afterwards. What htmx asks for
// is part of a page: the whole page has to go.
func toLogin(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", "/login")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	to := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" && !strings.HasPrefix(r.URL.Path, "/assets/") {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// nextPage is where a login leads to: a page of this site, whatever was asked.
func nextPage(asked string) string {
	u, err := url.Parse(asked)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(asked, "\\\r\n\t") {
		return "/"
	}
	return u.RequestURI()
}

func (s *site) showLogin(w http.ResponseWriter, r *http.Request) {
	s.write(w, r, http.StatusOK, loginPage(s.assets.style(), nextPage(r.URL.Query().Get("next")), nil))
}

// login takes a token from the form, never from the address: addresses end up
// in histories and logs.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form could not be read", http.StatusBadRequest)
		return
	}
	token, next := strings.TrimSpace(r.PostForm.Get("token")), nextPage(r.PostForm.Get("next"))
	p, err := s.identify(r.Context(), token)
	if err == nil {
		err = s.record(r.Context(), p, "login")
	}
	var e *penstock.Error
	if code := penstock.CodeOf(err); code == penstock.Unauthenticated || code == penstock.Denied {
		errors.As(err, &e)
		s.write(w, r, penstock.InfoOf(err).HTTP, loginPage(s.assets.style(), next, e))
		return
	}
	if err != nil {
		s.Log.Error("log in", "error", err)
		http.Error(w, "the login could not be checked", http.StatusInternalServerError)
		return
	}
	http.SetCookie(w, cookie(r, token, 0))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// record writes a login into the audit log, before it counts.
func (s *site) record(ctx context.Context, p auth.Principal, verb string) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.AppendAudit(store.AuditEntry{
			At: time.Now().UTC().Truncate(time.Microsecond), Actor: p.Subject, Role: string(p.Role),
			Verb: verb, Target: "/login", Outcome: "ok", Detail: "token " + p.CredentialID,
		})
		return err
	})
}

// logout forgets the cookie. It works without a session too: who wants to be
// out is out.
func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, cookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// cookie holds token until the browser closes, or goes at once with a maxAge
// below 0.
func cookie(r *http.Request, token string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: token, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}
