package agent

import (
	"context"
	"os"
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

// defaultGrace is the time from SIGTERM to SIGKILL where nobody says another.
const defaultGrace = 30 * time.Second

// stopper turns signals to the agent into two events: the task was asked to
// stop, and its time to do so is over.
type stopper struct {
	asked, over chan struct{}
}

// listen waits for signals until ctx ends. Each asks grace anew how long the
// task has; the earliest end counts.
func listen(ctx context.Context, signals <-chan os.Signal, grace func() time.Duration) *stopper {
	s := &stopper{asked: make(chan struct{}), over: make(chan struct{})}
	go func() {
		var end time.Time
		var timer <-chan time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer:
				close(s.over)
				return
			case <-signals:
				wanted := time.Now().Add(grace())
				if timer == nil {
					close(s.asked)
				}
				if timer == nil || wanted.Before(end) {
					end = wanted
					timer = time.After(time.Until(end))
				}
			}
		}
	}()
	return s
}

// until gives a context that ends with ctx or when event happens.
func until(ctx context.Context, event <-chan struct{}, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-event:
			cancel(cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// grace is what is left of the time that the executor gave, or else what the
// order says.
func (f Folder) grace(order v1.Duration) time.Duration {
	if end, ok := f.stopEnd(); ok {
		return time.Until(end)
	}
	if order > 0 {
		return time.Duration(order)
	}
	return defaultGrace
}

func (f Folder) stopEnd() (end time.Time, ok bool) {
	b, err := os.ReadFile(f.path(stopFile))
	if err != nil {
		return time.Time{}, false
	}
	end, err = time.Parse(time.RFC3339Nano, string(b))
	return end, err == nil
}
