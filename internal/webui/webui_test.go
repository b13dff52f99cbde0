package webui

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

func (w *world) newSite(from fs.FS) *site {
	w.t.Helper()
	s, err := newSite(w.options(), from)
	w.check(err)
	return s
}

// ask calls the site as holder ("" is nobody), who may set more on the request.
func (w *world) ask(holder, method, target string, form url.Values, more ...func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if holder != "" {
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: w.tokens[holder]})
	}
	for _, set := range more {
		set(r)
	}
	answer := httptest.NewRecorder()
	w.site.handler().ServeHTTP(answer, r)
	return answer
}

// see is the page as holder sees it.
func (w *world) see(holder, target string) string {
	w.t.Helper()
	answer := w.ask(holder, "GET", target, nil)
	if answer.Code != http.StatusOK {
		w.t.Fatalf("GET %s as %s: %d\n%s", target, holder, answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func contains(t *testing.T, page string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// visionPages are all pages that show something of project vision.
func visionPages() []string {
	return []string{
		"/jobs/vision/train-7", "/jobs/vision/broken", "/jobs/vision/train-7/metrics", "/models/vision/tiny",
		"/endpoints/vision/chat", "/endpoints/vision/chat/requests",
	}
}

func everyPage() []string {
	return append(visionPages(), "/", "/pools", "/cost", "/cost?by=team&period=day", "/jobs/text/waits")
}

func TestNobodySeesAnythingWithoutASession(t *testing.T) {
	w := newWorld(t)
	targets := append(everyPage(), "/assets/app.css", "/assets/app.js", "/assets/vendor/htmx.min.js", "/assets/", "/nothing", "/jobs/vision/none", "/jobs/")
	w.tokens["garbage"], w.tokens["unknown"] = "garbage", strangeToken(t)
	for _, holder := range []string{"", "garbage", "unknown", "gateway"} {
		for _, target := range targets {
			answer := w.ask(holder, "GET", target, nil)
			if answer.Code != http.StatusSeeOther || !strings.HasPrefix(answer.Header().Get("Location"), "/login") {
				t.Errorf("%s as %q: %d to %q, want a redirect to /login", target, holder, answer.Code, answer.Header().Get("Location"))
			}
			if strings.Contains(strings.ReplaceAll(answer.Body.String(), url.QueryEscape(target), ""), "h100") {
				t.Errorf("%s as %q tells of the fleet", target, holder)
			}
		}
	}
}

func strangeToken(t *testing.T) string {
	t.Helper()
	token, _, err := auth.Issue(auth.Request{Use: store.Access, Subject: "x", Role: penstock.RoleAdmin}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func TestALivePartOfAnEndedSessionSendsTheWholePageToLogin(t *testing.T) {
	answer := newWorld(t).ask("", "GET", "/", nil, func(r *http.Request) { r.Header.Set("HX-Request", "true") })
	if answer.Code != http.StatusUnauthorized || answer.Header().Get("HX-Redirect") != "/login" || answer.Body.Len() > 0 {
		t.Errorf("%d, %v, %q", answer.Code, answer.Header(), answer.Body)
	}
}

func TestOtherTenantsThingsAreNotThere(t *testing.T) {
	w := newWorld(t)
	for _, target := range visionPages() {
		there, missing := w.ask("text", "GET", target, nil), w.ask("text", "GET", strings.NewReplacer("train-7", "none", "broken", "none", "tiny", "none", "chat", "none").Replace(target), nil)
		if there.Code != http.StatusNotFound || there.Body.String() != missing.Body.String() {
			t.Errorf("%s: %d, and another answer than for what isn't there (%d)", target, there.Code, missing.Code)
		}
		if own := w.ask("vision", "GET", target, nil); own.Code != http.StatusOK {
			t.Errorf("%s for its own tenant: %d", target, own.Code)
		}
	}
	for _, target := range []string{"/", "/pools", "/cost", "/cost?by=project"} {
		page := w.see("text", target)
		for _, secret := range []string{"train-7", "broken", "tiny", "chat", "vision", "idle"} {
			if strings.Contains(page, secret) {
				t.Errorf("%s shows %s of another tenant", target, secret)
			}
		}
	}
}

func TestOneWhoLeftTheProjectSeesNothingOfIt(t *testing.T) {
	w := newWorld(t)
	for _, target := range append(visionPages(), "/", "/cost") {
		answer := w.ask("stranger", "GET", target, nil)
		if answer.Code != http.StatusNotFound && answer.Code != http.StatusForbidden || strings.Contains(answer.Body.String(), "train-7") {
			t.Errorf("%s: %d", target, answer.Code)
		}
	}
}

func TestHostileTextStaysText(t *testing.T) {
	w := newWorld(t)
	w.logs = "before\n" + hostile + "\n</pre><script>alert(3)</script>\n"
	w.update(func(tx store.Tx) {
		create(w, tx, v1.Job{Kind: penstock.KindJob, Metadata: v1.Metadata{Project: "vision", Name: hostile, Phase: penstock.PhaseRunning}})
	})
	escaped := 0
	for _, target := range everyPage() {
		page := w.see("admin", target)
		if strings.Contains(page, "<script>") || strings.Contains(page, "<img") {
			t.Errorf("%s lets hostile text become markup", target)
		}
		escaped += strings.Count(page, "&lt;script&gt;alert(")
	}
	if escaped < 8 {
		t.Errorf("hostile text was seen %d times only: the test looks past it", escaped)
	}
	contains(t, w.see("admin", "/jobs/vision/train-7"), "&lt;/pre&gt;&lt;script&gt;alert(3)")
}

var (
	scriptTag = regexp.MustCompile(`<script[^>]*>`)
	value     = regexp.MustCompile(`="[^"]*"`)
	inline    = regexp.MustCompile(`<[a-z][^>]*\s(on[a-z]+|style)=`)
	foreign   = regexp.MustCompile(`(src|href|action)="(https?:)?//`)
)

func TestEveryAnswerKeepsToItsPolicy(t *testing.T) {
	w := newWorld(t)
	for _, target := range append(everyPage(), "/login", "/nothing", "/assets/app.css") {
		answer := w.ask("admin", "GET", target, nil)
		csp := answer.Header().Get("Content-Security-Policy")
		contains(t, csp, "default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %s", target, csp)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY"} {
			if got := answer.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", target, header, got, want)
			}
		}
		if !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
			continue
		}
		page := answer.Body.String()
		for _, tag := range scriptTag.FindAllString(page, -1) {
			if !strings.Contains(tag, ` src="/assets/`) {
				t.Errorf("%s: script %s", target, tag)
			}
		}
		if at := inline.FindString(value.ReplaceAllString(page, `=""`)); at != "" || foreign.MatchString(page) {
			t.Errorf("%s: has inline style or script, or fetches from elsewhere: %s", target, at)
		}
	}
}

func TestTheLoginPageCarriesItsOwnStyle(t *testing.T) {
	w := newWorld(t)
	answer := w.ask("", "GET", "/login", nil)
	page := answer.Body.String()
	contains(t, answer.Header().Get("Content-Security-Policy"), w.site.assets.styleHash())
	contains(t, page, "<style>"+w.site.assets.style()+"</style>", `type="password"`)
	if strings.Contains(page, "/assets/") {
		t.Error("the login page fetches what only a session may")
	}
}

func TestABuildWithoutVendorsSaysSoAndWorks(t *testing.T) {
	w := newWorld(t)
	w.site = w.newSite(fstest.MapFS{"assets/app.css": {Data: []byte("body{}")}, "assets/app.js": {Data: []byte("")}})
	page := w.see("vision", "/jobs/vision/train-7")
	contains(t, page, "Built without htmx and uPlot", `http-equiv="refresh"`, "<polyline points=")
	if scriptTag.MatchString(page) {
		t.Error("the page asks for scripts that aren't there")
	}
}

func TestOverviewTellsFleetQueueAndAlerts(t *testing.T) {
	w := newWorld(t)
	page := w.see("admin", "/")
	contains(t, page,
		"rack", "4 / 8", `width="50"`, // what the running attempt holds
		"QuotaExhausted", "text uses 4 of 4 h100", `class="class class-ask"`, `title="want=4"`,
		"train-7", "loss=1.25", "chat", "1/1", "tiny", "production=", "Drifted", "PSI 0.41", "broken", "rank 0 exited with 1",
	)
	if page := w.see("text", "/"); !strings.Contains(page, "held by text") || !strings.Contains(page, "0 / 8") {
		t.Error("a project's token isn't told that it sees its own part only")
	}
}

func TestJobPageTellsAttemptsCurveLogAndCheckpoints(t *testing.T) {
	w := newWorld(t)
	page := w.see("vision", "/jobs/vision/train-7")
	contains(t, page,
		"NodeLost", "node-1 was silent for 40 s", `data-plots="/jobs/vision/train-7/metrics"`, "<b>loss</b>", "<polyline points=",
		"step 1 loss 2.5", "Nothing is kept of this task&#39;s log.", "3 MiB", digestOf(7).Short(), "it writes checkpoints", "the start",
	)
	contains(t, w.see("text", "/jobs/text/waits"), "WHY", "4 h100 wanted, 2 are free", "WHO", "FIX", "penstock job edit waits --replicas 1", "starts now on node-1")
}

func TestModelPageTellsLineageAndWhatTheGateMisses(t *testing.T) {
	page := newWorld(t).see("vision", "/models/vision/tiny")
	contains(t, page,
		"corpus", "/jobs/vision/train-7", "attempt 1, step 100", digestOf(1).Short(), digestOf(2).Short(), "/endpoints/vision/chat", // descent
		"eval_loss ≤ 2.5", "1 approval", "MetricOverBound", "ApprovalMissing", "0 of 1 approvals", "<td>ann</td>",
	)
	if strings.Count(page, `class="chain"`) != 2 {
		t.Errorf("%d lines of descent, want that of the newest and of the one in production", strings.Count(page, `class="chain"`))
	}
}

func TestEndpointPageTellsLatencyByVersion(t *testing.T) {
	w := newWorld(t)
	page := w.see("vision", "/endpoints/vision/chat")
	contains(t, page, "127.0.0.1:9", "aborted=1", `<td class="n">99</td>`, `<td class="n">117</td>`, "/models/vision/tiny", `data-plots="/endpoints/vision/chat/requests"`)
	var p plots
	w.check(json.Unmarshal([]byte(w.see("vision", "/endpoints/vision/chat/requests")), &p))
	if len(p.X) != 40 || len(p.Series) != 2 || *p.Series[0].Values[0] != 80 || p.Axis != "time" {
		t.Errorf("plots are %+v", p)
	}
}

func TestCostPageKeepsIdleApartAndOnlyForTheInstallation(t *testing.T) {
	w := newWorld(t)
	page := w.see("admin", "/cost?by=model&period=day")
	contains(t, page, "tiny", `title="8.00 exactly"`, ">idle<", `title="16.00`, "4 h100-hours", "one success")
	own := w.see("vision", "/cost?by=model&period=day")
	contains(t, own, "tiny", `title="8.00 exactly"`)
	if strings.Contains(own, ">idle<") || strings.Contains(own, "16.00") {
		t.Error("a project sees what the rest of the fleet cost")
	}
	if answer := w.ask("admin", "GET", "/cost?by="+url.QueryEscape(hostile), nil); answer.Code != http.StatusUnprocessableEntity || strings.Contains(answer.Body.String(), "<script>") {
		t.Errorf("an unknown dimension: %d", answer.Code)
	}
}

func TestAFaultOfOurOwnIsNotShown(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		create(w, tx, v1.Object{Kind: penstock.KindJob, Metadata: v1.Metadata{Project: "vision", Name: "rotten", Phase: penstock.PhaseFailed}, Spec: []byte(`"secret-detail"`)})
	})
	answer := w.ask("vision", "GET", "/jobs/vision/rotten", nil)
	if answer.Code != http.StatusInternalServerError || strings.Contains(answer.Body.String(), "decode") {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}
