package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

// streams are the routes that OpenAPI doesn't describe, as "METHOD path".
var streams = []string{
	"GET /v1/watch", "GET /v1/jobs/{project}/{name}/logs", "GET /v1/jobs/{project}/{name}/exec", "GET /v1/jobs/{project}/{name}/forward", "HEAD /v1/blobs/{digest}", "PUT /v1/blobs/{digest}",
	"POST /v1/agent/reports", "GET /v1/agent/orders/{rank}", "GET /v1/agent/blobs/{digest}", "HEAD /v1/agent/blobs/{digest}", "PUT /v1/agent/blobs/{digest}",
	"GET /openapi.json", "GET /openapi.yaml",
}

// routes are all of the API, with the placeholders filled in.
func (p *plant) routes(project, name string) []string {
	p.t.Helper()
	all := slices.Clone(streams)
	for path, methods := range p.description().Paths {
		for method := range methods {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	fill := strings.NewReplacer("{project}", project, "{name}", name, "{kind}", "Job", "{id}", "nobody", "{digest}", string(digestOf("x")))
	for i, r := range all {
		all[i] = fill.Replace(r)
	}
	return all
}

func TestEveryRouteDeniesWhoShowsNoGoodToken(t *testing.T) {
	p := newPlant(t)
	routes := p.routes("vision", "train")
	if len(routes) < 60 {
		t.Fatalf("only %d routes were found", len(routes))
	}
	for _, r := range append(routes, "GET /v1/", "GET /nowhere", "TRACE /v1/jobs") {
		method, path, _ := strings.Cut(r, " ")
		for what, token := range map[string]string{"none": "", "nonsense": "Bearer", "unknown": strings.Replace(p.root, "pst_", "psk_", 1)} {
			a := p.call(token, method, path, "{}")
			if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with token %s: %d %s", r, what, a.status, a.body)
			}
			p.problem(penstock.Unauthenticated, r, a)
		}
	}
	for _, header := range []string{p.root, "Basic " + p.root, "Bearer", "Bearer  "} {
		a := p.call("", "GET", "/v1/whoami", "", "Authorization", header)
		p.problem(penstock.Unauthenticated, header[:5], a)
	}
}

// A method that the API has for another path, and a stream that no test knows,
// would be found here: the mux is asked for everything that it could serve.
func TestNoRouteIsUnknownToTheTests(t *testing.T) {
	p := newPlant(t)
	known := p.routes("p", "n")
	for _, r := range known {
		_, path, _ := strings.Cut(r, " ")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if path == "/v1/watch" && (method == "GET" || method == "HEAD") {
				continue // it would stay
			}
			token := p.root
			if strings.HasPrefix(path, "/v1/agent/") {
				token = p.issue(auth.Request{Use: store.Agent, Subject: "a", Project: "p", Attempt: "x"})
			}
			a := p.call(token, method, path, "{}")
			missing := strings.Contains(a.body, "there is no "+method+" /")
			served := slices.Contains(known, method+" "+path) || method == "HEAD" && slices.Contains(known, "GET "+path)
			if served == missing {
				t.Errorf("%s %s: known to the tests %v, answered %d %s", method, path, served, a.status, a.body)
			}
		}
	}
}

func TestNamesOfOtherTenantsAreNotFound(t *testing.T) {
	p := newPlant(t)
	p.tenant("vision", "ann", penstock.RoleAdmin)
	bob := p.tenant("speech", "bob", penstock.RoleAdmin)
	stranger := p.token("bob", "vision", penstock.RoleAdmin) // of vision, but not its member
	p.apply(p.root, job("vision", "train"), manifest("Model", "vision", "train", `{}`), manifest("Secret", "vision", "train", `{"values":{"k":"v"}}`))
	before := p.revision()
	for _, token := range []string{bob, stranger} {
		for _, r := range p.routes("vision", "train") {
			method, path, _ := strings.Cut(r, " ")
			if !strings.Contains(path, "/vision/") {
				continue
			}
			body := "{}"
			switch {
			case strings.HasSuffix(path, "/promote"):
				body = `{"alias":"production","to":"` + string(digestOf("x")) + `"}`
			case strings.HasSuffix(path, "/approve"):
				body = `{"alias":"production"}`
			}
			if strings.Contains(path, "/pools/") {
				continue // pools belong to no project: see the roles
			}
			there, gone := p.call(token, method, path, body), p.call(token, method, strings.Replace(path, "/vision/", "/nobody/", 1), body)
			p.problem(penstock.NotFound, r, there)
			if there.body != gone.body {
				t.Errorf("%s tells what is there from what isn't:\n%s\n%s", r, there.body, gone.body)
			}
		}
		for path, body := range map[string]string{
			"/v1/apply":  `{"objects":[` + job("vision", "new") + `]}`,
			"/v1/delete": `{"refs":[{"kind":"Job","project":"vision","name":"train"}]}`,
			"/v1/tokens": `{"subject":"bob","project":"vision","role":"viewer"}`,
		} {
			p.refused(penstock.NotFound, token, "POST", path, body)
		}
	}
	for _, path := range []string{"/v1/jobs?project=vision", "/v1/tokens?project=vision", "/v1/projects/-/vision", "/v1/explain/Project/-/vision"} {
		p.refused(penstock.NotFound, bob, "GET", path, "")
	}
	p.refused(penstock.NotFound, bob, "DELETE", "/v1/projects/-/vision", "")
	if got := p.revision(); got != before {
		t.Errorf("strangers changed something: revision %d, was %d", got, before)
	}
	if own := p.must(bob, "GET", "/v1/projects?limit=1", ""); strings.Contains(own.body, `"vision"`) || !strings.Contains(own.body, "speech") {
		t.Errorf("bob's projects: %s", own.body)
	}
	for _, path := range []string{"/v1/jobs", "/v1/secrets", "/v1/models", "/v1/cost?by=project"} {
		if a := p.must(bob, "GET", path, ""); strings.Contains(a.body, `"vision"`) {
			t.Errorf("bob sees vision in %s: %s", path, a.body)
		}
	}
}

func TestRolesMayWhatTheirsIs(t *testing.T) {
	p := newPlant(t)
	p.apply(p.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1","members":[
		{"subject":"viewer","role":"viewer"},{"subject":"developer","role":"developer"},{"subject":"approver","role":"approver"},
		{"subject":"operator","role":"operator"},{"subject":"admin","role":"admin"}]}`))
	p.apply(p.root, job("lab", "a"))
	pool := `{"objects":[` + manifest("Pool", "", "q", `{"executor":"local"}`) + `]}`
	for _, c := range []struct {
		what, method, path, body string
		least                    penstock.Role // of the project; "" is nobody of a project
		wide                     penstock.Role // of the installation
	}{
		{"read", "GET", "/v1/jobs/lab/a", "", penstock.RoleViewer, penstock.RoleViewer},
		{"apply", "POST", "/v1/apply", `{"dryRun":true,"objects":[` + job("lab", "b") + `]}`, penstock.RoleDeveloper, penstock.RoleDeveloper},
		{"delete", "POST", "/v1/delete", `{"dryRun":true,"refs":[{"kind":"Job","project":"lab","name":"a"}]}`, penstock.RoleDeveloper, penstock.RoleDeveloper},
		{"upload", "PUT", "/v1/blobs/" + string(digestOf("hi")), "hi", penstock.RoleDeveloper, penstock.RoleDeveloper},
		{"look for bytes", "HEAD", "/v1/blobs/" + string(digestOf("hi")), "", penstock.RoleViewer, penstock.RoleViewer},
		{"make a token", "POST", "/v1/tokens", `{"subject":"x","project":"lab","role":"viewer"}`, penstock.RoleAdmin, penstock.RoleAdmin},
		{"make a key", "POST", "/v1/tokens", `{"subject":"x","project":"lab","key":{}}`, penstock.RoleDeveloper, penstock.RoleDeveloper},
		{"make a wide token", "POST", "/v1/tokens", `{"subject":"x","role":"viewer"}`, "", penstock.RoleAdmin},
		{"declare a pool", "POST", "/v1/apply", strings.Replace(pool, "{", `{"dryRun":true,`, 1), "", penstock.RoleOperator},
		{"see pools", "GET", "/v1/pools", "", penstock.RoleViewer, penstock.RoleViewer},
		{"change the project", "POST", "/v1/apply", `{"dryRun":true,"objects":[` + manifest("Project", "", "lab", `{"owner":"me","costCentre":"2"}`) + `]}`, "", penstock.RoleAdmin},
		{"read the audit log", "GET", "/v1/audit", "", "", penstock.RoleOperator},
		{"see the cost", "GET", "/v1/cost", "", penstock.RoleViewer, penstock.RoleViewer},
	} {
		for _, role := range penstock.Roles() {
			for project, least := range map[string]penstock.Role{"lab": c.least, "": c.wide} {
				a := p.call(p.token(string(role), project, role), c.method, c.path, c.body)
				may := least != "" && role.Includes(least)
				if may != (a.status < 300) || !may && a.status != http.StatusForbidden {
					t.Errorf("%s as %s of %q: %d %s", c.what, role, project, a.status, a.body)
				}
			}
		}
	}
}

func TestMembershipBoundsATokenAtOnce(t *testing.T) {
	p := newPlant(t)
	ann := p.tenant("lab", "ann", penstock.RoleDeveloper)
	p.apply(ann, job("lab", "a"))
	p.apply(p.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1","members":[{"subject":"ann","role":"viewer"}]}`))
	p.refused(penstock.Denied, ann, "POST", "/v1/apply", `{"objects":[`+job("lab", "b")+`]}`)
	p.apply(p.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1"}`))
	p.refused(penstock.NotFound, ann, "GET", "/v1/jobs/lab/a", "")
}

func TestTokensAreShownOnceAndEndAtOnce(t *testing.T) {
	p := newPlant(t)
	made := decode[v1.TokenInfo](t, p.must(p.root, "POST", "/v1/tokens", `{"subject":"ann","role":"viewer"}`))
	if !strings.HasPrefix(made.Token, "pst_") {
		t.Fatalf("token %q", made.Token)
	}
	p.must(made.Token, "GET", "/v1/whoami", "")
	if list := p.must(p.root, "GET", "/v1/tokens", ""); !strings.Contains(list.body, made.ID) || strings.Contains(list.body, made.Token) {
		t.Errorf("the list: %s", list.body)
	}
	p.must(p.root, "DELETE", "/v1/tokens/"+made.ID, "")
	p.refused(penstock.Unauthenticated, made.Token, "GET", "/v1/whoami", "")
	p.refused(penstock.NotFound, p.root, "DELETE", "/v1/tokens/nobody", "")
	p.refused(penstock.Invalid, p.root, "POST", "/v1/tokens", `{"subject":"ann","role":"king"}`)
	key := decode[v1.TokenInfo](t, func() answer {
		p.tenant("lab", "bob", penstock.RoleDeveloper)
		return p.must(p.root, "POST", "/v1/tokens", `{"subject":"shop","project":"lab","key":{"perMinute":5}}`)
	}())
	p.refused(penstock.Denied, key.Token, "GET", "/v1/whoami", "")
	p.refused(penstock.Denied, key.Token, "POST", "/v1/agent/reports", `{}`)
}

// Whoever may not open a gate may not take it away either.
func TestOnlyAnApproverChangesTheGatesOfAModel(t *testing.T) {
	p := newPlant(t)
	p.apply(p.root, manifest("Project", "", "lab", `{"owner":"o","costCentre":"1","members":[
		{"subject":"dev","role":"developer"},{"subject":"app","role":"approver"}]}`))
	dev, app := p.token("dev", "lab", penstock.RoleDeveloper), p.token("app", "lab", penstock.RoleApprover)
	model := func(description, gates string) string {
		return manifest("Model", "lab", "m", `{"description":"`+description+`","gates":`+gates+`}`)
	}
	strict, loose := `{"production":{"approvals":2}}`, `{"production":{"approvals":1}}`
	p.apply(dev, model("a", strict)) // its maker sets the first gates
	for _, gates := range []string{loose, `{}`, `{"staging":{"approvals":1},"production":{"approvals":2}}`} {
		got := p.refused(penstock.Denied, dev, "POST", "/v1/apply", `{"objects":[`+model("a", gates)+`]}`)
		if diff := cmp.Diff("model/lab/m spec.gates", got.Where); diff != "" {
			t.Error(diff)
		}
		p.refused(penstock.Denied, dev, "POST", "/v1/apply", `{"dryRun":true,"objects":[`+job("lab", "x")+","+model("a", gates)+`]}`)
		p.refused(penstock.Denied, dev, "PUT", "/v1/models/lab/m", model("a", gates))
	}
	p.refused(penstock.Denied, dev, "DELETE", "/v1/models/lab/m", "")
	p.refused(penstock.Denied, dev, "POST", "/v1/delete", `{"refs":[{"kind":"Model","project":"lab","name":"m"}]}`)
	p.apply(dev, model("b", strict)) // the rest is the developer's
	p.apply(app, model("b", loose))
	p.refused(penstock.Denied, dev, "POST", "/v1/apply", `{"objects":[`+model("b", strict)+`]}`)
	p.must(app, "DELETE", "/v1/models/lab/m", "")
}
