// Package kubernetes runs attempts as pods: one indexed Job for each task set,
// with the agent as the entry point of the task's image.
//
// All state is in the cluster. A ConfigMap, the attempt's record, is written
// first and owns everything else, so that one deletion forgets an attempt, and
// so that an attempt whose Job or pods somebody deleted is still known, and
// known to be gone. A record counts as started once it is marked so, after the
// last of its Jobs exists.
//
// What is seen comes from informers: lists that watches keep up to date. What
// takes many calls, such as binding a gang, is done by workers which only the
// calls of this server's control loops wake: a replica that doesn't lead
// watches, and changes nothing. The executor's own clock decides nothing.
//
// The rights that this takes are listed in deploy/kubernetes.
package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
)

// Placement says who chooses the nodes of pods.
type Placement string

// Planned: pods are bound to the nodes that their orders name, a whole gang at
// once or nothing of it. Site: a scheduler of the cluster places them.
const (
	Planned Placement = "penstock"
	Site    Placement = "cluster"
)

// Options say which cluster an Executor uses, and how.
type Options struct {
	// Kubeconfig is a file; empty is the cluster that this program runs in.
	Kubeconfig string
	// Context is one of the Kubeconfig; empty is its current one.
	Context string
	// Prefix begins the names of the projects' namespaces: <prefix>-<project>. It
	// tells this executor's objects from another's in the same cluster. Default
	// "penstock".
	Prefix string
	// Placement is Planned by default.
	Placement Placement
	// Scheduler is the site's scheduler for Site; empty is the cluster's default.
	Scheduler string
	// Queue is the site's Kueue LocalQueue for Site: Jobs are created suspended,
	// and Kueue lets them go.
	Queue string
	// Nodes is a label selector of the nodes that may be used; empty is all.
	Nodes string

	// AgentImage is an image whose entry point is penstock-agent.
	AgentImage string
	// Image is that of tasks which name none; empty refuses them.
	Image string
	// User is the numeric user and group that tasks run as, never 0. Default 65532.
	User int64
	// Tolerations are given to every pod; a node with another taint is unavailable.
	Tolerations []Toleration
	// Volumes are mounted into every task.
	Volumes []Volume
	// RuntimeClass and PriorityClass are names of the cluster's, or empty.
	RuntimeClass, PriorityClass string
	// Labels are put on all that is made, and Annotations on pods, for the site's
	// own tools.
	Labels, Annotations map[string]string
	// Egress are the networks, as CIDR, that tasks may reach besides their gang,
	// the server and DNS.
	Egress []string

	// QPS and Burst bound the calls to the API server each second. Default 100
	// and twice QPS.
	QPS   float32
	Burst int
	// Stale bounds how old a picture Observe and Nodes may give while the API
	// server is away. Default 30 s.
	Stale time.Duration
	// Notify is called when something has changed that Observe or Nodes would
	// tell. It must not block. nil is nobody.
	Notify func()
	// Log gets what nobody is told otherwise; nil is the default logger.
	Log *slog.Logger
}

// Toleration is one taint that pods bear. An empty Value bears any, an empty
// Effect all of them.
type Toleration struct{ Key, Value, Effect string }

// Volume is a folder that tasks see at Path: HostPath of the node, or the
// PersistentVolumeClaim Claim of the project's namespace. A HostPath takes the
// namespaces out of the Pod Security level "restricted".
type Volume struct {
	Path, HostPath, Claim string
	ReadOnly              bool
}

const (
	defaultUser  = 65532 // nonroot, as images without a distribution call it
	defaultQPS   = 100
	defaultStale = 30 * time.Second
	workers      = 8
	// callTime bounds one call to the API server.
	callTime      = 15 * time.Second
	schedulerName = "penstock"
)

// Executor is a run.Executor. Close ends it.
type Executor struct {
	Options
	config  *rest.Config
	client  kubernetes.Interface
	mirrors mirrors
	queue   workqueue.TypedRateLimitingInterface[penstock.UID]
	close   func()

	mu sync.Mutex
	// ensured are the namespaces that this process has set up.
	ensured map[string]bool
	// forgotten are records that were deleted here and may still be mirrored.
	forgotten map[types.UID]bool
	// vanished are records that somebody else deleted.
	vanished map[penstock.UID]*attempt
	// ends is what was last seen of pods that are deleted, and of the Jobs of
	// records that have vanished.
	ends map[penstock.UID]map[int]string
	// waits is why the cluster makes no pods of an attempt.
	waits map[penstock.UID]string
	// crowded tells when a gang has waited long enough for room that pods of ours
	// hold.
	crowded map[penstock.UID]<-chan time.Time
	// stops are the ends of the shortest graces that were asked for, by pod.
	stops map[types.UID]time.Time
	// bound are pods that were bound here and may be mirrored without a node yet.
	bound map[types.UID]bool
	// called: the control loops did, less than workTime ago.
	called bool
	idle   *time.Timer
}

var _ run.Executor = (*Executor)(nil)

var prefixForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

// New makes an Executor. It doesn't wait for the cluster: until that has
// answered, what asks it is Unavailable.
func New(o Options) (*Executor, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	config, err := o.connect()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the cluster's settings can't be used", Err: err}
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.FromSlogHandler(o.Log.Handler())))
	e := &Executor{
		Options: o, config: config, client: client,
		queue:   workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[penstock.UID](50*time.Millisecond, 10*time.Second)),
		ensured: map[string]bool{}, forgotten: map[types.UID]bool{}, vanished: map[penstock.UID]*attempt{},
		ends: map[penstock.UID]map[int]string{}, waits: map[penstock.UID]string{}, crowded: map[penstock.UID]<-chan time.Time{}, stops: map[types.UID]time.Time{}, bound: map[types.UID]bool{},
	}
	if err := e.mirror(ctx); err != nil {
		cancel()
		return nil, err
	}
	e.idle = time.AfterFunc(workTime, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.called = false
	})
	var working sync.WaitGroup
	for range workers {
		working.Go(func() { e.work(ctx) })
	}
	e.close = sync.OnceFunc(func() {
		cancel()
		e.idle.Stop()
		e.queue.ShutDown()
		working.Wait()
		e.mirrors.wait()
	})
	return e, nil
}

// workTime is for how long after a call of the control loops this process takes
// itself for the one that leads them.
const workTime = 30 * time.Second

// noteWork notes that the control loops are at work in this process.
func (e *Executor) noteWork() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.called = true
	e.idle.Reset(workTime)
}

func (e *Executor) isAtWork() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.called
}

// Close ends watching and working. What was started runs on.
func (e *Executor) Close() { e.close() }

// check fills in the defaults and refuses what can't be.
func (o *Options) check() error {
	if o.Prefix == "" {
		o.Prefix = "penstock"
	}
	if o.Placement == "" {
		o.Placement = Planned
	}
	if o.User == 0 {
		o.User = defaultUser
	}
	if o.QPS <= 0 {
		o.QPS = defaultQPS
	}
	if o.Burst <= 0 {
		o.Burst = 2 * int(o.QPS)
	}
	if o.Stale <= 0 {
		o.Stale = defaultStale
	}
	if o.Notify == nil {
		o.Notify = func() {}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	refuse := func(hint, format string, args ...any) error {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf(format, args...), Hint: hint}
	}
	_, selector := labels.Parse(o.Nodes)
	switch {
	case !prefixForm.MatchString(o.Prefix):
		return refuse("use 1 to 20 of a-z, 0-9 and '-', with a letter or digit at both ends", "%.80q can't begin the names of namespaces", o.Prefix)
	case o.Placement != Planned && o.Placement != Site:
		return refuse("write penstock or cluster", "there is no placement %.40q", o.Placement)
	case o.Placement == Planned && (o.Queue != "" || o.Scheduler != ""):
		return refuse("set placement to cluster", "a queue or scheduler of the site places pods, and so would Penstock")
	case o.AgentImage == "":
		return refuse("name the image that 'make image' built, as your registry has it", "there is no image of the agent")
	case o.User < 1:
		return refuse("choose a number from 1", "tasks can't run as user %d", o.User)
	case selector != nil:
		return refuse("write it as kubectl get nodes -l takes it", "%.80q doesn't select nodes: %s", o.Nodes, selector)
	}
	for _, v := range o.Volumes {
		if (v.HostPath == "") == (v.Claim == "") || v.Path == "" {
			return refuse("give path, and either hostPath or claim", "the volume %+v is of no kind, or of two", v)
		}
	}
	return nil
}

// connect reads how the cluster is reached.
func (o *Options) connect() (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if o.Kubeconfig != "" {
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: o.Context},
		).ClientConfig()
	}
	if err != nil {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: "it isn't known how the cluster is reached", Err: err,
			Hint: "name a kubeconfig that this user can read, or run the server in the cluster with a service account",
		}
	}
	config.QPS, config.Burst, config.UserAgent = o.QPS, o.Burst, "penstock"
	// Objects travel in a third of JSON's bytes, and are read in a third of the time.
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return config, nil
}

// call makes one call, bounded in time, and tells its error in our words.
func call[T any](ctx context.Context, what string, do func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := do(bounded)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	return out, told(what, err)
}
