package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// killer kills processes of a plant at random moments.
type killer struct {
	p      *plant
	random *rand.Rand
	seed   uint64
	budget int
	count  map[role]map[string]int // kills by role and stage
}

func newKiller(t *testing.T, p *plant) *killer {
	t.Helper()
	k := &killer{p: p, seed: rand.Uint64() >> 32, budget: 30, count: map[role]map[string]int{server: {}, agent: {}, worker: {}}}
	for name, set := range map[string]func(uint64){
		"PENSTOCK_CRASH_SEED":  func(n uint64) { k.seed = n },
		"PENSTOCK_CRASH_KILLS": func(n uint64) { k.budget = int(n) },
	} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		set(n)
	}
	k.random = rand.New(rand.NewPCG(k.seed, 0))
	t.Logf("PENSTOCK_CRASH_SEED=%d PENSTOCK_CRASH_KILLS=%d", k.seed, k.budget)
	return k
}

// patience is how many tasks are killed before some progress is waited for:
// work that is never given the time to begin can't end.
const patience = 2

// during kills up to n processes while work goes on, and tells how many it did.
// progress is a number that grows as the work does.
func (k *killer) during(ctx context.Context, stage string, n int, progress func() int64, work func()) int {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan int)
	go func() { done <- k.rage(ctx, stage, n, progress) }()
	defer cancel() // also if work ends the test
	work()
	cancel()
	return <-done
}

// finish kills n more, and returns when it has.
func (k *killer) finish(ctx context.Context, stage string, n int, progress func() int64) {
	k.rage(ctx, stage, n, progress)
}

func (k *killer) rage(ctx context.Context, stage string, n int, progress func() int64) int {
	killed, fatal, since := 0, 0, progress()
	for killed < n {
		if !pause(ctx, time.Second+time.Duration(k.random.Int64N(int64(2*time.Second)))) {
			break
		}
		if now := progress(); now > since {
			fatal, since = 0, now
		} else if fatal >= patience {
			continue
		}
		victim := k.strike()
		if victim == "" {
			continue
		}
		k.count[victim][stage]++
		if killed++; victim != server {
			fatal++
		}
	}
	return killed
}

// strike kills one process and says which sort, or nothing if none was there.
func (k *killer) strike() role {
	wanted := []role{server, agent, worker}[k.random.IntN(3)]
	if wanted == server {
		if k.p.killServer() {
			return server
		}
		return ""
	}
	all := slices.DeleteFunc(look(k.p.data), func(p process) bool { return p.role != wanted })
	if len(all) == 0 || !all[k.random.IntN(len(all))].kill() {
		return ""
	}
	return wanted
}

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
