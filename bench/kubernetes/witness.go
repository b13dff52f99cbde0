package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// gpu is the resource that is counted.
const gpu = "nvidia.com/gpu"

// witness sees every change of every pod, in the order in which the API server
// made them, and holds each node's GPUs against the live pods that are bound to
// it. It doesn't depend on what any scheduler believes.
type witness struct {
	capacity map[string]int64 // of GPUs, by node

	mu           sync.Mutex
	live         map[types.UID]claim
	used         map[string]int64
	bound        map[types.UID]bool
	first, last  time.Time // binding
	doubleBooked int
	err          error
}

type claim struct {
	node string
	gpus int64
}

// newWitness looks at the nodes and pods that there are, and watches from there
// on until ctx ends.
func newWitness(ctx context.Context, client kubernetes.Interface) (*witness, error) {
	w := &witness{capacity: map[string]int64{}, live: map[types.UID]claim{}, used: map[string]int64{}, bound: map[types.UID]bool{}}
	nodes, err := client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		w.capacity[n.Name] = quantity(n.Status.Allocatable)
	}
	pods, err := client.CoreV1().Pods("").List(ctx, meta.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		w.see(&pods.Items[i])
	}
	clear(w.bound) // what ran before isn't part of it
	w.first, w.last = time.Time{}, time.Time{}
	lw := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", "", fields.Everything())
	events, err := watchtools.NewRetryWatcherWithContext(ctx, pods.ResourceVersion, lw)
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	go w.follow(ctx, events)
	return w, nil
}

func (w *witness) follow(ctx context.Context, events watch.Interface) {
	defer events.Stop()
	for event := range events.ResultChan() {
		pod, ok := event.Object.(*core.Pod)
		switch {
		case event.Type == watch.Deleted && ok:
			w.mu.Lock()
			w.release(pod.UID)
			w.mu.Unlock()
		case ok:
			w.see(pod)
		case event.Type == watch.Error:
			w.fail(fmt.Errorf("the watch of pods broke: %v", event.Object))
		}
	}
	if ctx.Err() == nil {
		w.fail(errors.New("the watch of pods ended early"))
	}
}

func (w *witness) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// see takes a pod as it is now.
func (w *witness) see(pod *core.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed {
		w.release(pod.UID)
		return
	}
	gpus := wants(pod)
	if pod.Spec.NodeName == "" || gpus == 0 || w.bound[pod.UID] {
		return
	}
	now := time.Now()
	if w.first.IsZero() {
		w.first = now
	}
	w.last = now
	w.bound[pod.UID] = true
	w.live[pod.UID] = claim{pod.Spec.NodeName, gpus}
	w.used[pod.Spec.NodeName] += gpus
	if w.used[pod.Spec.NodeName] > w.capacity[pod.Spec.NodeName] {
		w.doubleBooked++
	}
}

func (w *witness) release(uid types.UID) {
	if c, ok := w.live[uid]; ok {
		w.used[c.node] -= c.gpus
		delete(w.live, uid)
	}
}

// testimony is what a witness can say.
type testimony struct {
	Bindings     int
	DoubleBooked int
	First, Last  time.Time // binding
}

func (w *witness) testify() (testimony, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return testimony{Bindings: len(w.bound), DoubleBooked: w.doubleBooked, First: w.first, Last: w.last}, w.err
}

// wants is how many GPUs the pod takes: those of its containers together.
func wants(pod *core.Pod) int64 {
	var n int64
	for _, c := range pod.Spec.Containers {
		n += quantity(c.Resources.Limits)
	}
	return n
}

func quantity(of core.ResourceList) int64 {
	q := of[gpu]
	return q.Value()
}
