package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

const (
	// launches is how many gangs start at once: most of a start is waiting for an
	// engine's answers.
	launches = 32
	// launchesInPass, of each pool, bounds for how long a burst of starts keeps a
	// pass from all else: the next pass goes on with it.
	launchesInPass = 4 * launches
)

// launchAttempts starts each gang that its executor hasn't got yet. Starting is
// idempotent, so it is repeated until the executor has it.
func (c *Control) launchAttempts(ctx context.Context) error {
	live, err := c.liveAttempts(ctx)
	if err != nil {
		return err
	}
	live = slices.DeleteFunc(live, func(a v1.Attempt) bool { return a.Metadata.Phase != penstock.PhaseStarting || heard(a) })
	if len(live) == 0 {
		return nil
	}
	seen, err := c.observeAll(ctx)
	have := map[penstock.UID]bool{}
	for _, o := range seen {
		have[o.Attempt] = true
	}
	begun := map[string]int{} // by pool: one whose executor is away holds up no other
	live = slices.DeleteFunc(live, func(a v1.Attempt) bool {
		if have[a.Metadata.UID] {
			return true
		}
		begun[a.Spec.Pool]++
		return begun[a.Spec.Pool] > launchesInPass
	})
	errs := make([]error, len(live))
	var all errgroup.Group
	all.SetLimit(launches)
	for i, a := range live {
		all.Go(func() error {
			if err := c.launch(ctx, a); err != nil {
				errs[i] = c.failLaunch(ctx, a, err)
			}
			return nil // one that fails ends no other
		})
	}
	_ = all.Wait() // see above
	return errors.Join(append(errs, err)...)
}

func heard(a v1.Attempt) bool {
	for _, t := range a.Status.Tasks {
		if t.Seq == 0 && !ended(t) {
			return false
		}
	}
	return true
}

func (c *Control) launch(ctx context.Context, a v1.Attempt) error {
	executor, err := c.executorOf(ctx, a)
	if err != nil {
		return err
	}
	orders, err := c.orders(ctx, a)
	if err != nil {
		return err
	}
	return executor.Start(ctx, orders)
}

// executorOf finds the executor of the pool that an attempt was placed on.
func (c *Control) executorOf(ctx context.Context, a v1.Attempt) (run.Executor, error) {
	var found run.Executor
	err := c.Store.View(ctx, func(tx store.Tx) error {
		pool, err := store.Load[v1.PoolSpec, v1.PoolStatus](tx, penstock.Ref{Kind: penstock.KindPool, Name: a.Spec.Pool})
		if err != nil {
			return err
		}
		found, err = c.executor(pool.Spec.Executor)
		return err
	})
	return found, err
}

func (c *Control) executor(name string) (run.Executor, error) {
	found, ok := c.Executors[name]
	if !ok {
		return nil, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("this server has no executor %q", name)}
	}
	return found, nil
}

// failLaunch lets an attempt that can't be started end, so that the job's
// retries decide. A fault of the moment is left for the next pass.
func (c *Control) failLaunch(ctx context.Context, a v1.Attempt, cause error) error {
	if code := penstock.CodeOf(cause); code == penstock.Unavailable || code == penstock.Busy || ctx.Err() != nil {
		return fmt.Errorf("launch %s: %w", a.Ref(), cause)
	}
	c.Log.Warn("attempt can't start", "attempt", a.Ref().String(), "error", cause)
	return c.Store.Update(ctx, func(tx store.Tx) error {
		a, err := store.Load[v1.AttemptSpec, v1.AttemptStatus](tx, a.Ref())
		if err != nil || a.Metadata.Phase.Final() {
			return err
		}
		for i := range a.Status.Tasks {
			if t := &a.Status.Tasks[i]; !ended(*t) {
				t.State, t.Message, t.Ended = "unstarted", penstock.Public(cause), now()
			}
		}
		return save(tx, &a)
	})
}

// Order is what the agent of a task on another machine is to do: run is of the
// agent's own choice, and the first one that asks for a rank is the only one
// that gets it. Any other one is Fenced, as is one whose attempt has ended.
func (c *Control) Order(ctx context.Context, attempt penstock.UID, rank int, run string) (v1.Order, error) {
	if run == "" || len(run) > maxRun {
		return v1.Order{}, &penstock.Error{Code: penstock.Invalid, Where: "run", Msg: fmt.Sprintf("an agent names its run, in %d bytes at most", maxRun)}
	}
	var order v1.Order
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		t, err := openTelling(tx, attempt, rank)
		if err != nil {
			return err
		}
		if t.task.Run != "" && t.task.Run != run || ended(*t.task) {
			return fenced(fmt.Sprintf("another agent has run rank %d: a task runs once", rank))
		}
		shared, err := c.sharedOrder(tx, t.job, t.attempt)
		if err != nil {
			return err
		}
		// Another machine has programs of its own.
		order = taskOrders(shared, t.job, t.attempt)[rank]
		if t.task.Run == run {
			return nil
		}
		t.task.Run = run
		return t.close()
	})
	order.Server = v1.Contact{} // the agent knows it already
	return order, err
}

// maxRun bounds the name of an agent's run, in bytes.
const maxRun = 64

// orders writes the orders of a gang, each with a token that is good for this
// attempt only. An attempt that is launched again after a crash gets a new
// token; the agents that already run keep theirs.
func (c *Control) orders(ctx context.Context, a v1.Attempt) ([]v1.Order, error) {
	var orders []v1.Order
	err := c.Store.Update(ctx, func(tx store.Tx) error {
		job, err := store.LoadUID[v1.JobSpec, v1.JobStatus](tx, a.Spec.JobUID)
		if err != nil {
			return err
		}
		token, credential, err := auth.Issue(auth.Request{
			Use: store.Agent, Subject: "agent of " + a.Metadata.Name, Project: a.Metadata.Project, Attempt: a.Metadata.UID,
		}, now())
		if err != nil {
			return err
		}
		if err := tx.PutCredential(credential); err != nil {
			return err
		}
		shared, err := c.sharedOrder(tx, job, a)
		if err != nil {
			return err
		}
		shared.Server.Token = token.Reveal()
		orders = taskOrders(shared, job, a)
		for i, order := range orders {
			orders[i] = c.installed(order)
		}
		return nil
	})
	return orders, err
}

// sharedOrder is what all tasks of the gang have in common.
func (c *Control) sharedOrder(tx store.Tx, job v1.Job, a v1.Attempt) (v1.Order, error) {
	order := v1.Order{
		Server: c.Server, Project: job.Metadata.Project, Job: job.Metadata.Name, JobUID: job.Metadata.UID,
		Attempt: a.Metadata.UID, Number: a.Spec.Number, WorldSize: len(a.Spec.Tasks), Parameters: job.Spec.Parameters,
		Feed: job.Spec.Feed, Grace: job.Spec.Grace, Deadline: job.Spec.Deadline, Secrets: map[string]map[string]string{},
	}
	for _, out := range job.Spec.Outputs {
		order.Outputs = append(order.Outputs, out.Name)
	}
	for _, name := range job.Spec.Secrets {
		secret, err := store.Load[v1.SecretSpec, v1.SecretStatus](tx, penstock.Ref{Kind: penstock.KindSecret, Project: job.Metadata.Project, Name: name})
		if err != nil {
			return order, err
		}
		if order.Secrets[name], err = c.Sealer.Open(secret.Status.Sealed); err != nil {
			return order, fmt.Errorf("open secret %s: %w", name, err)
		}
	}
	if err := stageInputs(tx, job, &order); err != nil {
		return order, err
	}
	return order, restore(tx, job, a, &order)
}

func stageInputs(tx store.Tx, job v1.Job, order *v1.Order) error {
	split := map[string]string{}
	for _, d := range job.Spec.Data {
		split[d.Name] = d.Split
	}
	for _, in := range job.Status.Inputs {
		o, err := tx.ByUID(in.UID)
		if err != nil {
			return err
		}
		if in.Kind == penstock.KindModelVersion {
			version, err := v1.As[v1.ModelVersionSpec, v1.ModelVersionStatus](o)
			if err != nil {
				return err
			}
			if version.Metadata.Phase != penstock.PhaseReady {
				return &penstock.Error{Code: penstock.Denied, Where: version.Ref().String(), Msg: "the version was refused after it was chosen"}
			}
			order.Models = append(order.Models, v1.Staged{Name: in.Name, Digest: in.Digest, Files: version.Spec.Files})
			continue
		}
		version, err := v1.As[v1.DatasetVersionSpec, struct{}](o)
		if err != nil {
			return err
		}
		order.Data = append(order.Data, v1.Staged{Name: in.Name, Digest: in.Digest, Files: splitFiles(version.Spec, split[in.Name])})
	}
	return nil
}

// splitFiles are the shards of one split, or of all.
func splitFiles(v v1.DatasetVersionSpec, split string) []v1.File {
	if split != "" {
		return v.Splits[split].Shards
	}
	var files []v1.File
	for _, name := range sortedKeys(v.Splits) {
		files = append(files, v.Splits[name].Shards...)
	}
	return files
}

func restore(tx store.Tx, job v1.Job, a v1.Attempt, order *v1.Order) error {
	if a.Spec.Step < 0 {
		return nil
	}
	have, err := tx.Checkpoints(job.Metadata.UID)
	if err != nil {
		return err
	}
	for _, step := range have {
		if step.Step == a.Spec.Step {
			order.Restore = &step
			return nil
		}
	}
	return &penstock.Error{Code: penstock.Corrupt, Where: job.Ref().String(), Msg: fmt.Sprintf("the committed checkpoint of step %d is gone", a.Spec.Step)}
}

// taskOrders fills in what differs from task to task.
func taskOrders(shared v1.Order, job v1.Job, a v1.Attempt) []v1.Order {
	sets := map[string]v1.TaskSet{}
	for _, s := range job.Spec.Tasks {
		sets[s.Name] = s
	}
	local := map[string]int{}
	orders := make([]v1.Order, len(a.Spec.Tasks))
	for i, t := range a.Spec.Tasks {
		set, order := sets[t.Set], shared
		order.Set, order.Index, order.Rank, order.Node = t.Set, t.Index, t.Rank, t.Node
		order.LocalRank = local[t.Node]
		local[t.Node]++
		order.Resources, order.Devices = t.Resources, t.Devices
		order.Command, order.Env, order.Code, order.Serve = set.Command, maps.Clone(set.Env), set.Code, set.Serve
		order.Image, order.Labels = set.Image, a.Metadata.Labels
		order.Checkpoints = job.Spec.Checkpoints != nil && t.Rank == 0
		orders[i] = order
	}
	return orders
}

// installed puts this installation's own program where an order names one of
// the built-in commands.
func (c *Control) installed(order v1.Order) v1.Order {
	if len(order.Command) == 0 {
		return order
	}
	program, ok := c.Runtimes[order.Command[0]]
	if !ok {
		return order
	}
	order.Command = append([]string{program}, order.Command[1:]...)
	if order.Env == nil {
		order.Env = map[string]string{}
	}
	maps.Copy(order.Env, c.RuntimeEnv)
	return order
}

// stopAttempts tells the executor to end what is Stopping, until it has ended.
// An executor that is away keeps nothing from being stopped elsewhere.
func (c *Control) stopAttempts(ctx context.Context) error {
	live, err := c.liveAttempts(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range live {
		if a.Metadata.Phase != penstock.PhaseStopping {
			continue
		}
		if err := c.stopOnExecutor(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", a.Ref(), err))
		}
	}
	return errors.Join(errs...)
}

func (c *Control) stopOnExecutor(ctx context.Context, a v1.Attempt) error {
	executor, err := c.executorOf(ctx, a)
	if err != nil {
		return err
	}
	given, err := c.graceOf(ctx, a)
	if err != nil {
		return err
	}
	return executor.Stop(ctx, a.Metadata.UID, given)
}

// defaultGrace is that of jobs which Penstock makes itself; spec fills it in for
// all others.
const defaultGrace = 30 * time.Second

func (c *Control) graceOf(ctx context.Context, a v1.Attempt) (time.Duration, error) {
	given := defaultGrace
	err := c.Store.View(ctx, func(tx store.Tx) error {
		_, job, err := loadAttempt(tx, a.Ref())
		given = grace(job)
		return err
	})
	return given, err
}

// grace is how long a job's tasks have from SIGTERM to SIGKILL.
func grace(job v1.Job) time.Duration {
	if job.Spec.Grace > 0 {
		return time.Duration(job.Spec.Grace)
	}
	return defaultGrace
}
