package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/store"
)

// retryDown is how long a replica that couldn't be reached is asked only if
// there is no other.
const retryDown = 5 * time.Second

// endpoint is what the gateway needs of an Endpoint.
type endpoint struct {
	uid      penstock.UID
	project  string
	name     string
	context  int64 // tokens of one request; 0 is unknown
	created  time.Time
	replicas []*replica // the ready ones
}

// model is the endpoint's full name in requests.
func (e *endpoint) model() string { return e.project + "/" + e.name }

// replica is one address, and what goes on there. It outlives changes of the
// endpoint, so that its count stays right.
type replica struct {
	address string
	version penstock.Digest

	// The table's lock guards the rest.
	inFlight int
	turn     int64     // when it was chosen last
	down     time.Time // until when it is avoided
}

// table is the endpoints and their replicas, as last committed.
type table struct {
	store store.Store

	mu       sync.Mutex
	changed  <-chan struct{} // closed when what follows is old; nil before the first load
	byModel  map[string]*endpoint
	replicas map[string]*replica // by endpoint UID and address
	turns    int64
}

func newTable(s store.Store) *table {
	return &table{store: s, replicas: map[string]*replica{}}
}

// load reads the endpoints again if anything was committed since. The caller
// holds the lock, so that one change makes one read.
func (t *table) load(ctx context.Context) error {
	if t.changed != nil {
		select {
		case <-t.changed:
		default:
			return nil
		}
	}
	// Taken before the read: a change during it makes another read.
	changed := t.store.Changed()
	var objects []v1.Object
	err := t.store.View(ctx, func(tx store.Tx) (err error) {
		objects, err = tx.List(store.Query{Kind: penstock.KindEndpoint})
		return err
	})
	if err != nil {
		return fmt.Errorf("list endpoints: %w", err)
	}
	byModel, replicas := make(map[string]*endpoint, len(objects)), map[string]*replica{}
	for _, o := range objects {
		e, err := v1.As[v1.EndpointSpec, v1.EndpointStatus](o)
		if err != nil {
			return err
		}
		entry := t.entry(e, replicas)
		byModel[entry.model()] = entry
	}
	t.byModel, t.replicas, t.changed = byModel, replicas, changed
	return nil
}

// entry makes an endpoint of the table, with the replicas known before.
func (t *table) entry(e v1.Endpoint, replicas map[string]*replica) *endpoint {
	entry := &endpoint{
		uid: e.Metadata.UID, project: e.Metadata.Project, name: e.Metadata.Name,
		context: int64(e.Spec.Runtime.Context), created: e.Metadata.CreatedAt,
	}
	for _, r := range e.Status.Replicas {
		if !r.Ready || r.Address == "" {
			continue
		}
		key := string(entry.uid) + " " + r.Address
		version := cmp.Or(r.Version, e.Status.Version)
		one := t.replicas[key]
		if one == nil || one.version != version {
			one = &replica{address: r.Address, version: version}
		}
		replicas[key] = one
		entry.replicas = append(entry.replicas, one)
	}
	return entry
}

// find is the endpoint that a key means by a model's name: "project/endpoint",
// or "endpoint" in the key's own project. What the key doesn't open isn't there.
func (t *table) find(ctx context.Context, cred store.Credential, model string) (*endpoint, error) {
	full := model
	if !strings.Contains(model, "/") {
		full = cred.Project + "/" + model
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	e := t.byModel[full]
	if e == nil || !opens(cred, e) {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("there is no model %.130q that this key opens", model), Hint: "GET /v1/models lists them"}
	}
	return e, nil
}

func opens(cred store.Credential, e *endpoint) bool {
	return (cred.Project == "" || cred.Project == e.project) &&
		(len(cred.Endpoints) == 0 || slices.Contains(cred.Endpoints, e.name))
}

// visible lists the endpoints that a key opens, by name.
func (t *table) visible(ctx context.Context, cred store.Credential) ([]*endpoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	var list []*endpoint
	for _, e := range t.byModel {
		if opens(cred, e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *endpoint) int { return cmp.Compare(a.model(), b.model()) })
	return list, nil
}

// acquire chooses a replica that wasn't tried and counts the request there
// until release. It gives nil if there is none.
func (t *table) acquire(e *endpoint, tried []*replica) *replica {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []*replica
	for _, r := range e.replicas {
		if !slices.Contains(tried, r) {
			left = append(left, r)
		}
	}
	if len(left) == 0 {
		return nil
	}
	best := least(left, time.Now())
	best.inFlight++
	t.turns++
	best.turn = t.turns
	return best
}

// least is the replica with the fewest requests in flight, of those with the
// same number the one that was chosen longest ago. It is the place for a better
// score: the time that each replica would take.
func least(replicas []*replica, now time.Time) *replica {
	return slices.MinFunc(replicas, func(a, b *replica) int {
		return cmp.Or(
			compareBool(a.down.After(now), b.down.After(now)),
			cmp.Compare(a.inFlight, b.inFlight),
			cmp.Compare(a.turn, b.turn),
		)
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (t *table) release(r *replica) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.inFlight--
}

// unreachable notes that r gave no answer.
func (t *table) unreachable(r *replica) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.down = time.Now().Add(retryDown)
}
