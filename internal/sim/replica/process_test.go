package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres"
)

// The environment of a child of this test: where the database is, and its name.
const (
	childURL  = "PENSTOCK_TEST_REPLICA_URL"
	childName = "PENSTOCK_TEST_REPLICA_NAME"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		fmt.Fprintln(os.Stderr, work(url, os.Getenv(childName), os.Stdout))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// line is one line of what a process writes: that it begins something, before it
// does, or what came of it. A process that is killed leaves a beginning alone.
type line struct {
	Op     int64 `json:"op"` // its number in the process
	At     int64 `json:"at"` // nanoseconds, by the clock that all processes share
	Call   *call `json:"call,omitempty"`
	Result fate  `json:"result,omitempty"`
}

// call is what is tried: a takeover of the lease as it was under Token, or a
// commit under Token, which claims Job unless that is empty. A claim of somebody
// who doesn't lead has no Token.
type call struct {
	Kind  kind         `json:"kind"`
	Token int64        `json:"token,omitempty"`
	Job   penstock.UID `json:"job,omitempty"`
	Who   string       `json:"who,omitempty"`
}

type kind string

const (
	takeover kind = "takeover"
	commit   kind = "commit"
	claim    kind = "claim"
)

// fate is what came of a call.
type fate string

const (
	done    fate = "done"
	lost    fate = "lost"   // somebody else was faster
	fenced  fate = "fenced" // somebody else leads
	unknown fate = "unknown"
)

var errTaken = errors.New("somebody else has it")

func fateOf(err error) fate {
	switch code := penstock.CodeOf(err); {
	case err == nil:
		return done
	case errors.Is(err, errTaken) || code == penstock.Conflict:
		return lost
	case code == penstock.Fenced:
		return fenced
	}
	return unknown
}

// clock is the machine's monotonic clock, which runs on while a process is
// frozen.
func clock() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it can't fail with a clock that is there
	return t.Nano()
}

// process is one replica.
type process struct {
	store.Store // notes takeovers
	name        string
	token       atomic.Int64 // under which it last took the lease

	mu  sync.Mutex
	out *json.Encoder
	ops int64
}

// work opens the database, stands for election, leads when it is its turn, and
// claims jobs all the time.
func work(url, name string, out io.Writer) error {
	ctx := context.Background()
	s, err := postgres.Open(ctx, postgres.Options{URL: url})
	if err != nil {
		return err
	}
	p := &process{Store: s, name: name, out: json.NewEncoder(out)}
	go p.claimForEver(ctx)
	e := control.Election{Store: p, Lease: control.LoopsLease, Replica: name, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("replica", name)}
	return e.Run(ctx, p.lead)
}

func (p *process) begin(at int64, c call) (op int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops++
	c.Who = fmt.Sprint(p.name, "/", p.ops)
	_ = p.out.Encode(line{Op: p.ops, At: at, Call: &c}) // without a reader there is no test
	return p.ops
}

func (p *process) end(op int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(line{Op: op, At: clock(), Result: fateOf(err)})
}

// Update notes a takeover before it may be committed.
func (p *process) Update(ctx context.Context, fn func(store.Tx) error) error {
	began, op := clock(), int64(0)
	var token int64
	err := p.Store.Update(ctx, func(tx store.Tx) error {
		return fn(taker{tx, func(seen store.Lease) {
			if token = seen.Token + 1; op == 0 {
				op = p.begin(began, call{Kind: takeover, Token: seen.Token})
			}
		}})
	})
	if op != 0 {
		if err == nil {
			p.token.Store(token)
		}
		p.end(op, err)
	}
	return err
}

type taker struct {
	store.Tx
	note func(seen store.Lease)
}

func (t taker) TakeLease(seen store.Lease, holder string, at time.Time) (store.Lease, error) {
	t.note(seen)
	return t.Tx.TakeLease(seen, holder, at)
}

// lead commits as the leader: a claim while there is something to claim, else
// that it leads. It has no regard for the term's end, as a frozen one hasn't.
func (p *process) lead(ctx context.Context, fencedStore store.Store) {
	token := p.token.Load()
	for ctx.Err() == nil {
		queue, err := p.queue(ctx)
		if err != nil || len(queue) == 0 {
			op := p.begin(clock(), call{Kind: commit, Token: token})
			p.end(op, fencedStore.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
				return tx.AppendEvent(store.Event{At: time.Now(), Kind: penstock.KindPool, UID: "lead", Name: p.name, Reason: "Leads"})
			}))
			pause(200)
			continue
		}
		job := queue[0].Metadata.UID
		op := p.begin(clock(), call{Kind: commit, Token: token, Job: job})
		p.end(op, fencedStore.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
			o, err := tx.ByUID(job)
			if err != nil {
				return err
			}
			if o.Metadata.Phase != penstock.PhasePending {
				return errTaken
			}
			return p.take(tx, o, op)
		}))
		pause(60)
	}
}

// claimForEver claims jobs as somebody who doesn't lead: what was read may be
// old, so the revision decides.
func (p *process) claimForEver(ctx context.Context) {
	for {
		pause(200)
		queue, err := p.queue(ctx)
		if err != nil || len(queue) == 0 {
			continue
		}
		o := queue[rand.IntN(len(queue))]
		op := p.begin(clock(), call{Kind: claim, Job: o.Metadata.UID})
		p.end(op, p.Store.Update(ctx, func(tx store.Tx) error { return p.take(tx, o, op) }))
	}
}

func (p *process) take(tx store.Tx, o v1.Object, op int64) error {
	o.Metadata.Phase = penstock.PhaseStarting
	o.Metadata.Labels = map[string]string{"claim": fmt.Sprint(p.name, "/", op)}
	_, err := tx.Update(o)
	return err
}

func (p *process) queue(ctx context.Context) (queue []v1.Object, err error) {
	err = p.View(ctx, func(tx store.Tx) (err error) {
		queue, err = tx.List(store.Query{Kind: penstock.KindJob, Phases: []penstock.Phase{penstock.PhasePending}, Limit: 5})
		return err
	})
	return queue, err
}

// pause is how the load is kept even: a random time up to most milliseconds.
func pause(most int) { time.Sleep(time.Duration(1+rand.IntN(most)) * time.Millisecond) }
