package kubernetes

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/penstock/penstock"
)

// The indexes of the mirrored pods and Jobs.
const (
	byAttempt = "attempt"
	byNode    = "node"
)

// mirror is a list of the cluster's objects that a watch keeps up to date. It
// knows since when its watch is down: from then on what it holds grows old.
type mirror struct {
	cache.SharedIndexInformer
	what string

	mu   sync.Mutex
	down time.Time // zero while the watch is up
}

// mirrors are all that an Executor looks at.
type mirrors struct {
	records, jobs, pods, nodes *mirror
	running                    sync.WaitGroup
}

func (m *mirrors) all() []*mirror { return []*mirror{m.records, m.jobs, m.pods, m.nodes} }

func (m *mirrors) wait() { m.running.Wait() }

// mirror begins to watch, until ctx ends.
func (e *Executor) mirror(ctx context.Context) error {
	ours := func(o *metav1.ListOptions) { o.LabelSelector = ownerLabel + "=" + e.Prefix }
	selected := func(o *metav1.ListOptions) { o.LabelSelector = e.Options.Nodes }
	everything := func(*metav1.ListOptions) {}
	core, batch := e.client.CoreV1(), e.client.BatchV1()
	e.mirrors.records = newMirror(e.client, "records", &corev1.ConfigMap{}, cache.Indexers{byAttempt: attemptIndex}, ours, core.ConfigMaps("").List, core.ConfigMaps("").Watch)
	e.mirrors.jobs = newMirror(e.client, "jobs", &batchv1.Job{}, cache.Indexers{byAttempt: attemptIndex}, ours, batch.Jobs("").List, batch.Jobs("").Watch)
	e.mirrors.pods = newMirror(e.client, "pods", &corev1.Pod{}, cache.Indexers{byAttempt: attemptIndex, byNode: nodeIndex}, everything, core.Pods("").List, core.Pods("").Watch)
	e.mirrors.nodes = newMirror(e.client, "nodes", &corev1.Node{}, cache.Indexers{}, selected, core.Nodes().List, core.Nodes().Watch)
	for _, m := range e.mirrors.all() {
		if err := m.SetTransform(e.thin); err != nil {
			return fmt.Errorf("watch %s: %w", m.what, err)
		}
		if _, err := m.AddEventHandler(e.handler()); err != nil {
			return fmt.Errorf("watch %s: %w", m.what, err)
		}
		e.mirrors.running.Go(func() { m.RunWithContext(ctx) })
	}
	return nil
}

// newMirror makes a mirror of what list lists and begin watches, within what
// narrow leaves.
func newMirror[L runtime.Object](
	client any, what string, example runtime.Object, indexers cache.Indexers, narrow func(*metav1.ListOptions),
	list func(context.Context, metav1.ListOptions) (L, error), begin func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *mirror {
	m := &mirror{what: what, down: time.Now()}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			narrow(&o)
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			narrow(&o)
			return m.follow(begin(ctx, o))
		},
	}
	m.SharedIndexInformer = cache.NewSharedIndexInformerWithOptions(
		cache.ToListWatcherWithWatchListSemantics(source, client), example, cache.SharedIndexInformerOptions{Indexers: indexers, ObjectDescription: what},
	)
	return m
}

// follow notes that a watch is up, and when it goes down. A connection that is
// dead without anybody saying so is found out by HTTP/2's pings, within 45 s.
func (m *mirror) follow(w watch.Interface, err error) (watch.Interface, error) {
	if err != nil {
		return nil, err // down since the last one ended
	}
	m.mu.Lock()
	m.down = time.Time{}
	m.mu.Unlock()
	f := &followed{Interface: w, events: make(chan watch.Event), stopped: make(chan struct{})}
	go func() {
		defer close(f.events)
		for event := range w.ResultChan() {
			select {
			case f.events <- event:
			case <-f.stopped:
			}
		}
		m.mu.Lock()
		m.down = time.Now()
		m.mu.Unlock()
	}()
	return f, nil
}

// followed is a watch whose end is noticed.
type followed struct {
	watch.Interface
	events  chan watch.Event
	stopped chan struct{}
	once    sync.Once
}

func (f *followed) ResultChan() <-chan watch.Event { return f.events }

func (f *followed) Stop() {
	f.once.Do(func() { close(f.stopped) })
	f.Interface.Stop()
}

// age is for how long the mirror has not been up to date.
func (m *mirror) age() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down.IsZero() {
		return 0
	}
	return time.Since(m.down)
}

// fresh refuses pictures that are older than Options.Stale, or that were never
// whole.
func (e *Executor) fresh(all ...*mirror) error {
	for _, m := range all {
		age := m.age()
		if m.HasSynced() && age <= e.Stale {
			continue
		}
		e := &penstock.Error{
			Code: penstock.Unavailable, Msg: fmt.Sprintf("the cluster's API server has told nothing of its %s for %s", m.what, age.Round(time.Second)),
			Hint: "check that the API server runs and can be reached, and that the service account has the rights in deploy/kubernetes",
		}
		if !m.HasSynced() {
			e.Msg = fmt.Sprintf("the cluster's %s are not known yet", m.what)
		}
		return e
	}
	return nil
}

// thin drops what nobody here reads: a large cluster has many pods that aren't
// ours, of which only their node and what they hold matter.
func (e *Executor) thin(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Labels[ownerLabel] == e.Prefix {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, Overhead: pod.Spec.Overhead, Resources: pod.Spec.Resources,
			Containers: needs(pod.Spec.Containers), InitContainers: needs(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}, nil
}

// needs are containers that are known by what they take only.
func needs(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i, c := range containers {
		out[i] = corev1.Container{Resources: corev1.ResourceRequirements{Requests: c.Resources.Requests}, RestartPolicy: c.RestartPolicy}
	}
	return out
}

func attemptIndex(object any) ([]string, error) {
	if o, ok := object.(metav1.Object); ok && o.GetLabels()[attemptLabel] != "" {
		return []string{o.GetLabels()[attemptLabel]}, nil
	}
	return nil, nil
}

func nodeIndex(object any) ([]string, error) {
	if pod, ok := object.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}, nil
	}
	return nil, nil
}

// indexed are the mirrored objects of one value of an index.
func indexed[T any](m *mirror, index, value string) []T {
	objects, err := m.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil // only an index that doesn't exist gives an error
	}
	out := make([]T, 0, len(objects))
	for _, o := range objects {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// handler tells the server when something has changed, and keeps what the
// cluster forgets.
func (e *Executor) handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { e.changed(nil, object) },
		UpdateFunc: func(before, object any) {
			e.changed(before, object)
		},
		DeleteFunc: func(object any) {
			if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = last.Obj
			}
			e.gone(object)
			e.changed(nil, object)
		},
	}
}

// changed notifies of what Observe or Nodes would tell otherwise than before.
func (e *Executor) changed(before, object any) {
	if node, ok := object.(*corev1.Node); ok {
		if old, ok := before.(*corev1.Node); ok && sameNode(old, node) {
			return // a heartbeat
		}
	}
	if pod, ok := object.(*corev1.Pod); ok && pod.Labels[ownerLabel] != e.Prefix {
		return // found out at the next look at the fleet
	}
	if uid, _ := attemptIndex(object); len(uid) == 1 {
		e.nudge(penstock.UID(uid[0]))
	}
	e.Notify()
}

// nudge wakes a worker for a gang that can be bound, so that it needn't wait for
// the next Observe: in a burst of starts, that comes after the last of them.
func (e *Executor) nudge(uid penstock.UID) {
	if !e.isAtWork() {
		return
	}
	a, err := e.mirrored(uid)
	if err != nil || a == nil {
		return // Observe finds what there is to say
	}
	if p := e.picture(a); len(p.pods) == p.world() && p.restless() {
		e.queue.Add(uid)
	}
}

// gone keeps what was last seen of an object that is deleted.
func (e *Executor) gone(object any) {
	switch o := object.(type) {
	case *corev1.ConfigMap:
		e.recordGone(o)
	case *corev1.Pod:
		e.podGone(o)
	}
}

// recordGone tells a record that was forgotten, here or by another replica, from
// one that somebody else deleted: nothing is forgotten while it runs.
func (e *Executor) recordGone(object *corev1.ConfigMap) {
	uid := penstock.UID(object.Labels[attemptLabel])
	a, err := readRecord(object)
	running := err == nil && a.mark(startedMark) != "" && e.picture(a).runs()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ends, uid)
	delete(e.waits, uid)
	delete(e.crowded, uid)
	if running && !e.forgotten[object.UID] {
		e.vanished[uid] = a
	}
	delete(e.forgotten, object.UID)
}

func (e *Executor) podGone(pod *corev1.Pod) {
	uid, rank, ok := rankOf(pod)
	known := len(indexed[*corev1.ConfigMap](e.mirrors.records, byAttempt, string(uid))) > 0
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.stops, pod.UID)
	delete(e.bound, pod.UID)
	if !ok || !known && e.vanished[uid] == nil {
		return // of an attempt that is forgotten
	}
	if e.ends[uid] == nil {
		e.ends[uid] = map[int]string{}
	}
	e.ends[uid][rank] = lastSeen(pod)
}

// firstLabel is the rank of the first task of a pod's set.
const firstLabel = domain + "first-rank"

// rankOf tells which task of which attempt a pod is.
func rankOf(pod *corev1.Pod) (attempt penstock.UID, rank int, ok bool) {
	index, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return "", 0, false
	}
	first, err := strconv.Atoi(pod.Labels[firstLabel])
	return penstock.UID(pod.Labels[attemptLabel]), first + index, err == nil && pod.Labels[attemptLabel] != ""
}
