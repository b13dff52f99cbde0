package httpapi_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/httpapi"
)

func digestOf(content string) penstock.Digest {
	sum := sha256.Sum256([]byte(content))
	return penstock.DigestOf(sum[:])
}

// lab is a plant with a project of that name.
func lab(t *testing.T, edits ...func(*httpapi.Options)) *plant {
	t.Helper()
	p := newPlant(t, edits...)
	p.tenant("lab", "ann", penstock.RoleDeveloper)
	return p
}

func TestRefusalsSayWhereAndWhatToDo(t *testing.T) {
	p := lab(t)
	set := func(objects ...string) string { return `{"objects":[` + strings.Join(objects, ",") + `]}` }
	for _, c := range []struct{ what, method, path, body, where, says, hint string }{
		{"unknown field of a put", "PUT", "/v1/jobs/lab/a", strings.Replace(job("lab", "a"), `"command"`, `"comand"`, 1), "spec.tasks[0].comand", "unknown field", "did you mean command?"},
		{"unknown field of metadata", "PUT", "/v1/jobs/lab/a", strings.Replace(job("lab", "a"), `"name":"a"`, `"name":"a","lables":{}`, 1), "metadata.lables", "unknown field", "labels"},
		{"another object's path", "PUT", "/v1/jobs/lab/b", job("lab", "a"), "metadata", "the body is job/lab/a, the path names job/lab/b", ""},
		{"two objects of a put", "PUT", "/v1/jobs/lab/a", job("lab", "a") + job("lab", "a"), "", "", ""},
		{"bad JSON", "PUT", "/v1/jobs/lab/a", `{"kind":`, "body", "", ""},
		{"no body", "PUT", "/v1/jobs/lab/a", "", "", "", ""},
		{"bad UTF-8", "POST", "/v1/apply", set(strings.Replace(job("lab", "a"), "true", "tr\xffe", 1)), "body", "not UTF-8", ""},
		{"unknown field of an apply", "POST", "/v1/apply", strings.Replace(set(job("lab", "a")), "{", `{"dry_run":true,`, 1), "body", `unknown field "dry_run"`, "dryRun"},
		{"wrong type in an apply", "POST", "/v1/apply", `{"objects":7}`, "body", "objects can't be number", ""},
		{"nothing to apply", "POST", "/v1/apply", `{"objects":[]}`, "", "no object was named", ""},
		{"no object", "POST", "/v1/apply", `{"objects":[7]}`, "objects[0]", "must be an object", ""},
		{"fault in the second object", "POST", "/v1/apply", set(job("lab", "a"), strings.Replace(job("lab", "b"), `"1"`, `"1 core"`, 1)), "objects[1].spec.tasks[0].resources.cpu", "1 core", ""},
		{"accelerator that no pool has", "POST", "/v1/apply", set(job("lab", "a"), strings.Replace(job("lab", "b"), `"cpu"`, `"h10"`, 1)), "job/lab/b spec.tasks[0].resources", "h10", ""},
		{"twice", "POST", "/v1/apply", set(job("lab", "a"), job("lab", "a")), "job/lab/a", "declared twice", ""},
		{"path in a name", "PUT", "/v1/jobs/lab/etc%2fpasswd", job("lab", "etc/passwd"), "metadata.name", "can't be a name", ""},
		{"made by Penstock", "POST", "/v1/apply", set(manifest("Attempt", "lab", "a", `{}`)), "objects[0].kind", "made by Penstock", ""},
		{"bad label", "GET", "/v1/jobs?label=x", "", "label", "has no =", "key=value"},
		{"unknown phase", "GET", "/v1/jobs?phase=Runing", "", "phase", "not a phase", "Running"},
		{"page too long", "GET", "/v1/jobs?limit=100000", "", "query.limit", "", ""},
		{"bad time", "GET", "/v1/cost?from=yesterday", "", "query.from", "", ""},
		{"unknown dimension", "GET", "/v1/cost?by=job&by=colour", "", "", "colour", ""},
		{"bad ETag", "PUT", "/v1/jobs/lab/a", job("lab", "a"), "If-Match", "not an ETag", ""},
		{"unknown kind to watch", "GET", "/v1/watch?kind=Jobb", "", "kind", "not a kind", "Job"},
		{"bad place to watch from", "GET", "/v1/watch?after=x", "", "after", "not a revision", "list"},
		{"unknown field of a token", "POST", "/v1/tokens", `{"subject":"x","rol":"viewer"}`, "body.rol", "unexpected property", ""},
	} {
		var header []string
		if c.what == "bad ETag" {
			header = []string{"If-Match", "soon"}
		}
		got := p.refused(penstock.Invalid, p.root, c.method, c.path, c.body, header...)
		if !strings.HasPrefix(got.Where, c.where) || !strings.Contains(got.Detail, c.says) || !strings.Contains(got.Hint, c.hint) {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
	if got := p.call(p.root, "GET", "/v1/jobs", "").body; !strings.Contains(got, `"items":[]`) {
		t.Errorf("refused calls left something: %s", got)
	}
}

func TestPathTricksLeadNowhere(t *testing.T) {
	p := lab(t)
	p.apply(p.root, job("lab", "a"))
	for _, path := range []string{
		"/v1/jobs/x/../lab/a", "/v1//jobs/lab/a", "/v1/jobs/lab/a/", "/v1/jobs/lab/%2e%2e/a", "/v1/jobs/lab/a%00", "/v1/jobs/lab/%ff",
		"/v1/jobs/lab/a%2f..%2fa", "/v1/./jobs", "/v1/jobs/lab%2fa", "/v1/nothing", "/v1/agents/reports",
	} {
		p.refused(penstock.NotFound, p.root, "GET", path, "")
	}
	for _, path := range []string{"..%2f..%2fetc%2fpasswd", "sha256:zz", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("0", 63) + "%2f", "sha512:" + strings.Repeat("0", 64)} {
		for _, method := range []string{"PUT", "HEAD"} {
			if a := p.call(p.root, method, "/v1/blobs/"+path, "x"); a.status != http.StatusUnprocessableEntity && a.status != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	p := lab(t, func(o *httpapi.Options) { o.MaxBody, o.MaxObjects = 4<<10, 2 })
	large := job("lab", strings.Repeat("a", 8<<10))
	p.refused(penstock.TooLarge, p.root, "PUT", "/v1/jobs/lab/a", large)
	p.refused(penstock.TooLarge, p.root, "PUT", "/v1/jobs/lab/a", large, "Idempotency-Key", "k")
	p.refused(penstock.TooLarge, p.root, "POST", "/v1/apply", `{"objects":[`+job("lab", "a")+`,`+job("lab", "b")+`,`+job("lab", "c")+`]}`)
	p.refused(penstock.Invalid, p.root, "POST", "/v1/apply", `{}`, "Idempotency-Key", strings.Repeat("k", 200))
	r := httptest.NewRequest("PUT", "/api/v1/blobs/"+string(digestOf("x")), strings.NewReader("x"))
	r.Header.Set("Authorization", "Bearer "+p.root)
	r.ContentLength = 5 << 30
	w := httptest.NewRecorder()
	p.server.Handler().ServeHTTP(w, r)
	p.problem(penstock.TooLarge, "blob", answer{w.Code, w.Result().Header, w.Body.String()})
}

func TestMissingProjectIsNamed(t *testing.T) {
	p := newPlant(t)
	got := p.refused(penstock.NotFound, p.root, "POST", "/v1/apply", `{"objects":[`+job("nowhere", "a")+`]}`)
	if got.Where != "job/nowhere/a" || !strings.Contains(got.Detail, `no project "nowhere"`) || !strings.Contains(got.Hint, "apply a Project") {
		t.Errorf("%+v", got)
	}
}

func TestBlobsAreWhatTheirDigestSays(t *testing.T) {
	p := lab(t)
	path := "/v1/blobs/" + string(digestOf("hello"))
	p.problem(penstock.NotFound, "HEAD", p.call(p.root, "HEAD", path, ""))
	got := p.refused(penstock.Corrupt, p.root, "PUT", path, "hullo")
	if !strings.Contains(got.Detail, digestOf("hello").Hex()[:12]) {
		t.Errorf("the refusal doesn't name the digest: %+v", got)
	}
	if a := p.call(p.root, "HEAD", path, ""); a.status != http.StatusNotFound {
		t.Errorf("wrong bytes were kept: %d", a.status)
	}
	p.must(p.root, "PUT", path, "hello")
	p.must(p.root, "PUT", path, "hello")
	if a := p.must(p.root, "HEAD", path, ""); a.header.Get("Content-Length") != "5" {
		t.Errorf("length %q", a.header.Get("Content-Length"))
	}
	if a := p.call(p.root, "GET", path, ""); a.status == http.StatusOK && a.body != "" {
		t.Errorf("bytes are given to people: %s", a.body)
	}
}

func TestIfMatchKeepsChangesOfOthers(t *testing.T) {
	p := lab(t)
	path := "/v1/projects/-/lab"
	first := p.must(p.root, "GET", path, "")
	etag := first.header.Get("ETag")
	project := func(owner string) string {
		return manifest("Project", "", "lab", `{"owner":"`+owner+`","costCentre":"1"}`)
	}
	second := p.must(p.root, "PUT", path, project("two"), "If-Match", etag)
	if second.header.Get("ETag") == etag {
		t.Fatalf("the ETag stayed %s", etag)
	}
	for _, c := range []answer{
		p.call(p.root, "PUT", path, project("three"), "If-Match", etag),
		p.call(p.root, "DELETE", path, "", "If-Match", etag),
		p.call(p.root, "POST", "/v1/apply", `{"objects":[`+strings.Replace(project("three"), `"project":""`, `"revision":`+strings.Trim(etag, `"`), 1)+`]}`),
		p.call(p.root, "PUT", "/v1/jobs/lab/none", job("lab", "none"), "If-Match", etag),
	} {
		p.problem(penstock.Conflict, "stale", c)
	}
	same := p.must(p.root, "PUT", path, project("two"), "If-Match", second.header.Get("ETag"))
	if diff := cmp.Diff(second.body, same.body); diff != "" {
		t.Errorf("the same again changed something:\n%s", diff)
	}
}

func TestIdempotencyKeysDoThingsOnce(t *testing.T) {
	p := lab(t)
	body := `{"objects":[` + job("lab", "a") + `]}`
	first := p.must(p.root, "POST", "/v1/apply", body, "Idempotency-Key", "k")
	after := p.revision()
	again := p.must(p.root, "POST", "/v1/apply", body, "Idempotency-Key", "k")
	if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" || p.revision() != after {
		t.Errorf("the repetition: %s, want %s", again.body, first.body)
	}
	p.refused(penstock.Invalid, p.root, "POST", "/v1/apply", strings.Replace(body, `"a"`, `"b"`, 1), "Idempotency-Key", "k")
	p.refused(penstock.Invalid, p.root, "POST", "/v1/delete", body, "Idempotency-Key", "k")
	other := p.must(p.token("root", "", penstock.RoleAdmin), "POST", "/v1/apply", body, "Idempotency-Key", "k")
	if !strings.Contains(other.body, "unchanged") {
		t.Errorf("another token got somebody else's answer: %s", other.body)
	}
	p.refused(penstock.NotFound, p.root, "POST", "/v1/apply", strings.Replace(body, `"lab"`, `"later"`, 1), "Idempotency-Key", "f")
	p.apply(p.root, manifest("Project", "", "later", `{"owner":"o","costCentre":"1"}`))
	p.must(p.root, "POST", "/v1/apply", strings.Replace(body, `"lab"`, `"later"`, 1), "Idempotency-Key", "f")
	p.refused(penstock.Invalid, p.root, "POST", "/v1/tokens", `{"subject":"x","role":"viewer"}`, "Idempotency-Key", "t")
}

// slow is a control whose Stop waits.
type slow struct {
	httpapi.Control
	begun, ahead chan struct{}
}

func (s *slow) Stop(ctx context.Context, by string, ref penstock.Ref) (v1.Job, error) {
	s.begun <- struct{}{}
	<-s.ahead
	return s.Control.Stop(ctx, by, ref)
}

func TestCallsWithOneKeyDontRunTogether(t *testing.T) {
	s := &slow{begun: make(chan struct{}), ahead: make(chan struct{})}
	p := lab(t, func(o *httpapi.Options) { s.Control, o.Control = o.Control, s })
	p.apply(p.root, job("lab", "a"))
	done := make(chan answer)
	go func() { done <- p.call(p.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k") }()
	<-s.begun
	p.refused(penstock.Busy, p.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k")
	close(s.ahead)
	first := <-done
	if again := p.must(p.root, "POST", "/v1/jobs/lab/a/stop", "", "Idempotency-Key", "k"); again.body != first.body {
		t.Errorf("the repetition: %s, want %s", again.body, first.body)
	}
}

func TestDryRunsChangeNothing(t *testing.T) {
	p := lab(t)
	p.apply(p.root, job("lab", "a"))
	before, objects := p.revision(), p.must(p.root, "GET", "/v1/jobs", "").body
	got := decode[v1.ApplyAnswer](t, p.must(p.root, "POST", "/v1/apply", `{"dryRun":true,"objects":[`+job("lab", "a")+`,`+job("lab", "b")+`,`+
		manifest("Project", "", "lab", `{"owner":"new","costCentre":"1"}`)+`]}`))
	actions := map[string]string{}
	for _, r := range got.Results {
		actions[r.Ref.String()] = r.Action
	}
	if diff := cmp.Diff(map[string]string{"project/lab": "changed", "job/lab/a": "unchanged", "job/lab/b": "created"}, actions); diff != "" {
		t.Error(diff)
	}
	p.must(p.root, "POST", "/v1/delete", `{"dryRun":true,"refs":[{"kind":"Job","project":"lab","name":"a"}]}`)
	if after := p.revision(); after != before || p.must(p.root, "GET", "/v1/jobs", "").body != objects {
		t.Errorf("revision %d, was %d", after, before)
	}
}

func TestPagesGiveEachObjectOnce(t *testing.T) {
	p := lab(t)
	var want, got []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("j%d", i))
		p.apply(p.root, job("lab", want[i]))
	}
	for after, pages := "", 0; pages < 10; pages++ {
		page := decode[v1.List[v1.JobSpec, v1.JobStatus]](t, p.must(p.root, "GET", "/v1/jobs?project=lab&limit=3&after="+after, ""))
		for _, o := range page.Items {
			got = append(got, o.Metadata.Name)
		}
		if after = string(page.Next); after == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	p := lab(t)
	p.apply(p.root, job("lab", "a"), manifest("Model", "lab", "m", `{}`))
	for _, path := range []string{"/v1/jobs/lab/a/metrics", "/v1/jobs/lab/a/checkpoints", "/v1/models/lab/m/history"} {
		if a := p.must(p.root, "GET", path, ""); strings.TrimSpace(a.body) != "[]" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}

func TestListsTakeSeveralPhasesAndLabels(t *testing.T) {
	p := lab(t)
	labelled := func(name, labels string) string {
		return strings.Replace(job("lab", name), `"name"`, `"labels":`+labels+`,"name"`, 1)
	}
	p.apply(p.root, labelled("a", `{"x":"1","y":"2"}`), labelled("b", `{"x":"1","y":"3"}`), labelled("c", `{"x":"1,5","y":"3"}`))
	p.must(p.root, "POST", "/v1/jobs/lab/b/stop", "")
	names := func(query string) []string {
		var all []string
		for _, o := range decode[v1.List[v1.JobSpec, v1.JobStatus]](t, p.must(p.root, "GET", "/v1/jobs?"+query, "")).Items {
			all = append(all, o.Metadata.Name)
		}
		slices.Sort(all)
		return all
	}
	for query, want := range map[string][]string{
		"phase=Pending&phase=Stopped": {"a", "b", "c"}, "phase=Stopped": {"b"}, "label=x%3D1&label=y%3D2": {"a"}, "label=x%3D1%2C5": {"c"}, "label=y%3D9": nil,
	} {
		if diff := cmp.Diff(want, names(query)); diff != "" {
			t.Errorf("%s:\n%s", query, diff)
		}
	}
	report := decode[v1.CostReport](t, p.must(p.root, "GET", "/v1/cost?by=job&by=team", ""))
	if diff := cmp.Diff([]string{"job", "team"}, report.By); diff != "" {
		t.Error(diff)
	}
}

// broken is a control with a fault of its own.
type broken struct{ httpapi.Control }

func (broken) Explain(context.Context, penstock.Ref) (v1.Explanation, error) {
	return v1.Explanation{}, fmt.Errorf("open /var/secret/path: %w", errors.New("dial 10.1.2.3"))
}

func (broken) Stop(context.Context, string, penstock.Ref) (v1.Job, error) {
	return v1.Job{}, &penstock.Error{Code: penstock.Unavailable, Msg: "the fleet is away", Err: errors.New("dial 10.1.2.3")}
}

func TestCausesStayInTheLog(t *testing.T) {
	p := lab(t, func(o *httpapi.Options) { o.Control = broken{o.Control} })
	got := p.refused(penstock.Internal, p.root, "GET", "/v1/explain/Job/lab/a", "")
	id := strings.TrimPrefix(got.Detail, "internal fault ")
	if len(id) != 10 || !strings.Contains(p.log.String(), id) || !strings.Contains(p.log.String(), "/var/secret/path") {
		t.Errorf("detail %q; log:\n%s", got.Detail, p.log)
	}
	stopped := p.refused(penstock.Unavailable, p.root, "POST", "/v1/jobs/lab/a/stop", "")
	if diff := cmp.Diff("the fleet is away", stopped.Detail); diff != "" {
		t.Error(diff)
	}
}

// gossip explains with a holder of another project.
type gossip struct{ httpapi.Control }

func (gossip) Explain(_ context.Context, ref penstock.Ref) (v1.Explanation, error) {
	return v1.Explanation{Ref: ref, Holders: []v1.Holder{
		{Job: penstock.Ref{Kind: "Job", Project: "lab", Name: "mine"}}, {Job: penstock.Ref{Kind: "Job", Project: "rival", Name: "secret-launch"}},
	}}, nil
}

func TestExplanationsDontNameJobsOfOtherTenants(t *testing.T) {
	p := newPlant(t, func(o *httpapi.Options) { o.Control = gossip{o.Control} })
	ann := p.tenant("lab", "ann", penstock.RoleDeveloper)
	got := p.must(ann, "GET", "/v1/explain/Job/lab/a", "").body
	if strings.Contains(got, "rival") || strings.Contains(got, "secret-launch") || !strings.Contains(got, "mine") {
		t.Error(got)
	}
	if all := p.must(p.root, "GET", "/v1/explain/Job/lab/a", "").body; !strings.Contains(all, "secret-launch") {
		t.Error(all)
	}
}
