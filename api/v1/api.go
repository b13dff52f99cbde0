package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Problem is how the API says no: RFC 9457, with Penstock's code, place and hint.
type Problem struct {
	Type   string        `json:"type"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Code   penstock.Code `json:"code"`
	Where  string        `json:"where,omitempty"`
	Hint   string        `json:"hint,omitempty"`
}

// List is a page of objects. Next, where given, is the After of the next page;
// Revision is where a watch can go on from.
type List[S, T any] struct {
	Items    []Resource[S, T] `json:"items"`
	Next     penstock.UID     `json:"next,omitempty"`
	Revision int64            `json:"revision"`
}

// ApplyRequest is a set of objects to make so, all or none.
type ApplyRequest struct {
	Objects []Object `json:"objects"`
	DryRun  bool     `json:"dryRun,omitempty"`
}

// ApplyAnswer tells what was done, in the order in which it was.
type ApplyAnswer struct {
	Results []ApplyResult `json:"results"`
}

// DeleteRequest names objects to retire.
type DeleteRequest struct {
	Refs   []penstock.Ref `json:"refs"`
	DryRun bool           `json:"dryRun,omitempty"`
}

// DeleteAnswer is the record of what went, what was kept and why.
type DeleteAnswer struct {
	Retirements []Retirement `json:"retirements"`
}

// Change is one event of a watch. Its SSE id is the Revision to go on from.
type Change struct {
	Revision int64  `json:"revision"`
	Op       string `json:"op" enum:"created,updated,deleted"`
	Object   Object `json:"object"`
}

// ApproveRequest is a yes for one alias.
type ApproveRequest struct {
	Alias   string `json:"alias"`
	Comment string `json:"comment,omitempty"`
}

// PromoteRequest moves an alias from one version to another. From is what the
// alias points to now; empty for nothing.
type PromoteRequest struct {
	Alias string          `json:"alias"`
	From  penstock.Digest `json:"from,omitempty"`
	To    penstock.Digest `json:"to"`
	Note  string          `json:"note,omitempty"`
}

// TokenRequest asks for a token, or for a gateway key when Key is given.
type TokenRequest struct {
	Subject string        `json:"subject"`
	Project string        `json:"project,omitempty"`
	Role    penstock.Role `json:"role,omitempty"`
	Expires time.Time     `json:"expires,omitzero"`
	Key     *KeyLimits    `json:"key,omitempty"`
}

// KeyLimits bound a gateway key.
type KeyLimits struct {
	Endpoints []string `json:"endpoints,omitempty"` // empty is all of the project
	Tokens    int64    `json:"tokens,omitempty"`    // in all; 0 is no limit
	PerMinute int64    `json:"perMinute,omitempty"` // requests; 0 is no limit
}

// TokenInfo is what is known of a token. Token is set once, when it is made.
type TokenInfo struct {
	ID      string        `json:"id"`
	Use     string        `json:"use" enum:"access,gateway"`
	Subject string        `json:"subject"`
	Project string        `json:"project,omitempty"`
	Role    penstock.Role `json:"role,omitempty"`
	Key     *KeyLimits    `json:"key,omitempty"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires,omitzero"`
	Revoked time.Time     `json:"revoked,omitzero"`
	Token   string        `json:"token,omitempty"`
}

// AuditEntry is one call and what came of it; see the store for its hash.
type AuditEntry struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Role    string    `json:"role,omitempty"`
	Verb    string    `json:"verb"`
	Target  string    `json:"target"`
	Outcome string    `json:"outcome"`
	Detail  string    `json:"detail,omitempty"`
	Prev    string    `json:"prev"`
	Hash    string    `json:"hash"`
}

// AuditReport is the verdict on the audit chain.
type AuditReport struct {
	Entries int64  `json:"entries"`
	Whole   bool   `json:"whole"`
	Head    string `json:"head"`             // hash of the newest entry
	Broken  int64  `json:"broken,omitempty"` // first Seq that doesn't fit
	Detail  string `json:"detail,omitempty"`
}

// CostReport is what the fleet cost in [From, To) and who used it. Total is
// what the pools cost; the lines and Idle sum to it exactly.
type CostReport struct {
	From     time.Time      `json:"from"`
	To       time.Time      `json:"to"`
	Currency string         `json:"currency"`
	By       []string       `json:"by"`
	Total    penstock.Money `json:"total"`
	Idle     penstock.Money `json:"idle"`
	Lines    []CostLine     `json:"lines"`
	// Endpoints are the unit costs of what was served.
	Endpoints []UnitCost `json:"endpoints,omitempty"`
	// Unpriced is use whose price isn't known; it is not in Total.
	Unpriced []string `json:"unpriced,omitempty"`
	// Imbalances are places where more was used than there was.
	Imbalances []string `json:"imbalances,omitempty"`
}

// CostLine is the cost of one group. Lost is the part of it that was spent on
// attempts that were lost, failed or stopped.
type CostLine struct {
	Keys map[string]string `json:"keys"`
	Cost penstock.Money    `json:"cost"`
	Lost penstock.Money    `json:"lost"`
}

// UnitCost is what one endpoint's answers cost. A quotient by zero is null.
type UnitCost struct {
	Project             string          `json:"project"`
	Endpoint            string          `json:"endpoint"`
	Cost                penstock.Money  `json:"cost"`
	Requests            int64           `json:"requests"`
	Succeeded           int64           `json:"succeeded"`
	PromptTokens        int64           `json:"promptTokens"`
	CompletionTokens    int64           `json:"completionTokens"`
	PerThousandRequests *penstock.Money `json:"perThousandRequests"`
	PerSuccess          *penstock.Money `json:"perSuccess"`
	PerThousandTokens   *penstock.Money `json:"perThousandTokens"`
}

// Whoami is who a token belongs to.
type Whoami struct {
	Subject string        `json:"subject"`
	Role    penstock.Role `json:"role"`
	Project string        `json:"project,omitempty"`
	Version string        `json:"version"`
}
