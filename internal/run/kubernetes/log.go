package kubernetes

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
)

// lookPause is the time between two looks whether a pod has begun.
const lookPause = 100 * time.Millisecond

// Logs implements run.Executor: what the kubelet keeps of the pod, for as long
// as the pod's object is there. Deletion takes the log with it, and stopping
// deletes.
func (e *Executor) Logs(ctx context.Context, uid penstock.UID, rank int, opts run.LogOptions) (io.ReadCloser, error) {
	for {
		pod, err := e.pod(ctx, uid, rank)
		if err != nil {
			return nil, err
		}
		switch status := taskStatus(pod); {
		case status != nil && status.State.Waiting == nil:
			return e.stream(ctx, pod, opts)
		case over(pod):
			return io.NopCloser(strings.NewReader("")), nil
		case !opts.Follow:
			// The task may have begun, even ended, before the mirror tells.
			r, err := e.stream(ctx, pod, opts)
			if penstock.CodeOf(err) == penstock.Invalid { // it waits, says the kubelet
				return io.NopCloser(strings.NewReader("")), nil
			}
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lookPause):
		}
	}
}

// pod is the pod of a task as it is mirrored.
func (e *Executor) pod(ctx context.Context, uid penstock.UID, rank int) (*corev1.Pod, error) {
	if err := e.fresh(e.mirrors.records, e.mirrors.pods); err != nil {
		return nil, err
	}
	a, err := e.find(ctx, uid)
	if err != nil {
		return nil, err
	}
	if a != nil {
		if pod := e.picture(a).pods[rank]; pod != nil {
			return pod, nil
		}
	}
	return nil, &penstock.Error{
		Code: penstock.NotFound, Msg: fmt.Sprintf("rank %d of attempt %s has no pod, and a log goes with its pod", rank, uid),
		Hint: "the cluster's own log collection may have kept it",
	}
}

func (e *Executor) stream(ctx context.Context, pod *corev1.Pod, opts run.LogOptions) (io.ReadCloser, error) {
	o := &corev1.PodLogOptions{Container: taskContainer, Follow: opts.Follow}
	if opts.Tail > 0 {
		lines := int64(opts.Tail)
		o.TailLines = &lines
	}
	r, err := e.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, o).Stream(ctx)
	if err != nil {
		return nil, told("read the log of pod "+pod.Name, err)
	}
	return r, nil
}
