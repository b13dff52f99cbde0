package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/blob/fs"
)

// watcher looks at the installation all the time, and collects what must not be.
type watcher struct {
	p     *plant
	blobs *fs.Store
	job   penstock.Ref // whose checkpoints are read

	mu       sync.Mutex
	faults   []string
	verified map[penstock.Digest]bool
	newest   int64 // step
	looks    int
}

// watch begins to look, until the function that it gives is called.
func (p *plant) watch(ctx context.Context, job penstock.Ref) (w *watcher, end func()) {
	p.t.Helper()
	blobs, err := fs.Open(filepath.Join(p.data, "blobs"))
	if err != nil {
		p.t.Fatal(err)
	}
	w = &watcher{p: p, blobs: blobs, job: job, verified: map[penstock.Digest]bool{}, newest: -1}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for ok := true; ok; ok = pause(ctx, 50*time.Millisecond) {
			w.lookAtProcesses()
		}
	})
	all.Go(func() {
		for ok := true; ok; ok = pause(ctx, 250*time.Millisecond) {
			w.lookAtCheckpoints(ctx)
		}
	})
	end = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		if err := blobs.Close(); err != nil {
			w.fault("%v", err)
		}
		for _, f := range w.faults {
			p.t.Error(f)
		}
		p.t.Logf("looked %d times for attempts that overlap, and read %d committed checkpoints to their last byte", w.looks, len(w.verified))
	})
	p.t.Cleanup(end)
	return w, end
}

func (w *watcher) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(w.faults, text) {
		w.faults = append(w.faults, text)
	}
}

func (w *watcher) lookAtProcesses() {
	for _, text := range overlaps(look(w.p.data)) {
		w.fault("%s", text)
	}
	w.mu.Lock()
	w.looks++
	w.mu.Unlock()
}

// progress is the newest committed step that was seen.
func (w *watcher) progress() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest
}

// lookAtCheckpoints reads each committed step once, and sees that the newest is
// never an older one than before.
func (w *watcher) lookAtCheckpoints(ctx context.Context) {
	steps, err := w.committed(ctx)
	if err != nil || len(steps) == 0 {
		return
	}
	w.mu.Lock()
	before := w.newest
	w.newest = max(before, steps[0].Step)
	w.mu.Unlock()
	if steps[0].Step < before {
		w.fault("step %d was committed, and now %d is the newest", before, steps[0].Step)
	}
	for _, c := range steps {
		if w.verified[c.Digest] {
			continue
		}
		switch err := readable(ctx, w.blobs, c.Files); {
		case ctx.Err() != nil:
			return
		case err == nil:
			w.mu.Lock()
			w.verified[c.Digest] = true
			w.mu.Unlock()
		case w.stillCommitted(ctx, c):
			w.fault("committed step %d of attempt %d can't be read: %v", c.Step, c.Attempt, err)
		}
	}
}

func (w *watcher) committed(ctx context.Context) ([]v1.Checkpoint, error) {
	c, err := w.p.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.Checkpoints(ctx, w.job)
}

// stillCommitted: a step that made room for newer ones may go while it is read.
func (w *watcher) stillCommitted(ctx context.Context, c v1.Checkpoint) bool {
	steps, err := w.committed(ctx)
	return err == nil && slices.ContainsFunc(steps, func(other v1.Checkpoint) bool { return other.Digest == c.Digest })
}

// readable reads files to their end, where the blob store compares their digest.
func readable(ctx context.Context, blobs blob.Store, files []v1.File) error {
	if len(files) == 0 {
		return errors.New("it has no files")
	}
	for _, f := range files {
		r, err := blobs.Open(ctx, f.Digest, 0, -1)
		if err != nil {
			return fmt.Errorf("open %s: %w", f.Path, err)
		}
		n, err := io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read %s: %w", f.Path, err)
		}
		if n != f.Size {
			return fmt.Errorf("%s has %d bytes, not %d", f.Path, n, f.Size)
		}
	}
	return nil
}

// phases counts how often something was seen to happen to the objects of a
// kind: a measure of progress where there are no checkpoints.
func (p *plant) phases(kind penstock.Kind, project string, phases ...penstock.Phase) func() int64 {
	seen := map[string]bool{}
	return func() int64 {
		c, err := p.client()
		if err != nil {
			return int64(len(seen))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		objects, _, err := c.List(ctx, kind, client.ListOptions{Project: project, Phases: phases})
		if err != nil {
			return int64(len(seen))
		}
		for _, o := range objects {
			seen[o.Metadata.Name+string(o.Metadata.Phase)] = true
		}
		return int64(len(seen))
	}
}
