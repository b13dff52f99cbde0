package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	v1 "github.com/penstock/penstock/api/v1"
)

const (
	keepFolder = "keep"
	// keepAhead is how many steps wait to be stored before the agent stops
	// copying more of them away.
	keepAhead = 3
)

// keeper stores the steps that a trainer writes. A step counts once its folder
// has its final name. The trainer may delete it soon after, so its files are
// linked away at once; it may also write into them again, so they are then
// copied, and thrown away if they changed meanwhile: what is stored is what was
// renamed, or nothing.
type keeper struct {
	root   *os.Root // the task's folder
	client *client
	spool  *spool
	log    *logWriter

	seen  map[int64]folderID // the steps that are done with
	calm  map[int64]string   // surveys of steps that may not be complete yet
	queue chan keptStep
}

var errEmptyStep = errors.New("it has no files")

// folderID tells a folder from another one that has its name, or its number,
// later on.
type folderID struct {
	inode uint64
	birth int64 // nanoseconds
}

// keptStep is a step whose bytes nobody can change any more.
type keptStep struct {
	step   int64
	files  []v1.File
	copies []string // names of the copies of files, in the same order
}

func newKeeper(root *os.Root, c *client, s *spool, log *logWriter) (*keeper, error) {
	if err := root.MkdirAll(keepFolder, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for checkpoints: %w", err)
	}
	k := &keeper{root: root, client: c, spool: s, log: log, seen: map[int64]folderID{}, calm: map[int64]string{}, queue: make(chan keptStep, keepAhead)}
	// What stands there now was restored, and is stored already.
	steps, err := k.steps()
	for _, step := range steps {
		survey, err := k.survey(step)
		if err != nil {
			return nil, err
		}
		k.seen[step] = survey.id
	}
	return k, err
}

// steps lists the steps in the checkpoint folder, lowest first.
func (k *keeper) steps() ([]int64, error) {
	entries, err := fs.ReadDir(k.root.FS(), checkpointFolder)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var steps []int64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "step-")
		n, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil && n >= 0 && e.IsDir() && strconv.FormatInt(n, 10) == digits {
			steps = append(steps, n)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// scan keeps the steps that are new. final says that the trainer has ended, so
// that nothing is in the making any more.
func (k *keeper) scan(ctx context.Context, when moment) error {
	steps, err := k.steps()
	if err != nil {
		return err
	}
	for _, step := range steps {
		if err := k.look(ctx, step, when); err != nil {
			k.log.note("checkpoint step-%d is not stored: %s", step, err)
		}
	}
	return nil
}

// moment is when a scan happens.
type moment int

const (
	whileTraining moment = iota
	afterTraining
)

func (k *keeper) look(ctx context.Context, step int64, when moment) error {
	before, err := k.survey(step)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed between the list and now; if it was new, it was never whole
	}
	if k.seen[step] == before.id && before.id != (folderID{}) {
		return nil
	}
	if errors.Is(err, errEmptyStep) && when == whileTraining {
		return nil // somebody may be copying it there
	}
	if err != nil {
		k.seen[step] = before.id
		return err
	}
	// A folder whose entries changed after it got its name may be in the middle
	// of being deleted, or copied into: it must stay the same for one look more.
	if when == whileTraining && before.unsettled && k.calm[step] != before.text {
		k.calm[step] = before.text
		return nil
	}
	delete(k.calm, step)
	links, err := k.link(step, before)
	if err != nil {
		return k.discard(links, err)
	}
	after, err := k.survey(step)
	if err != nil || after.text != before.text {
		// Next time it is looked at anew, if it is still there.
		return k.discard(links, errors.Join(fmt.Errorf("it changed, or went, within moments of getting its name; keep each step for a second at least"), err))
	}
	k.seen[step] = before.id
	kept, err := k.copy(step, before, links)
	if err = k.discard(links, err); err != nil {
		return errors.Join(err, k.discard(kept.copies, nil))
	}
	select {
	case k.queue <- kept:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), k.discard(kept.copies, nil))
	}
}

// link gives the files of a step second names, which no deletion reaches.
func (k *keeper) link(step int64, s survey) (links []string, err error) {
	for i, name := range s.files {
		link := path.Join(keepFolder, fmt.Sprintf("%d-%d.link", step, i))
		_ = k.root.Remove(link) // of an earlier try
		if err := k.root.Link(name, link); err != nil {
			return links, err
		}
		links = append(links, link)
	}
	return links, nil
}

// copy copies the linked files, hashing as it goes.
func (k *keeper) copy(step int64, s survey, links []string) (keptStep, error) {
	kept := keptStep{step: step}
	for i, link := range links {
		name := strings.TrimSuffix(link, ".link") + ".copy"
		kept.copies = append(kept.copies, name)
		file, err := k.copyFile(link, name)
		if err != nil {
			return kept, err
		}
		info, err := k.root.Lstat(link)
		if err != nil {
			return kept, err
		}
		file.Path = strings.TrimPrefix(s.files[i], stepFolder(step)+"/")
		if now := stamp(info); now != s.stamps[i] || file.Size != info.Size() {
			return kept, fmt.Errorf("%s was written to after the step got its name; write a step anew under its .tmp name", file.Path)
		}
		kept.files = append(kept.files, file)
	}
	return kept, nil
}

func (k *keeper) copyFile(from, to string) (v1.File, error) {
	src, err := k.root.Open(from)
	if err != nil {
		return v1.File{}, err
	}
	defer src.Close()
	dst, err := k.root.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return v1.File{}, err
	}
	digest, size, err := digestOf(io.TeeReader(src, dst))
	return v1.File{Digest: digest, Size: size}, errors.Join(err, dst.Close())
}

// discard removes files of the keep folder, and passes err on.
func (k *keeper) discard(names []string, err error) error {
	for _, name := range names {
		_ = k.root.Remove(name) // the task's folder goes as a whole later on
	}
	return err
}

// store stores kept steps until the queue is closed. Once ctx has ended, it only
// empties the queue.
func (k *keeper) store(ctx context.Context) {
	for kept := range k.queue {
		err := k.storeStep(ctx, kept)
		if disowned(err) {
			_ = k.spool.add(v1.Report{}) // its answer makes the agent leave now, not at the next heartbeat
		}
		if err != nil {
			k.log.note("checkpoint step-%d is not stored: %s", kept.step, err)
		}
		_ = k.discard(kept.copies, nil)
	}
}

func (k *keeper) storeStep(ctx context.Context, kept keptStep) error {
	index := make(map[string]string, len(kept.files))
	for i, file := range kept.files {
		index[file.Path] = kept.copies[i]
	}
	err := each(ctx, kept.files, func(ctx context.Context, file v1.File) error {
		return k.client.upload(ctx, file, func() (io.ReadCloser, error) { return k.root.Open(index[file.Path]) })
	})
	if err != nil {
		return err
	}
	return k.spool.add(v1.Report{Checkpoint: &v1.Saved{Step: kept.step, Files: kept.files}})
}

// survey is how a step's folder stands: two that are equal in text are of the
// same, unchanged files.
type survey struct {
	id        folderID
	files     []string // full names, in order
	stamps    []string // of the files
	text      string
	unsettled bool // an entry came or went after the folder got its name
}

func (k *keeper) survey(step int64) (survey, error) {
	var s survey
	folder := stepFolder(step)
	top, err := k.statx(folder)
	if err != nil {
		return s, err
	}
	s.id = folderID{inode: top.Ino, birth: nanos(top.Btime)}
	if s.files, err = regularFiles(k.root, folder); err != nil {
		return s, err
	}
	if len(s.files) == 0 {
		return s, errEmptyStep
	}
	text := []string{fmt.Sprint(s.id)}
	folders := []string{folder}
	for _, name := range s.files {
		info, err := k.root.Lstat(name)
		if err != nil {
			return s, err
		}
		s.stamps = append(s.stamps, stamp(info))
		text = append(text, name+" "+stamp(info))
		for dir := path.Dir(name); !slices.Contains(folders, dir); dir = path.Dir(dir) {
			folders = append(folders, dir)
		}
	}
	for _, name := range folders {
		at, err := k.statx(name)
		if err != nil {
			return s, err
		}
		// A rename sets the ctime of the folder, a change of its entries both.
		s.unsettled = s.unsettled || nanos(at.Mtime) >= nanos(top.Ctime)
		text = append(text, fmt.Sprint(name, nanos(at.Mtime)))
	}
	s.text = strings.Join(text, "\n")
	return s, nil
}

// stamp changes when a file's bytes do.
func stamp(info fs.FileInfo) string {
	return fmt.Sprint(info.Size(), " ", info.ModTime().UnixNano())
}

func (k *keeper) statx(name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	f, err := k.root.Open(name)
	if err != nil {
		return st, err
	}
	defer f.Close()
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	return st, err
}

func nanos(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
