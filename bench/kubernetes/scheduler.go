package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// schedulerNamespace is where the jobs are that kube-scheduler places alone.
const schedulerNamespace = prefix + "-scheduler"

// byScheduler lets Kubernetes run the jobs by itself: a plain Job for each, an
// Indexed one with a headless Service for each gang. It reports how many completed.
func byScheduler(ctx context.Context, m measurement) (completed int, err error) {
	client, jobs := m.client, m.jobs
	namespace := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: schedulerNamespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, meta.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create namespace: %w", err)
	}
	ended, err := watchJobs(unmeasured(ctx), client)
	if err != nil {
		return 0, err
	}
	if err := each(jobs, func(j job) error { return create(ctx, client, j) }); err != nil {
		return 0, err
	}
	for completed < len(jobs) {
		select {
		case <-ctx.Done():
			return completed, fmt.Errorf("kube-scheduler: %d of %d jobs completed: %w", completed, len(jobs), context.Cause(ctx))
		case ok := <-ended:
			if !ok {
				return completed, errors.New("a Job failed or the watch of Jobs broke")
			}
			completed++
		}
	}
	return completed, nil
}

// watchJobs tells of each Job that ends: true where it completed.
func watchJobs(ctx context.Context, client kubernetes.Interface) (<-chan bool, error) {
	list, err := client.BatchV1().Jobs(schedulerNamespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Jobs: %w", err)
	}
	lw := cache.NewListWatchFromClient(client.BatchV1().RESTClient(), "jobs", schedulerNamespace, fields.Everything())
	events, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, lw)
	if err != nil {
		return nil, fmt.Errorf("watch Jobs: %w", err)
	}
	ended := make(chan bool, 64)
	go func() {
		defer close(ended)
		defer events.Stop()
		told := map[types.UID]bool{}
		for event := range events.ResultChan() {
			j, ok := event.Object.(*batch.Job)
			if !ok || event.Type != watch.Modified || told[j.UID] {
				continue
			}
			if completed, final := endOf(j); final {
				told[j.UID] = true
				ended <- completed
			}
		}
	}()
	return ended, nil
}

func endOf(j *batch.Job) (completed, final bool) {
	for _, c := range j.Status.Conditions {
		if c.Status == core.ConditionTrue && (c.Type == batch.JobComplete || c.Type == batch.JobFailed) {
			return c.Type == batch.JobComplete, true
		}
	}
	return false, false
}

func create(ctx context.Context, client kubernetes.Interface, j job) error {
	if j.Tasks > 1 {
		service := &core.Service{
			ObjectMeta: meta.ObjectMeta{Name: j.Name},
			Spec:       core.ServiceSpec{ClusterIP: core.ClusterIPNone, Selector: map[string]string{"job": j.Name}},
		}
		if _, err := client.CoreV1().Services(schedulerNamespace).Create(ctx, service, meta.CreateOptions{}); err != nil {
			return fmt.Errorf("create Service %s: %w", j.Name, err)
		}
	}
	if _, err := client.BatchV1().Jobs(schedulerNamespace).Create(ctx, plainJob(j), meta.CreateOptions{}); err != nil {
		return fmt.Errorf("create Job %s: %w", j.Name, err)
	}
	return nil
}

func plainJob(j job) *batch.Job {
	tasks, again, automount := int32(j.Tasks), int32(0), false
	mode := batch.NonIndexedCompletion
	if j.Tasks > 1 {
		mode = batch.IndexedCompletion
	}
	want := core.ResourceList{
		core.ResourceCPU:    resource.MustParse("1"),
		core.ResourceMemory: resource.MustParse("1Gi"),
		gpu:                 *resource.NewQuantity(j.GPUs, resource.DecimalSI),
	}
	template := core.PodTemplateSpec{
		ObjectMeta: meta.ObjectMeta{
			Labels:      map[string]string{"job": j.Name},
			Annotations: map[string]string{"pod-complete.stage.kwok.x-k8s.io/delay": j.Run.Round(time.Millisecond).String()},
		},
		Spec: core.PodSpec{
			RestartPolicy: core.RestartPolicyNever, AutomountServiceAccountToken: &automount,
			NodeSelector: map[string]string{"type": "kwok"}, Subdomain: j.Name,
			Tolerations: []core.Toleration{{Key: "kwok.x-k8s.io/node", Operator: core.TolerationOpExists}},
			Containers: []core.Container{{
				Name: "task", Image: "penstock.local/fake:1",
				Resources: core.ResourceRequirements{Limits: want, Requests: want},
			}},
		},
	}
	return &batch.Job{
		ObjectMeta: meta.ObjectMeta{Name: j.Name},
		Spec:       batch.JobSpec{Completions: &tasks, Parallelism: &tasks, CompletionMode: &mode, BackoffLimit: &again, Template: template},
	}
}
