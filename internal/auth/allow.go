package auth

import (
	"fmt"
	"slices"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// Verb is what somebody wants to do with a thing.
type Verb string

// The verbs. Run starts a pipeline or a preparation by hand, Enter runs a command
// beside a job's task or reaches one of its ports, Reclaim takes a job's devices
// back, Promote moves an alias.
const (
	Get     Verb = "get"
	List    Verb = "list"
	Watch   Verb = "watch"
	Create  Verb = "create"
	Update  Verb = "update"
	Delete  Verb = "delete"
	Run     Verb = "run"
	Stop    Verb = "stop"
	Enter   Verb = "enter"
	Reclaim Verb = "reclaim"
	Promote Verb = "promote"
	Approve Verb = "approve"
)

// The things besides penstock.Kinds that a call can be about. A Key is a gateway
// key, a Token any other token.
const (
	KindBlob  penstock.Kind = "Blob"
	KindCost  penstock.Kind = "Cost"
	KindPrice penstock.Kind = "Price"
	KindAudit penstock.Kind = "Audit"
	KindToken penstock.Kind = "Token"
	KindKey   penstock.Kind = "Key"
)

// Rule lets a role, and those that include it, do Verbs with Kinds.
type Rule struct {
	Role  penstock.Role
	Verbs []Verb
	Kinds []penstock.Kind
	// Installation asks for a token of the whole installation: what is done
	// reaches beyond any project.
	Installation bool
}

// Rules is the whole of what may be done. What no rule names, nobody may do.
func Rules() []Rule {
	read, write := []Verb{Get, List, Watch}, []Verb{Create, Update, Delete}
	declared := []penstock.Kind{
		penstock.KindSecret, penstock.KindDataset, penstock.KindModel, penstock.KindJob,
		penstock.KindEndpoint, penstock.KindPipeline, penstock.KindMonitor,
	}
	return []Rule{
		{Role: penstock.RoleViewer, Verbs: read, Kinds: penstock.Kinds()},
		{Role: penstock.RoleViewer, Verbs: []Verb{Get, List}, Kinds: []penstock.Kind{KindBlob, KindCost, KindPrice}},
		{Role: penstock.RoleDeveloper, Verbs: write, Kinds: declared},
		{Role: penstock.RoleDeveloper, Verbs: []Verb{Create}, Kinds: []penstock.Kind{KindBlob}},
		{Role: penstock.RoleDeveloper, Verbs: []Verb{Run}, Kinds: []penstock.Kind{penstock.KindDataset, penstock.KindPipeline}},
		{Role: penstock.RoleDeveloper, Verbs: []Verb{Stop, Enter}, Kinds: []penstock.Kind{penstock.KindJob}},
		{Role: penstock.RoleDeveloper, Verbs: []Verb{Promote}, Kinds: []penstock.Kind{penstock.KindModel}},
		{Role: penstock.RoleDeveloper, Verbs: []Verb{Get, List, Create, Delete}, Kinds: []penstock.Kind{KindKey}},
		{Role: penstock.RoleApprover, Verbs: []Verb{Approve}, Kinds: []penstock.Kind{penstock.KindModelVersion}},
		{Role: penstock.RoleOperator, Verbs: []Verb{Reclaim}, Kinds: []penstock.Kind{penstock.KindJob}},
		{Role: penstock.RoleOperator, Verbs: write, Kinds: []penstock.Kind{penstock.KindPool}, Installation: true},
		{Role: penstock.RoleOperator, Verbs: []Verb{Create}, Kinds: []penstock.Kind{KindPrice}, Installation: true},
		{Role: penstock.RoleOperator, Verbs: []Verb{Get, List}, Kinds: []penstock.Kind{KindAudit}, Installation: true},
		{Role: penstock.RoleAdmin, Verbs: write, Kinds: []penstock.Kind{penstock.KindProject}, Installation: true},
		{Role: penstock.RoleAdmin, Verbs: []Verb{Get, List, Create, Delete}, Kinds: []penstock.Kind{KindToken}},
	}
}

// Effective is the role that p has in project: the token's role where the token
// is for the whole installation, else the weaker one of the token's role and the
// subject's membership. It is empty, which allows nothing, for a token of
// another project and for a subject that isn't a member.
func Effective(p Principal, project v1.Project) penstock.Role {
	switch p.Project {
	case "":
		return p.Role
	case project.Metadata.Name:
		i := slices.IndexFunc(project.Spec.Members, func(m v1.Member) bool { return m.Subject == p.Subject })
		if i < 0 {
			return ""
		}
		return weaker(p.Role, project.Spec.Members[i].Role)
	}
	return ""
}

// weaker gives the one that the other includes, and nothing if a role is unknown.
func weaker(a, b penstock.Role) penstock.Role {
	switch {
	case a.Includes(b):
		return b
	case b.Includes(a):
		return a
	}
	return ""
}

// Allow says whether p, whose Role is the effective one, may do verb with a
// thing of kind in project. project is the thing's project; for a Project its
// own name; empty for what belongs to the installation. What lies in a project
// that p can't see is NotFound, so that names of other tenants can't be found
// out by asking; all other refusals are Denied and name the role that could.
func Allow(p Principal, verb Verb, kind penstock.Kind, project string) error {
	switch {
	case p.CredentialID == "":
		return unauthenticated("no token was sent", "send it as Authorization: Bearer <token>")
	case p.Use != store.Access:
		return denied(fmt.Sprintf("a token for use %s can't %s a %s", p.Use, verb, kind), "use an access token, which starts with pst_")
	case project != "" && (p.Role == "" || p.Project != "" && p.Project != project):
		return notFound(kind)
	}
	rules := Rules()
	i := slices.IndexFunc(rules, func(r Rule) bool { return slices.Contains(r.Verbs, verb) && slices.Contains(r.Kinds, kind) })
	if i < 0 {
		return denied(fmt.Sprintf("nobody can %s a %s", verb, kind), "")
	}
	r := rules[i]
	switch wide := p.Project == ""; {
	case !p.Role.Includes(r.Role):
		return denied(fmt.Sprintf("role %s can't %s a %s; %s can", orNone(p.Role), verb, kind, r.Role), "ask somebody with that role, or an admin for the role")
	case !wide && (r.Installation || project == "" && !shared(verb, kind)):
		return denied(fmt.Sprintf("to %s a %s, a token for the whole installation is needed; this one is for project %s", verb, kind, p.Project), "ask an admin")
	}
	return nil
}

// shared reports what a project's token may look at outside of its project: the
// pools that its jobs run on, and what they cost.
func shared(verb Verb, kind penstock.Kind) bool {
	return (kind == penstock.KindPool || kind == KindPrice) && slices.Contains([]Verb{Get, List, Watch}, verb)
}

// AllowEndpoint says whether p may send requests to an endpoint. To any other
// key the endpoint isn't there.
func AllowEndpoint(p Principal, project, endpoint string) error {
	switch {
	case p.CredentialID == "":
		return unauthenticated("no key was sent", "send it as Authorization: Bearer <key>")
	case p.Use != store.Gateway:
		return denied(fmt.Sprintf("a token for use %s can't call models", p.Use), "use a gateway key, which starts with psk_")
	case p.Project != project || len(p.Endpoints) > 0 && !slices.Contains(p.Endpoints, endpoint):
		return notFound(penstock.KindEndpoint)
	}
	return nil
}

// AllowAttempt says whether p may report for an attempt.
func AllowAttempt(p Principal, attempt penstock.UID) error {
	switch {
	case p.CredentialID == "":
		return unauthenticated("no token was sent", "")
	case p.Use != store.Agent || p.Attempt == "":
		return denied(fmt.Sprintf("a token for use %s can't report", p.Use), "only the agent of an attempt reports for it")
	case p.Attempt != attempt:
		return notFound(penstock.KindAttempt)
	}
	return nil
}

func denied(msg, hint string) error {
	return &penstock.Error{Code: penstock.Denied, Msg: msg, Hint: hint}
}

// notFound is the same for what isn't there and for what may not be seen.
func notFound(kind penstock.Kind) error {
	return &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no such %s, or none that this token may see", kind)}
}

func orNone(r penstock.Role) string {
	if r == "" {
		return "none"
	}
	return string(r)
}
