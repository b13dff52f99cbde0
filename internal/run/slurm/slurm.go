// Package slurm runs attempts as batch jobs of Slurm 22.05 and later, through
// its commands. A gang is one job, of several components where its nodes aren't
// alike, so that it gets all of its nodes or none.
//
// Server and nodes share a folder, under the same path, and a user: jobs run as
// whoever runs the server, so that should be an ordinary user whom the site lets
// submit. In the folder each attempt has one of its own:
//
//	contact.json  how its agents reach the server; nobody else can read it
//	gang.json     what was submitted, and as which job
//	elected       a link that names the job which runs the attempt
//	stop          is there once the attempt was asked to end
//	step-N …      what the batch script gives to srun; the script never varies
//	ended-N       what Slurm told of the end of the job's component N
//	RANK/         the folder of a task's agent; node, over: where it ran, its end
//
// A submission can be lost, or happen although its answer was lost. So the job
// carries the attempt's UID in its comment, by which it is found again; the
// first job of an attempt to start elects itself, and any other does nothing;
// and the server gives each rank's order to one agent only.
//
// Where Slurm gives out cores and not threads, a CPU of ours is a core.
package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/agent"
	"github.com/penstock/penstock/internal/run"
)

// Placement says who chooses the nodes.
type Placement string

// With Planned a job gets the nodes that the orders name, in the order of ranks.
// With Site it gets those of the partition that Slurm likes.
const (
	Planned Placement = "penstock"
	Site    Placement = "site"
)

// Options say which cluster, and how to use it.
type Options struct {
	// Dir is a folder that the server and all nodes see under the same path.
	Dir string
	// AgentPath is the penstock-agent program on the server; it is copied into
	// Dir.
	AgentPath string
	// Commands is the folder of Slurm's commands, here and on the nodes; empty is
	// the PATH of either.
	Commands string
	// Conf is SLURM_CONF for the commands; empty is their own.
	Conf string
	// Partition, Account and QOS are those of all jobs; empty is Slurm's default.
	Partition, Account, QOS string
	// Placement is Planned where it is empty.
	Placement Placement
	// Arguments are further arguments for sbatch, such as --reservation=x.
	Arguments []string
	// Poll is how old an answer of squeue may be that is used again; 0 is
	// 2 s.
	Poll time.Duration
}

const (
	contactFile = "contact.json"
	gangFile    = "gang.json"
	electedLink = "elected"
	stopFile    = "stop"
	overFile    = "over"
	nodeFile    = "node"
	jobLog      = "job.log"
	cacheFolder = "cache"
	agentFolder = "agent"
	dropPrefix  = ".forgotten-"
	defaultPoll = 2 * time.Second
)

// Executor is a run.Executor.
type Executor struct {
	options  Options
	commands commands
	agent    string

	mu       sync.Mutex // one Start or Forget at a time
	stopping sync.Mutex // one Stop at a time
	queue    queue
	fleet    fleet
}

var _ run.Executor = (*Executor)(nil)

// New makes an Executor of the folder Options.Dir, also of one that another
// server left behind. It doesn't ask Slurm anything yet.
func New(o Options) (*Executor, error) {
	o.Placement = cmp.Or(o.Placement, Planned)
	if o.Placement != Planned && o.Placement != Site {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("%.40q is no placement", string(o.Placement)), Hint: "write penstock or site",
		}
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("find executor folder: %w", err)
	}
	// Slurm replaces %j and the like in paths, srun reads options line by line.
	if !pathForm.MatchString(o.Dir) {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the shared folder", o.Dir), Hint: "use letters, digits and ._-+@ in its path",
		}
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, cacheFolder), 0o700); err != nil {
		return nil, fmt.Errorf("make executor folder: %w", err)
	}
	e := &Executor{options: o}
	if e.commands, err = findCommands(o); err != nil {
		return nil, err
	}
	e.queue = queue{commands: e.commands, keep: cmp.Or(o.Poll, defaultPoll)}
	if e.agent, err = install(o); err != nil {
		return nil, err
	}
	return e, nil
}

var (
	pathForm = regexp.MustCompile(`^/[A-Za-z0-9._+@/-]*$`)
	uidForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)
)

// attemptDir is the folder of an attempt. A UID comes from the server's own
// records, but it becomes a path and an argument: anything else is refused.
func (e *Executor) attemptDir(attempt penstock.UID) (string, error) {
	name := string(attempt)
	if !uidForm.MatchString(name) || name == cacheFolder || name == agentFolder {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the uid of an attempt", name)}
	}
	return filepath.Join(e.options.Dir, name), nil
}

func rankFolder(dir string, rank int) agent.Folder {
	return agent.Folder(filepath.Join(dir, strconv.Itoa(rank)))
}

// attempts lists the attempts that have a folder.
func (e *Executor) attempts() ([]penstock.UID, error) {
	entries, err := os.ReadDir(e.options.Dir)
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	var all []penstock.UID
	for _, entry := range entries {
		if _, err := e.attemptDir(penstock.UID(entry.Name())); err == nil && entry.IsDir() {
			all = append(all, penstock.UID(entry.Name()))
		}
	}
	return all, nil
}

// Forget implements run.Executor.
func (e *Executor) Forget(ctx context.Context, attempt penstock.UID) error {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	g, err := readGang(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return e.drop(dir)
	}
	if err != nil {
		return err
	}
	seen, err := e.observe(ctx, attempt, dir, g)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(seen, func(o run.Observation) bool { return o.State != run.Gone }); i >= 0 {
		return &penstock.Error{
			Code: penstock.Busy, Msg: fmt.Sprintf("rank %d of attempt %s is %s", seen[i].Rank, attempt, seen[i].State),
			Hint: "stop it, and wait until it is gone",
		}
	}
	return e.drop(dir)
}

// drop removes an attempt's folder. It has gone under its name before the first
// file of it goes, so that half of it is never seen.
func (e *Executor) drop(dir string) error {
	gone := filepath.Join(e.options.Dir, dropPrefix+filepath.Base(dir))
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attempt folder: %w", err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove attempt folder: %w", err)
	}
	return nil
}

// Logs implements run.Executor.
func (e *Executor) Logs(ctx context.Context, attempt penstock.UID, rank int, opts run.LogOptions) (io.ReadCloser, error) {
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return nil, err
	}
	f := rankFolder(dir, rank)
	g, err := readGang(dir)
	if _, missing := os.Stat(string(f)); err != nil || missing != nil {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("rank %d of attempt %s has no log here", rank, attempt), Err: errors.Join(err, missing)}
	}
	if !opts.Follow {
		return f.Log(opts.Tail, nil)
	}
	return f.Log(opts.Tail, func() bool {
		if _, err := os.Stat(string(f)); err != nil || ctx.Err() != nil {
			return false
		}
		seen, err := e.observe(ctx, attempt, dir, g)
		// While Slurm doesn't answer, nobody knows that the task has ended.
		return err != nil || !slices.ContainsFunc(seen, func(o run.Observation) bool { return o.Rank == rank && o.State == run.Gone })
	})
}
