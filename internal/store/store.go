// Package store is the port to the state: objects, the facts about them, and
// the log of changes. Adapters: sqlite; the suite in storetest holds for each.
//
// Everything happens in a transaction. Update transactions are serializable and
// are retried by the adapter when the database asks for it, so fn may run more
// than once and must have no effect but through its Tx. fn must not keep the Tx.
package store

import (
	"context"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Store gives transactions. All methods may be called from many goroutines.
type Store interface {
	// View runs fn on one consistent, read-only state.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn and commits what it did, all or nothing. When it returns
	// nil, the commit is durable.
	Update(ctx context.Context, fn func(Tx) error) error
	// Changed gives a channel that is closed after the next commit that changed
	// objects. It only wakes: what changed is read with Tx.Changes.
	Changed() <-chan struct{}
	// Close waits for running transactions and releases the database.
	Close() error
}

// Tx is what a transaction can do. Times are UTC, kept to the microsecond.
// Errors are *penstock.Error: NotFound, Exists, Conflict, OverLimit, and
// Internal for the database's own.
type Tx interface {
	Objects
	Facts
	Ledger
	Credentials
	Leases
}

// Objects are the resources of every kind, with optimistic locking.
type Objects interface {
	Get(ref penstock.Ref) (v1.Object, error)
	ByUID(uid penstock.UID) (v1.Object, error)
	// List gives objects in the order of creation (UID), Limit at most.
	List(q Query) ([]v1.Object, error)
	// Create stores a new object under its UID and sets Generation 1 and
	// Revision. A live object of the same Ref is Exists.
	Create(o v1.Object) (v1.Object, error)
	// Update replaces labels, phase, spec, status and the times of the object
	// that has o's UID, if its Revision is still o's; else it is Conflict. It
	// sets the new Revision; Generation goes up when the spec's bytes differ.
	Update(o v1.Object) (v1.Object, error)
	// Delete removes the object if its Revision is still the given one. Its
	// facts stay. An object that others point to with Link can't go: Busy.
	Delete(uid penstock.UID, revision int64) error

	// Link records that from came from to (or uses it): an edge of lineage, kept
	// by foreign keys. Linking twice changes nothing.
	Link(e Edge) error
	// Links gives the edges from or to uid.
	Links(uid penstock.UID) ([]Edge, error)

	// Changes gives what happened to objects after a revision, oldest first,
	// limit at most, and Conflict if the log no longer reaches back that far.
	Changes(after int64, limit int) ([]Change, error)
	// Revision is the newest revision.
	Revision() (int64, error)
}

// Query chooses objects. Zero fields choose everything.
type Query struct {
	Kind    penstock.Kind
	Project string
	Phases  []penstock.Phase
	Owner   penstock.UID
	// Labels must all be there with these values.
	Labels map[string]string
	// Retiring chooses only objects whose DeletedAt is set.
	Retiring bool
	// After is the UID after which the list goes on.
	After penstock.UID
	Limit int // 0 is no limit
}

// Edge is one line of lineage: From was made from, or with, To.
type Edge struct {
	From, To penstock.UID
	Relation string // "job", "dataset", "base", "checkpoint-job", "trigger"
}

// Op is what happened to an object.
type Op string

// The ops.
const (
	Created Op = "created"
	Updated Op = "updated"
	Deleted Op = "deleted"
)

// Change is one entry of the change log, with the object as it was after.
type Change struct {
	Revision int64
	Op       Op
	Object   v1.Object
}

// Facts are what happened. They are appended, never changed.
type Facts interface {
	AppendEvent(e Event) error
	// Events gives the newest events of an object (or of a whole project when
	// uid is empty), oldest first, limit at most.
	Events(project string, uid penstock.UID, limit int) ([]Event, error)

	AppendMetrics(job penstock.UID, attempt int, points []v1.MetricPoint) error
	// Metrics gives at most limit points of a job in order of time, evenly
	// thinned when there are more.
	Metrics(job penstock.UID, limit int) ([]v1.MetricPoint, error)

	// CommitCheckpoint records a complete step. Another one of the same job and
	// step with the same Digest changes nothing; with a different one it
	// replaces the old (a later attempt trained the step again).
	CommitCheckpoint(c v1.Checkpoint) error
	// Checkpoints gives a job's committed steps, newest step first.
	Checkpoints(job penstock.UID) ([]v1.Checkpoint, error)
	DropCheckpoint(job penstock.UID, step int64) error

	AppendAliasMove(m v1.AliasMove, project string) error
	AliasMoves(project, model string) ([]v1.AliasMove, error)

	// AppendAudit adds an entry to the hash chain: it sets Seq, Prev and Hash.
	AppendAudit(e AuditEntry) (AuditEntry, error)
	// Audit gives entries after a Seq, oldest first, limit at most.
	Audit(after int64, limit int) ([]AuditEntry, error)

	// Recall gives the remembered answer of an idempotency key, or NotFound.
	Recall(actor, key string) (Answer, error)
	Remember(a Answer) error
}

// Event is one thing that happened to an object, for people.
type Event struct {
	At      time.Time     `json:"at"`
	Project string        `json:"project,omitempty"`
	Kind    penstock.Kind `json:"kind"`
	UID     penstock.UID  `json:"uid"`
	Name    string        `json:"name"`
	Reason  string        `json:"reason"`
	Message string        `json:"message"`
}

// AuditEntry is one call and what came of it. Hash is the SHA-256, in hex, of
// Prev and the canonical JSON of the entry without Hash.
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
	Hash    string    `json:"hash,omitempty"`
}

// Answer is what an idempotent call was answered, so that a repetition gets it
// again. Request is the digest of the call: another call with the same key is
// the caller's mistake.
type Answer struct {
	Actor   string
	Key     string
	Request penstock.Digest
	Status  int
	Body    []byte
	At      time.Time
}

// Ledger holds the facts that become money.
type Ledger interface {
	// AppendUsage adds a use. The same ID again changes nothing.
	AppendUsage(u ...Usage) error
	// Usage gives the uses that overlap [from, to), in order of From.
	Usage(from, to time.Time) ([]Usage, error)

	// AppendRate adds a new price or capacity of a pool's resource, valid from
	// its time until the next.
	AppendRate(r Rate) error
	// Rates gives all rates from before to, in order of From.
	Rates(to time.Time) ([]Rate, error)

	// Reserve opens a request in the ledger. limit is how many tokens its key
	// may have, settled and reserved together; with more it is OverLimit, and
	// nothing is written. limit 0 is no limit.
	Reserve(r Request, limit int64) error
	// Settle closes a request with what it really used. Settling again changes
	// nothing and reports false.
	Settle(r Request) (first bool, err error)
	// Requests gives requests, newest first, limit at most.
	Requests(q RequestQuery) ([]Request, error)
	// Tally sums the settled requests of [from, to) by endpoint and version.
	Tally(from, to time.Time) ([]Tally, error)
}

// Usage is one resource held by one task from one time to another.
type Usage struct {
	ID       string // attempt UID, rank and resource: a use is counted once
	Project  string
	Job      penstock.UID
	JobName  string
	Attempt  int
	Rank     int
	Pool     string
	Node     string
	Resource penstock.Resource
	Amount   penstock.Amount
	From, To time.Time
	// Labels are those of the job at its start: model, dataset, environment,
	// team, endpoint, class and whatever its owner added.
	Labels map[string]string
	// Outcome is how the attempt ended: "succeeded", "failed", "lost", "stopped".
	Outcome string
}

// Rate is what a pool's resource costs for an hour, and how much of it the pool
// has, from a time on. Price < 0 means that the price isn't known.
type Rate struct {
	Pool     string
	Resource penstock.Resource
	Price    penstock.Money // for one CPU, one GiB or one device, for one hour
	Capacity penstock.Amount
	From     time.Time
}

// Request is one call of the gateway.
type Request struct {
	ID       string
	Key      string // id of the credential
	Project  string
	Endpoint penstock.UID
	// EndpointName and Version say what answered.
	EndpointName string
	Version      penstock.Digest
	Route        string // "chat", "completions", ...
	Started      time.Time
	Reserved     int64 // tokens held back until Settle

	// The rest is set by Settle.

	Ended            time.Time
	PromptTokens     int64
	CompletionTokens int64
	TTFT             time.Duration
	// Outcome is "ok", "aborted" (by the client), "failed" (by the upstream) or
	// "swept" (the gateway died with it).
	Outcome string
	// Source says where the token counts are from: "upstream", "counted" or
	// "estimated".
	Source string
	Status int // HTTP
}

// RequestQuery chooses requests.
type RequestQuery struct {
	Endpoint penstock.UID
	Key      string
	// Open chooses those that are reserved and not settled.
	Open  bool
	Limit int
}

// Tally is the sum of an endpoint's settled requests.
type Tally struct {
	Project          string
	Endpoint         penstock.UID
	EndpointName     string
	Version          penstock.Digest
	Requests         int64
	Succeeded        int64
	PromptTokens     int64
	CompletionTokens int64
}

// Leases say which of several servers may do something that only one may do.
// Whether a holder still lives is judged by who would like to take over, with a
// Vigil, so no two clocks are ever compared.
type Leases interface {
	// Lease gives a lease as it is. One that nobody holds has no Holder, and one
	// that nobody ever took is all zero but for its Name.
	Lease(name string) (Lease, error)
	// TakeLease makes holder the holder from a time on, under the next Token, if
	// the lease is still as it was seen; else it is Conflict. It takes what
	// others hold, too: whether that may be is for the caller to know.
	TakeLease(seen Lease, holder string, at time.Time) (Lease, error)
	// CheckLease is Fenced unless held is still the lease's Holder and Token. A
	// transaction that checked it comes before the next TakeLease or fails.
	CheckLease(held Lease) error
	// BeatLease raises Beat, which tells others that the holder lives. Fenced
	// like CheckLease, as are the following.
	BeatLease(held Lease) (Lease, error)
	// ReturnLease leaves the lease without a Holder.
	ReturnLease(held Lease) error
	// DropLease removes the lease of something that is done for good: under the
	// same name tokens begin anew.
	DropLease(held Lease) error
}

// Lease is who holds what has that name.
type Lease struct {
	Name string
	// Holder is a name that no other holder ever has, not even the same server
	// after a restart.
	Holder string
	// Token goes up by one whenever the lease is taken: the fencing token.
	Token int64
	// Beat goes up by one whenever the holder says that it lives.
	Beat int64
	// Since is when the holder took it, by the holder's clock: for people.
	Since time.Time
}

// Credentials are the tokens and keys that callers show. Only hashes are kept.
type Credentials interface {
	PutCredential(c Credential) error
	// CredentialByHash gives the credential, revoked and expired ones too.
	CredentialByHash(hash string) (Credential, error)
	// ListCredentials gives those of a project, or all with "".
	ListCredentials(project string) ([]Credential, error)
	// RevokeCredential marks it from a time on. NotFound if there is none.
	RevokeCredential(id string, at time.Time) error
}

// Credential is one token or key.
type Credential struct {
	ID      string // public part, shown in lists and audit
	Hash    string // SHA-256 of the whole token, hex
	Use     CredentialUse
	Subject string // who
	// Project bounds the token; empty is the whole installation.
	Project string
	Role    penstock.Role // for Use Access
	Attempt penstock.UID  // for Use Agent
	// Endpoints, Limit and Rate are for Use Gateway: which endpoints (empty is
	// all of the project), how many tokens in all, how many requests a minute.
	Endpoints []string
	Limit     int64
	Rate      int64
	Created   time.Time
	Expires   time.Time // zero is never
	Revoked   time.Time // zero is not
}

// CredentialUse is what a credential opens.
type CredentialUse string

// Access tokens open the API, Gateway keys the models, Agent tokens the reports
// of one attempt.
const (
	Access  CredentialUse = "access"
	Gateway CredentialUse = "gateway"
	Agent   CredentialUse = "agent"
)
