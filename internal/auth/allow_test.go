package auth_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/store"
)

var update = flag.Bool("update", false, "write the transcript anew")

var verbs = []auth.Verb{
	auth.Get, auth.List, auth.Watch, auth.Create, auth.Update, auth.Delete, auth.Run, auth.Stop, auth.Enter, auth.Reclaim, auth.Promote, auth.Approve,
}

func kinds() []penstock.Kind {
	return append(penstock.Kinds(), auth.KindBlob, auth.KindCost, auth.KindPrice, auth.KindAudit, auth.KindToken, auth.KindKey)
}

func holder(project string, role penstock.Role) auth.Principal {
	return auth.Principal{CredentialID: "id", Use: store.Access, Subject: "ann", Project: project, Role: role}
}

// place is the project that a call about kind names, for a caller from vision.
func place(kind penstock.Kind) string {
	switch kind {
	case penstock.KindPool, auth.KindPrice, auth.KindAudit:
		return ""
	}
	return "vision"
}

func outcome(err error) string {
	switch penstock.CodeOf(err) {
	case "":
		return "yes"
	case penstock.Denied:
		return "-"
	case penstock.NotFound:
		return "404"
	}
	return string(penstock.CodeOf(err))
}

// transcript writes what each role may do. "yes" holds for a token of the
// project and of the whole installation, "whole" for the latter only.
func transcript() string {
	var b strings.Builder
	heading := fmt.Sprintf("%-8s %-15s", "verb", "kind")
	for _, role := range penstock.Roles() {
		heading += fmt.Sprintf(" %-11s", role)
	}
	b.WriteString(strings.TrimRight(heading, " ") + "\n")
	for _, kind := range kinds() {
		for _, verb := range verbs {
			line, any := fmt.Sprintf("%-8s %-15s", verb, kind), false
			for _, role := range penstock.Roles() {
				inside := outcome(auth.Allow(holder("vision", role), verb, kind, place(kind)))
				wide := outcome(auth.Allow(holder("", role), verb, kind, place(kind)))
				if inside != wide {
					inside = "whole"
				}
				any = any || inside != "-"
				line += fmt.Sprintf(" %-11s", inside)
			}
			if any {
				b.WriteString(strings.TrimRight(line, " ") + "\n")
			}
		}
	}
	return b.String()
}

func TestTheMatrixIsTheOneOnPaper(t *testing.T) {
	const file = "testdata/matrix.txt"
	got := transcript()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("who may do what has changed; if that is meant, run with -update (-want +got)\n%s", diff)
	}
}

func TestEveryRouteDeniesTheAnonymous(t *testing.T) {
	for _, kind := range kinds() {
		for _, verb := range verbs {
			for _, project := range []string{"", "vision"} {
				if err := auth.Allow(auth.Principal{Role: penstock.RoleAdmin, Use: store.Access}, verb, kind, project); penstock.CodeOf(err) != penstock.Unauthenticated {
					t.Errorf("%s %s in %q: %v, want Unauthenticated", verb, kind, project, err)
				}
			}
		}
	}
	for _, err := range []error{auth.AllowEndpoint(auth.Principal{Use: store.Gateway}, "", ""), auth.AllowAttempt(auth.Principal{Use: store.Agent}, "")} {
		if penstock.CodeOf(err) != penstock.Unauthenticated {
			t.Errorf("%v, want Unauthenticated", err)
		}
	}
}

func TestAnotherTenantsThingsAreNotThere(t *testing.T) {
	for _, role := range penstock.Roles() {
		for _, kind := range kinds() {
			for _, verb := range verbs {
				if err := auth.Allow(holder("vision", role), verb, kind, "speech"); penstock.CodeOf(err) != penstock.NotFound {
					t.Errorf("%s: %s %s of another project: %v, want NotFound", role, verb, kind, err)
				}
			}
		}
	}
	one := auth.Allow(holder("vision", penstock.RoleAdmin), auth.Get, penstock.KindJob, "speech")
	other := auth.Allow(holder("vision", penstock.RoleAdmin), auth.Get, penstock.KindJob, "nosuchproject")
	if one.Error() != other.Error() {
		t.Errorf("a project that is there (%v) is told from one that isn't (%v)", one, other)
	}
}

func TestAStrongerRoleMayDoNoLess(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		verb, kind := rapid.SampledFrom(verbs).Draw(r, "verb"), rapid.SampledFrom(kinds()).Draw(r, "kind")
		mine, project := rapid.SampledFrom([]string{"", "vision"}).Draw(r, "mine"), rapid.SampledFrom([]string{"", "vision", "speech"}).Draw(r, "project")
		i := rapid.IntRange(0, 3).Draw(r, "role")
		weak, strong := penstock.Roles()[i], penstock.Roles()[i+1]
		if auth.Allow(holder(mine, weak), verb, kind, project) == nil && auth.Allow(holder(mine, strong), verb, kind, project) != nil {
			r.Fatalf("%s may %s a %s, %s may not", weak, verb, kind, strong)
		}
	})
}

func TestOnlyAccessTokensOpenTheAPI(t *testing.T) {
	for _, use := range []store.CredentialUse{store.Gateway, store.Agent, ""} {
		p := holder("vision", penstock.RoleAdmin)
		p.Use = use
		if err := auth.Allow(p, auth.Get, penstock.KindJob, "vision"); penstock.CodeOf(err) != penstock.Denied {
			t.Errorf("use %q: %v, want Denied", use, err)
		}
	}
}

func TestARefusalNamesTheRoleThatCould(t *testing.T) {
	err := auth.Allow(holder("vision", penstock.RoleViewer), auth.Create, penstock.KindJob, "vision")
	if want := "role viewer can't create a Job; developer can"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestTheRoleInAProjectIsTheWeakerOfTokenAndMembership(t *testing.T) {
	project := v1.Project{Metadata: v1.Metadata{Name: "vision"}, Spec: v1.ProjectSpec{Members: []v1.Member{
		{Subject: "ann", Role: penstock.RoleApprover}, {Subject: "eve", Role: "root"},
	}}}
	for _, c := range []struct {
		name, subject, token string
		role, want           penstock.Role
	}{
		{"token is the ceiling", "ann", "vision", penstock.RoleViewer, penstock.RoleViewer},
		{"membership is the ceiling", "ann", "vision", penstock.RoleAdmin, penstock.RoleApprover},
		{"not a member", "bob", "vision", penstock.RoleAdmin, ""},
		{"token of another project", "ann", "speech", penstock.RoleAdmin, ""},
		{"unknown role of the member", "eve", "vision", penstock.RoleAdmin, ""},
		{"unknown role of the token", "ann", "vision", "root", ""},
		{"whole installation, not a member", "bob", "", penstock.RoleOperator, penstock.RoleOperator},
	} {
		p := auth.Principal{CredentialID: "id", Use: store.Access, Subject: c.subject, Project: c.token, Role: c.role}
		if got := auth.Effective(p, project); got != c.want {
			t.Errorf("%s: role %q, want %q", c.name, got, c.want)
		}
		p.Role = c.want
		if err := auth.Allow(p, auth.Get, penstock.KindJob, "vision"); c.want == "" && penstock.CodeOf(err) != penstock.NotFound {
			t.Errorf("%s: without a role: %v, want NotFound", c.name, err)
		}
	}
}

func TestAGatewayKeyOpensItsEndpointsOnly(t *testing.T) {
	key := auth.Principal{CredentialID: "id", Use: store.Gateway, Project: "vision", Endpoints: []string{"chat", "embed"}}
	all := auth.Principal{CredentialID: "id", Use: store.Gateway, Project: "vision"}
	for _, c := range []struct {
		name              string
		p                 auth.Principal
		project, endpoint string
		want              penstock.Code
	}{
		{"its own", key, "vision", "embed", ""},
		{"not listed", key, "vision", "secret", penstock.NotFound},
		{"the same name elsewhere", key, "speech", "chat", penstock.NotFound},
		{"all of the project", all, "vision", "secret", ""},
		{"all, elsewhere", all, "speech", "chat", penstock.NotFound},
		{"an admin's access token", holder("", penstock.RoleAdmin), "vision", "chat", penstock.Denied},
	} {
		if err := auth.AllowEndpoint(c.p, c.project, c.endpoint); penstock.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestAnAgentReportsForItsAttemptOnly(t *testing.T) {
	p := auth.Principal{CredentialID: "id", Use: store.Agent, Project: "vision", Attempt: "a1"}
	for attempt, want := range map[penstock.UID]penstock.Code{"a1": "", "a2": penstock.NotFound, "": penstock.NotFound} {
		if err := auth.AllowAttempt(p, attempt); penstock.CodeOf(err) != want {
			t.Errorf("attempt %q: %v, want %q", attempt, err, want)
		}
	}
	if err := auth.AllowAttempt(holder("", penstock.RoleAdmin), "a1"); penstock.CodeOf(err) != penstock.Denied {
		t.Errorf("an admin: %v, want Denied", err)
	}
}

func TestEveryRuleIsReached(t *testing.T) {
	for i, rule := range auth.Rules() {
		for _, verb := range rule.Verbs {
			for _, kind := range rule.Kinds {
				first := slices.IndexFunc(auth.Rules(), func(r auth.Rule) bool { return slices.Contains(r.Verbs, verb) && slices.Contains(r.Kinds, kind) })
				if first != i {
					t.Errorf("rule %d for %s %s is hidden by rule %d", i, verb, kind, first)
				}
			}
		}
	}
}
