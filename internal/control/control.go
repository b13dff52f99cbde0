// Package control runs the loops, and is the only writer of phase. Each pass
// takes a snapshot, lets the pure stages decide, commits what was decided in one
// transaction, and then brings about the effect: starting, stopping, forgetting.
// Effects are idempotent and repeated until they are seen, so the server can be
// killed at any line. flow.go lists the stages of a pass.
package control

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// Sealer keeps secret values unreadable in the store.
type Sealer interface {
	Seal(values map[string]string) ([]byte, error)
	Open(sealed []byte) (map[string]string, error)
}

// Options are what a Control works with. All but Log, Tick and Executors are
// required.
type Options struct {
	Store  store.Store
	Blobs  blob.Store
	Sealer Sealer
	// Executors by the name that a pool's spec gives.
	Executors map[string]run.Executor
	// Server is how agents reach the API, without the token.
	Server v1.Contact
	// Runtimes maps the built-in commands to programs of this installation, for
	// instance "penstock-llama" to where it stands.
	Runtimes map[string]string
	// RuntimeEnv is handed to tasks that run one of Runtimes.
	RuntimeEnv map[string]string
	Log        *slog.Logger
	// Tick is how often a pass runs although nothing changed. Default 1 s.
	Tick time.Duration
	// Replica is what people call this server among several on one store, and
	// Sole says that there can be no other one: see Election.
	Replica string
	Sole    bool
}

// Control is the loops' state. All its methods may be called from many
// goroutines.
type Control struct {
	Options
	kick    chan struct{}
	looked  map[penstock.UID]look // at pools; only passes use it
	swept   time.Time             // when executors were last held against the store; likewise
	leading *atomic.Bool
}

// New makes a Control. Run starts its loops.
func New(o Options) *Control {
	if o.Tick <= 0 {
		o.Tick = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Control{Options: o, kick: make(chan struct{}, 1), looked: map[penstock.UID]look{}, leading: &atomic.Bool{}}
}

// settlePause keeps a burst of commits from causing a pass each.
const settlePause = 20 * time.Millisecond

// Run takes part in the election of the one server that makes passes, until ctx
// ends, and makes them while it leads. All else that a Control does needs no
// lead: any server on the store answers.
func (c *Control) Run(ctx context.Context) error {
	e := Election{Store: c.Store, Lease: LoopsLease, Replica: c.Replica, Sole: c.Sole, Log: c.Log}
	return e.Run(ctx, func(ctx context.Context, fenced store.Store) {
		c.leading.Store(true)
		defer c.leading.Store(false)
		c.inTerm(fenced).passes(ctx)
	})
}

// Leading reports whether this server makes the passes, as far as it knows.
func (c *Control) Leading() bool { return c.leading.Load() }

// inTerm is this Control for one term: it commits through the fenced store, and
// has seen nothing of the fleet yet.
func (c *Control) inTerm(fenced store.Store) *Control {
	t := *c
	t.Store, t.looked, t.swept = fenced, map[penstock.UID]look{}, time.Time{}
	return &t
}

// passes makes passes until ctx ends: after each change, and every Tick. A stage
// that fails is logged and tried again in the next pass.
func (c *Control) passes(ctx context.Context) {
	for {
		changed := c.Store.Changed()
		c.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-c.kick:
		case <-time.After(c.Tick):
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settlePause):
		}
	}
}

// Kick asks for a pass soon, for causes that are not in the store. It reaches
// this server only: where another one leads, it is left to that one's Tick.
func (c *Control) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// now is the time that is written down: UTC, to the microsecond.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newUID() (penstock.UID, error) { return penstock.NewUID(time.Now(), rand.Reader) }
