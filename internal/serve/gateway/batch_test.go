package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock/internal/store"
)

// disk is a store whose commits wait for it, one value of turn for each.
type disk struct {
	store.Store
	turn    chan error
	commits int
}

func (d *disk) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := <-d.turn; err != nil {
		return err
	}
	d.commits++
	return fn(nil)
}

// writeAll sends n writes and waits until each is queued or under way.
func writeAll(b *batcher, n int, did *[]int, results chan error) {
	for i := range n {
		go func() {
			results <- b.update(func(store.Tx) error {
				*did = append(*did, i) // only the batcher's goroutine runs this
				if i == 3 {
					return errors.New("refused")
				}
				return nil
			})
		}()
		synctest.Wait()
	}
}

func TestWritesThatComeMeanwhileShareTheNextCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{turn: make(chan error)}
		b := &batcher{store: d}
		var did []int
		results := make(chan error, 30)
		writeAll(b, 30, &did, results)
		d.turn <- nil // the first write's commit
		d.turn <- nil // all the others'
		synctest.Wait()
		refused := 0
		for range 30 {
			if err := <-results; err != nil {
				refused++
			}
		}
		if d.commits != 2 || len(did) != 30 || refused != 1 {
			t.Fatalf("%d commits of %d writes, %d refused", d.commits, len(did), refused)
		}
		if b.running {
			t.Fatal("the batcher still runs")
		}
	})
}

func TestFailedCommitFailsEveryWriteOfItAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{turn: make(chan error)}
		b := &batcher{store: d}
		var did []int
		results := make(chan error, 3)
		writeAll(b, 3, &did, results)
		full := errors.New("disk full")
		d.turn <- nil
		failed := []bool{errors.Is(<-results, full)}
		d.turn <- full
		for range 2 {
			failed = append(failed, errors.Is(<-results, full))
		}
		if diff := cmp.Diff([]bool{false, true, true}, failed); diff != "" {
			t.Fatal(diff)
		}
	})
}
