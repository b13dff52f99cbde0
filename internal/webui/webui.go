// Package webui is the web page: the same nouns, Reasons and numbers as the
// command line, for reading. It changes nothing but its own session.
//
// Pages are HTML that works without script. Where htmx and uPlot were built in
// (hack/web/install.sh), the live parts of a page read themselves again and the
// plots can be hovered over; where not, the page says so. Every route but
// /login needs a session, and shows what the API would show to the same token.
package webui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/meter"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

//go:generate go run github.com/a-h/templ/cmd/templ generate

// Control is what the pages ask of the control plane; *control.Control is one.
type Control interface {
	Explain(ctx context.Context, ref penstock.Ref) (v1.Explanation, error)
	Cost(ctx context.Context, window meter.Window) (meter.Report, error)
}

// Verifier finds whose token it is; *auth.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, token string) (auth.Principal, error)
}

// Options are what the pages are made from; all are required but Version and
// Currency.
type Options struct {
	Store    store.Store
	Control  Control
	Verifier Verifier
	// Journal gets an entry for each page that is read.
	Journal *audit.Journal
	// Executors are asked for the ends of logs, by the name in a pool's spec.
	Executors map[string]run.Executor
	Log       *slog.Logger
	Version   string
	Currency  string
}

// site is the page with all that it serves.
type site struct {
	Options
	assets assets
	csp    string
	trail  trail
}

// New makes the handler of everything below "/" that isn't another surface's.
func New(o Options) (http.Handler, error) {
	s, err := newSite(o, files)
	if err != nil {
		return nil, err
	}
	return s.handler(), nil
}

func newSite(o Options, from fs.FS) (*site, error) {
	if o.Store == nil || o.Control == nil || o.Verifier == nil || o.Journal == nil || o.Log == nil {
		return nil, &penstock.Error{Code: penstock.Internal, Msg: "the web page needs a store, a control, a verifier, a journal and a log"}
	}
	a, err := loadAssets(from)
	if err != nil {
		return nil, err
	}
	// The login page is the one page that an anonymous caller gets, so it can't
	// fetch the style sheet; its inline copy is let through by its hash. Plots
	// style their own parts through the DOM, which the policy doesn't govern.
	csp := "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
		"frame-ancestors 'none'; style-src 'self' '" + a.styleHash() + "'"
	return &site{Options: o, assets: a, csp: csp}, nil
}

func (s *site) handler() http.Handler { return s.guard(s.routes()) }

func (s *site) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", s.showLogin)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.Handle("GET /assets/", s.session(http.HandlerFunc(s.asset)))
	mux.Handle("GET /{$}", s.page(s.overview))
	mux.Handle("GET /pools", s.page(s.pools))
	mux.Handle("GET /cost", s.page(s.cost))
	mux.Handle("GET /jobs/{project}/{name}", s.page(s.job))
	mux.Handle("GET /jobs/{project}/{name}/metrics", s.data(s.jobPlots))
	mux.Handle("GET /models/{project}/{name}", s.page(s.model))
	mux.Handle("GET /endpoints/{project}/{name}", s.page(s.endpoint))
	mux.Handle("GET /endpoints/{project}/{name}/requests", s.data(s.endpointPlots))
	mux.Handle("/", s.page(func(v visit) (content, error) {
		return content{}, &penstock.Error{Code: penstock.NotFound, Msg: "there is no such page", Hint: "the overview has links to all that this token may see"}
	}))
	return mux
}

// guard sets the headers that every answer has, and refuses calls that another
// site makes in the reader's browser.
func (s *site) guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", s.csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// visit is one call of one reader. Everything on a page is as of now.
type visit struct {
	*http.Request
	who auth.Principal
	now time.Time
}

// ref names the object that the path of the call is about.
func (v visit) ref(k penstock.Kind) penstock.Ref {
	return penstock.Ref{Kind: k, Project: v.PathValue("project"), Name: v.PathValue("name")}
}

// content is what a page puts into the frame that all pages share.
type content struct {
	title string
	// live says that the page changes by itself, and so reads itself again.
	live bool
	body templ.Component
}

// page serves what build makes of a visit, behind a session.
func (s *site) page(build func(visit) (content, error)) http.Handler {
	return s.session(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visit{r, principal(r.Context()), time.Now().UTC()}
		c, err := build(v)
		if err != nil {
			s.refuse(w, v, err)
			return
		}
		s.write(w, r, http.StatusOK, frame(s.head(c, v.who), c.body))
	}))
}

// head is what the frame needs to know.
type head struct {
	title   string
	live    bool
	who     auth.Principal
	version string
	plain   bool // htmx and uPlot aren't there
}

func (s *site) head(c content, who auth.Principal) head {
	return head{title: c.title, live: c.live, who: who, version: s.Version, plain: !s.assets.vendor}
}

// refuse shows an error as a page. What isn't a penstock.Error is a fault of our
// own: the reader learns its code and the log the rest.
func (s *site) refuse(w http.ResponseWriter, v visit, err error) {
	info := penstock.InfoOf(err)
	var e *penstock.Error
	if info.Code == penstock.Internal || !errors.As(err, &e) {
		s.Log.Error("internal fault of the web page", "path", v.URL.Path, "error", err)
		e = &penstock.Error{Code: penstock.Internal, Msg: "this page could not be made", Hint: "the server's log has the details"}
	}
	s.write(w, v.Request, info.HTTP, frame(s.head(content{title: string(info.Code)}, v.who), failure(info, e)))
}

// write sends a component that is whole, or an error.
func (s *site) write(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		s.Log.Error("render page", "path", r.URL.Path, "error", fmt.Errorf("render: %w", err))
		http.Error(w, "this page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader is gone if this fails
}
