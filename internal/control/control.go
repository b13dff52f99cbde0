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
}

// Control is the loops' state. All its methods may be called from many
// goroutines.
type Control struct {
	Options
	kick   chan struct{}
	looked map[penstock.UID]look // at pools; only passes use it
}

// New makes a Control. Run starts its loops.
func New(o Options) *Control {
	if o.Tick <= 0 {
		o.Tick = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Control{Options: o, kick: make(chan struct{}, 1), looked: map[penstock.UID]look{}}
}

// settlePause keeps a burst of commits from causing a pass each.
const settlePause = 20 * time.Millisecond

// Run makes passes until ctx ends: after each change, and every Tick. A stage
// that fails is logged and tried again in the next pass.
func (c *Control) Run(ctx context.Context) error {
	for {
		changed := c.Store.Changed()
		c.Pass(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-c.kick:
		case <-time.After(c.Tick):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePause):
		}
	}
}

// Kick asks for a pass soon, for causes that are not in the store.
func (c *Control) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// now is the time that is written down: UTC, to the microsecond.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newUID() (penstock.UID, error) { return penstock.NewUID(time.Now(), rand.Reader) }
