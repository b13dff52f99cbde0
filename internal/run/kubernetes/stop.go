package kubernetes

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
)

const (
	// parallel is how many pods are spoken to at once.
	parallel = 16
	// cleanPause is the time between two looks whether pods are gone.
	cleanPause = 100 * time.Millisecond
	// alive selects pods that have not ended.
	alive = "status.phase!=Succeeded,status.phase!=Failed"
)

// Stop implements run.Executor: the pods are deleted, which makes the kubelet
// send SIGTERM, and SIGKILL once the grace and the time for delivering the last
// report are over. The agents know the grace of their order; a shorter one is
// told to them first.
func (e *Executor) Stop(ctx context.Context, uid penstock.UID, grace time.Duration) error {
	a, err := e.find(ctx, uid)
	if err != nil || a == nil {
		return err
	}
	p, grace := e.picture(a), max(grace, 0)
	if grace < time.Duration(a.Grace) {
		e.hurry(ctx, p, grace)
	}
	seconds := int64((grace + delivery + time.Second - 1) / time.Second)
	if !p.stopping(seconds) {
		if err := e.deletePods(ctx, a, seconds); err != nil {
			return err
		}
	}
	// A Job one of whose pods was deleted makes no new ones. One that has none
	// would: it waits for its queue, or may not make any.
	for _, job := range p.jobs {
		if ended(job) == nil && len(p.pods) == 0 {
			if err := e.deleteJob(ctx, a, job.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopping: every pod that lives is told to end within so many seconds already.
func (p picture) stopping(seconds int64) bool {
	for _, pod := range p.pods {
		if !over(pod) && (pod.DeletionTimestamp.IsZero() || pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds > seconds) {
			return false
		}
	}
	return len(p.pods) == p.world()
}

// hurry tells the agents of a shorter grace than that of their order. Where one
// can't be told, its pod ends a little later, without a last report.
func (e *Executor) hurry(ctx context.Context, p picture, grace time.Duration) {
	var told errgroup.Group
	told.SetLimit(parallel)
	for rank, pod := range p.pods {
		status := taskStatus(pod)
		if status == nil || status.State.Running == nil || !e.sooner(pod, grace) {
			continue
		}
		told.Go(func() error {
			bounded, cancel := context.WithTimeout(ctx, callTime)
			defer cancel()
			command := []string{agentFolder + "/penstock-agent", "stop", "--dir", taskFolder, "--grace", grace.String()}
			if err := e.exec(bounded, pod, command, run.Streams{Out: io.Discard, Err: io.Discard}); err != nil {
				e.Log.Info("an agent doesn't know its new grace", "attempt", p.Attempt, "rank", rank, "error", err)
			}
			return nil
		})
	}
	_ = told.Wait() // each tells of its error itself
}

// sooner notes when a pod's grace is over, and reports whether that is earlier
// than what was asked for before.
func (e *Executor) sooner(pod *corev1.Pod, grace time.Duration) bool {
	end := time.Now().Add(grace)
	e.mu.Lock()
	defer e.mu.Unlock()
	if before, ok := e.stops[pod.UID]; ok && !end.Before(before) {
		return false
	}
	e.stops[pod.UID] = end
	return true
}

// Forget implements run.Executor. The record goes, and what it owns goes with
// it by the cluster's own hand.
func (e *Executor) Forget(ctx context.Context, uid penstock.UID) error {
	a, err := e.find(ctx, uid)
	if err != nil || a == nil {
		return err
	}
	pods, err := e.living(ctx, a)
	if err != nil {
		return err
	}
	for i := range pods {
		_, rank, _ := rankOf(&pods[i])
		return &penstock.Error{
			Code: penstock.Busy, Msg: fmt.Sprintf("rank %d of attempt %s still runs", rank, uid), Hint: "stop it, and wait until it is gone",
		}
	}
	return e.remove(ctx, a)
}

// living asks for the pods that have not ended.
func (e *Executor) living(ctx context.Context, a *attempt) ([]corev1.Pod, error) {
	list, err := call(ctx, "look for the pods of attempt "+a.name, func(ctx context.Context) (*corev1.PodList, error) {
		return e.client.CoreV1().Pods(a.namespace).List(ctx, metav1.ListOptions{LabelSelector: a.selector(), FieldSelector: alive})
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// remove deletes an attempt none of whose tasks runs. The Jobs go first where
// they could still make pods, the record last: a removal that was cut off is
// found again by it.
func (e *Executor) remove(ctx context.Context, a *attempt) error {
	for _, job := range e.picture(a).jobs {
		if ended(job) == nil {
			if err := e.deleteJob(ctx, a, job.Name); err != nil {
				return err
			}
		}
	}
	e.mu.Lock()
	e.forgotten[a.object.UID] = true
	e.mu.Unlock()
	background := metav1.DeletePropagationBackground
	_, err := call(ctx, "delete the record of attempt "+a.name, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.client.CoreV1().ConfigMaps(a.namespace).Delete(ctx, a.name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &a.object.UID}, PropagationPolicy: &background,
		})
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if ignore(err, penstock.NotFound) != nil {
		delete(e.forgotten, a.object.UID)
		return err
	}
	delete(e.vanished, a.Attempt)
	delete(e.ends, a.Attempt)
	delete(e.waits, a.Attempt)
	delete(e.crowded, a.Attempt)
	return nil
}

// takeBack undoes a Start that failed: it returns once nothing of the gang runs.
func (e *Executor) takeBack(ctx context.Context, a *attempt) error {
	for set := range a.Sets {
		if err := e.deleteJob(ctx, a, a.job(set)); err != nil {
			return err
		}
	}
	for {
		if err := e.deletePods(ctx, a, 1); err != nil {
			return err
		}
		pods, err := e.living(ctx, a)
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			return e.remove(ctx, a)
		}
		select {
		case <-ctx.Done():
			return &penstock.Error{Code: penstock.Busy, Msg: fmt.Sprintf("%d pods of attempt %s don't end", len(pods), a.name), Err: context.Cause(ctx)}
		case <-time.After(cleanPause):
		}
	}
}

// deleteJob deletes a Job; its pods go by the cluster's own hand.
func (e *Executor) deleteJob(ctx context.Context, a *attempt, name string) error {
	background := metav1.DeletePropagationBackground
	_, err := call(ctx, "delete job "+name, func(ctx context.Context) (*batchv1.Job, error) {
		return nil, e.client.BatchV1().Jobs(a.namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
	})
	return ignore(err, penstock.NotFound)
}

// deletePods deletes the pods that have not ended. Of those that are being
// deleted already, this can only shorten the grace.
func (e *Executor) deletePods(ctx context.Context, a *attempt, seconds int64) error {
	_, err := call(ctx, "delete the pods of attempt "+a.name, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.client.CoreV1().Pods(a.namespace).DeleteCollection(ctx,
			metav1.DeleteOptions{GracePeriodSeconds: &seconds}, metav1.ListOptions{LabelSelector: a.selector(), FieldSelector: alive})
	})
	return ignore(err, penstock.NotFound)
}

func ignore(err error, code penstock.Code) error {
	if penstock.CodeOf(err) == code {
		return nil
	}
	return err
}
