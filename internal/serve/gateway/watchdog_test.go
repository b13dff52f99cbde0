package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestADrainIsNotProlongedByWhatArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		dog, start := newWatchdog(cancel), time.Now()
		dog.allow(time.Second)
		time.Sleep(900 * time.Millisecond) // of the test's own clock
		dog.allow(time.Minute)
		dog.drain(2 * time.Second)
		dog.allow(time.Hour)
		<-ctx.Done()
		if took := time.Since(start); took != 2900*time.Millisecond || !errors.Is(context.Cause(ctx), errDrained) {
			t.Fatalf("ended after %s: %v", took, context.Cause(ctx))
		}
	})
}

func TestAStoppedWatchdogEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		dog := newWatchdog(cancel)
		dog.allow(time.Second)
		dog.stop()
		dog.allow(time.Second)
		time.Sleep(time.Minute)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
	})
}
