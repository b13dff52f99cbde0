package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Why a watchdog ended an attempt.
var (
	errSilent  = errors.New("the replica was silent for too long")
	errDrained = errors.New("the client left, and the time to wait for the rest is over")
)

// watchdog ends an attempt that waits for too long.
type watchdog struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	last  bool // nothing prolongs it any more
}

func newWatchdog(cancel context.CancelCauseFunc) *watchdog { return &watchdog{cancel: cancel} }

// allow lets the attempt go on for d from now.
func (w *watchdog) allow(d time.Duration) { w.set(d, errSilent) }

// drain ends the attempt in d, whatever arrives.
func (w *watchdog) drain(d time.Duration) { w.set(d, errDrained) }

func (w *watchdog) set(d time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last {
		return
	}
	w.last = why == errDrained
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(d, func() { w.cancel(why) })
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
