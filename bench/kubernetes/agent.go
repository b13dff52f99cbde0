package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/control"
)

// agents plays penstock-agent for pods in which nothing runs: it asks for the
// task's order, reports that the task has started and, after its time, that it
// has ended, and then lets the pod end as a kubelet would.
type agents struct {
	client client.Interface
	server *control.Control
	events watch.Interface
}

// namespace is where the executor puts the project's pods.
const namespace = prefix + "-" + project

func playAgents(ctx context.Context, c client.Interface, server *control.Control) (*agents, error) {
	list, err := c.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	lw := cache.NewListWatchFromClient(c.CoreV1().RESTClient(), "pods", namespace, fields.Everything())
	events, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, lw)
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	return &agents{client: c, server: server, events: events}, nil
}

// follow starts an agent in each pod that runs, until ctx ends or one fails.
func (a *agents) follow(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	var lives sync.WaitGroup
	defer lives.Wait()
	defer stop(nil)
	defer a.events.Stop()
	begun := map[types.UID]bool{}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event, ok := <-a.events.ResultChan():
			if !ok {
				return errors.New("the watch of pods ended early")
			}
			pod, ok := event.Object.(*core.Pod)
			if !ok || pod.Status.Phase != core.PodRunning || begun[pod.UID] {
				continue
			}
			begun[pod.UID] = true
			lives.Go(func() {
				if err := a.live(ctx, pod); err != nil {
					stop(fmt.Errorf("agent of %s: %w", pod.Name, err))
				}
			})
		}
	}
}

// live is one agent's life.
func (a *agents) live(ctx context.Context, pod *core.Pod) error {
	attempt := penstock.UID(pod.Labels["penstock.dev/attempt"])
	first, err := strconv.Atoi(pod.Labels["penstock.dev/first-rank"])
	if err != nil {
		return fmt.Errorf("read its first rank: %w", err)
	}
	index, err := strconv.Atoi(pod.Annotations[batch.JobCompletionIndexAnnotation])
	if err != nil {
		return fmt.Errorf("read its index: %w", err)
	}
	rank := first + index
	order, err := a.server.Order(ctx, attempt, rank, string(pod.UID))
	if err != nil {
		return fmt.Errorf("ask for its order: %w", err)
	}
	lasts, err := time.ParseDuration(order.Parameters[runFor])
	if err != nil {
		return fmt.Errorf("read how long it runs: %w", err)
	}
	report := func(r v1.Report) error {
		r.Rank, r.At = rank, time.Now().UTC()
		_, err := a.server.Report(ctx, attempt, []v1.Report{r})
		return err
	}
	if err := report(v1.Report{Seq: 1, Started: &v1.Started{PID: 1, Limits: "none: played"}}); err != nil {
		return fmt.Errorf("report its start: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(lasts): // the work
	}
	if err := report(v1.Report{Seq: 2, Exited: &v1.Exited{}}); err != nil {
		return fmt.Errorf("report its end: %w", err)
	}
	return a.end(ctx, pod)
}

// end writes the end of a pod into its status.
func (a *agents) end(ctx context.Context, pod *core.Pod) error {
	over := core.ContainerStateTerminated{Reason: "Completed", FinishedAt: meta.Now()}
	statuses := make([]core.ContainerStatus, len(pod.Status.ContainerStatuses))
	for i, s := range pod.Status.ContainerStatuses {
		s.Ready, s.State = false, core.ContainerState{Terminated: &over}
		statuses[i] = s
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"phase": core.PodSucceeded, "containerStatuses": statuses}})
	if err != nil {
		return fmt.Errorf("encode its end: %w", err)
	}
	_, err = a.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("end the pod: %w", err)
	}
	return nil
}
