package httpapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

func TestSecretsComeOutNowhere(t *testing.T) {
	const canary = "cAnArY-7f3a9b"
	p := lab(t)
	with := func(name, spec string) string { return manifest("Secret", "lab", name, spec) }
	answers := []string{}
	say := func(a answer) { answers = append(answers, fmt.Sprint(a.status, a.header, a.body)) }
	set := func(object string) string { return `{"objects":[` + object + `]}` }
	good := with("s", `{"values":{"key":"`+canary+`"}}`)
	say(p.must(p.root, "POST", "/v1/apply", strings.Replace(set(good), "{", `{"dryRun":true,`, 1)))
	say(p.must(p.root, "POST", "/v1/apply", set(good), "Idempotency-Key", "k"))
	say(p.must(p.root, "POST", "/v1/apply", set(good), "Idempotency-Key", "k"))
	say(p.must(p.root, "PUT", "/v1/secrets/lab/s", with("s", `{"values":{"key":"`+canary+`2"}}`)))
	for _, spec := range []string{ // what is wrong is told without the value
		`{"values":{"key":["` + canary + `"]}}`, `{"values":{"key":{"a":"` + canary + `"}}}`, `{"values":"` + canary + `"}`,
		`{"values":{"key":"` + canary + `"},"extra":"` + canary + `"}`, `{"values":{"k!":"` + canary + `"}}`, `{"values":{"key":"` + canary + `"`,
		`{"values":{"key":"` + canary + `\u00"}}`,
	} {
		say(p.call(p.root, "POST", "/v1/apply", set(with("t", spec))))
		say(p.call(p.root, "PUT", "/v1/secrets/lab/t", with("t", spec)))
	}
	say(p.call(p.root, "POST", "/v1/apply", set(with("t", `{"values":{"key":"`+canary+`"}}`))[:100]))
	for _, r := range p.routes("lab", "s") {
		if method, path, _ := strings.Cut(r, " "); method == "GET" && path != "/v1/watch" {
			say(p.call(p.root, method, path, ""))
		}
	}
	s := p.watch(p.listen(), p.root, "after=1")
	for range 2 {
		_, data := s.next()
		answers = append(answers, data)
	}
	for path, content := range p.files() {
		answers = append(answers, path+string(content))
	}
	answers = append(answers, p.log.String())
	for _, text := range answers {
		for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))[:16]} {
			if strings.Contains(text, form) {
				t.Errorf("the value came out: %.300s", text[max(0, strings.Index(text, form)-100):])
			}
		}
	}
}

// files are all that the plant wrote.
func (p *plant) files() map[string][]byte {
	p.t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		all[path], err = os.ReadFile(path)
		return err
	})
	if err != nil || len(all) < 2 {
		p.t.Fatal(len(all), err)
	}
	return all
}

func TestTokensAreNotKept(t *testing.T) {
	p := lab(t)
	made := decode[v1.TokenInfo](t, p.must(p.root, "POST", "/v1/tokens", `{"subject":"x","role":"viewer"}`))
	p.must(made.Token, "GET", "/v1/whoami", "")
	for path, content := range p.files() {
		for _, token := range []string{made.Token, p.root} {
			if bytes.Contains(content, []byte(token)) || bytes.Contains(content, []byte(token[21:])) {
				t.Errorf("%s holds a token", path)
			}
		}
	}
	if log := p.log.String(); strings.Contains(log, made.Token) || strings.Contains(log, p.root) {
		t.Error("the log holds a token")
	}
}

// trail is what the audit log says: actor, verb, target and outcome.
func (p *plant) trail() []string {
	p.t.Helper()
	p.server.Close() // the last entries of reads are written then
	var lines []string
	err := p.store.View(p.t.Context(), func(tx store.Tx) error {
		entries, err := tx.Audit(0, 1000)
		for _, e := range entries {
			lines = append(lines, strings.Join([]string{e.Actor, e.Verb, e.Target, e.Outcome, strings.Join(strings.Fields(e.Detail)[2:], " ")}, " "))
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return lines
}

func TestEveryCallLeavesAnAuditEntry(t *testing.T) {
	p := newPlant(t)
	viewer := p.tenant("lab", "vic", penstock.RoleViewer)
	key := p.issue(auth.Request{Use: store.Gateway, Subject: "shop", Project: "lab"})
	agent := p.issue(auth.Request{Use: store.Agent, Subject: "agent", Project: "lab", Attempt: "x"})
	p.apply(p.root, job("lab", "a"))
	p.must(p.root, "PUT", "/v1/jobs/lab/b", job("lab", "b"))
	p.call(viewer, "PUT", "/v1/jobs/lab/b", job("lab", "b"))
	p.call(viewer, "POST", "/v1/apply", `{"objects":[`+job("other", "a")+`]}`)
	p.call(viewer, "POST", "/v1/jobs/lab/a/stop", "")
	p.call(p.root, "POST", "/v1/apply", `{`)
	p.call(p.root, "DELETE", "/v1/nowhere", "")
	made := decode[v1.TokenInfo](t, p.must(p.root, "POST", "/v1/tokens", `{"subject":"eve","role":"viewer"}`))
	p.call(viewer, "POST", "/v1/models/lab/m/promote", `{"alias":"production","to":"sha256:1"}`)
	p.call(key, "POST", "/v1/apply", `{}`)
	p.call(agent, "DELETE", "/v1/jobs/lab/a", "")
	p.call(agent, "POST", "/v1/agent/reports", `{}`)
	p.call("", "DELETE", "/v1/jobs/lab/a", "")
	p.call(viewer, "GET", "/v1/jobs/other/a", "")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	p.callWith(gone, p.root, "DELETE", "/v1/jobs/lab/a")
	got := p.trail()
	want := []string{
		"root POST /v1/apply 200 project/lab",
		"root POST /v1/apply 200 job/lab/a",
		"root PUT /v1/jobs/lab/b 200 job/lab/b",
		"vic PUT /v1/jobs/lab/b 403 ",
		"vic POST /v1/apply 404 job/other/a",
		"vic POST /v1/jobs/lab/a/stop 403 ",
		"root POST /v1/apply 422 ",
		"root DELETE /v1/nowhere 404 ",
		"root POST /v1/tokens 200 made access token " + made.ID + " for eve",
		"vic POST /v1/models/lab/m/promote 403 production to sha256:1",
		"shop POST /v1/apply 403 ",
		"agent DELETE /v1/jobs/lab/a 403 ",
		"vic GET /v1/jobs/other/a 404 ",
	}
	if len(got) > 0 && strings.HasPrefix(got[len(got)-1], "root DELETE /v1/jobs/lab/a ") {
		got = got[:len(got)-1]
	} else if len(got) == len(want) {
		t.Error("the call of who left is missing")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	report, err := audit.Verify(t.Context(), p.store)
	if err != nil || report.Broken != nil {
		t.Errorf("the chain: %+v, %v", report, err)
	}
}

func TestAuditChainIsVerifiedOverTheAPI(t *testing.T) {
	p := lab(t)
	for _, path := range []string{"/v1/jobs/lab/%ff%fe", "/v1/jobs/lab/" + strings.Repeat("x", 2000), "/v1/jobs/lab/%00%1b%5b2J", "/v1/jobs/lab/ü"} {
		p.call(p.root, "DELETE", path, "")
	}
	report := decode[v1.AuditReport](t, p.must(p.root, "GET", "/v1/audit/verify", ""))
	if !report.Whole || report.Entries < 5 {
		t.Errorf("%+v", report)
	}
	entries := decode[[]v1.AuditEntry](t, p.must(p.root, "GET", "/v1/audit?after=1&limit=2", ""))
	if len(entries) != 2 || entries[0].Seq != 2 {
		t.Errorf("%+v", entries)
	}
}

func TestCallsAfterTheEndAreNotDoneUnseen(t *testing.T) {
	p := lab(t)
	p.server.Close()
	p.refused(penstock.Unavailable, p.root, "PUT", "/v1/jobs/lab/b", job("lab", "b"))
	p.must(p.root, "GET", "/v1/jobs", "")
	if !strings.Contains(p.log.String(), "audit entry was not written") {
		t.Error(p.log)
	}
}

// running stores a job with an attempt in a phase, and gives the agent's token.
func (p *plant) running(name string, phase penstock.Phase) (token string, attempt penstock.UID) {
	p.t.Helper()
	p.apply(p.root, job("lab", name))
	attempt = penstock.UID("01999999-0000-7000-8000-" + fmt.Sprintf("%012x", len(name)+1))
	err := p.store.Update(p.t.Context(), func(tx store.Tx) error {
		o, err := tx.Get(penstock.Ref{Kind: penstock.KindJob, Project: "lab", Name: name})
		if err != nil {
			return err
		}
		j, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		if err != nil {
			return err
		}
		j.Status.Attempt, j.Metadata.Phase = 1, penstock.PhaseStarting
		if o, err = j.Object(); err != nil {
			return err
		}
		if _, err := tx.Update(o); err != nil {
			return err
		}
		a, err := v1.Attempt{
			Kind:     penstock.KindAttempt,
			Metadata: v1.Metadata{UID: attempt, Project: "lab", Name: name + "-1", Phase: phase, Owner: o.Metadata.UID, CreatedAt: time.Now().UTC()},
			Spec:     v1.AttemptSpec{Job: name, JobUID: o.Metadata.UID, Number: 1, Tasks: []v1.PlacedTask{{Set: "main"}}},
			Status:   v1.AttemptStatus{Tasks: []v1.TaskStatus{{}}},
		}.Object()
		if err != nil {
			return err
		}
		_, err = tx.Create(a)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.issue(auth.Request{Use: store.Agent, Subject: "agent of " + name, Project: "lab", Attempt: attempt}), attempt
}

func TestAgentsReportForTheirAttemptAloneAndNotAfterItsEnd(t *testing.T) {
	p := lab(t)
	mine, _ := p.running("a", penstock.PhaseStarting)
	ended, _ := p.running("bb", penstock.PhaseLost)
	report, err := json.Marshal(v1.Reports{Reports: []v1.Report{{Seq: 1, At: time.Now(), Started: &v1.Started{PID: 7}}}})
	if err != nil {
		t.Fatal(err)
	}
	if a := p.must(mine, "POST", "/v1/agent/reports", string(report)); strings.TrimSpace(a.body) != `{"taken":1}` {
		t.Error(a.body)
	}
	started := func(name string) bool {
		return strings.Contains(p.must(p.root, "GET", "/v1/attempts/lab/"+name+"-1", "").body, `"pid":7`)
	}
	if !started("a") || started("bb") {
		t.Error("the report didn't reach its attempt, or reached another")
	}
	p.refused(penstock.Fenced, ended, "POST", "/v1/agent/reports", string(report))
	p.refused(penstock.Invalid, mine, "POST", "/v1/agent/reports", `{"reports":`)
	p.refused(penstock.Invalid, mine, "POST", "/v1/agent/reports", `{"reports":[]}`)
	blob := "/v1/agent/blobs/" + string(digestOf("step"))
	p.must(mine, "PUT", blob, "step")
	if a := p.must(mine, "GET", blob, ""); a.body != "step" {
		t.Error(a.body)
	}
	for _, method := range []string{"GET", "HEAD", "PUT"} {
		p.refused(penstock.Fenced, ended, method, blob, "step")
	}
	p.refused(penstock.Corrupt, mine, "PUT", blob, "other")
	for _, r := range p.routes("lab", "a") {
		if method, path, _ := strings.Cut(r, " "); !strings.HasPrefix(path, "/v1/agent/") {
			p.refused(penstock.Denied, mine, method, path, "{}")
		}
	}
	p.refused(penstock.Denied, p.root, "POST", "/v1/agent/reports", string(report))
}

func TestLogsOfWhatDidNotStartSayWhy(t *testing.T) {
	p := lab(t)
	p.apply(p.root, job("lab", "a"))
	got := p.refused(penstock.Pending, p.root, "GET", "/v1/jobs/lab/a/logs", "")
	if !strings.Contains(got.Detail, "not started") || !strings.Contains(got.Hint, "explain") {
		t.Errorf("%+v", got)
	}
	p.refused(penstock.NotFound, p.root, "GET", "/v1/jobs/lab/none/logs", "")
	for _, q := range []string{"rank=-1", "attempt=x", "tail=1e3"} {
		if got := p.refused(penstock.Invalid, p.root, "GET", "/v1/jobs/lab/a/logs?"+q, ""); !slices.Contains([]string{"rank", "attempt", "tail"}, got.Where) {
			t.Errorf("%+v", got)
		}
	}
}
