package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/penstock/penstock/internal/run"
)

// Observe implements run.Executor. It also wakes the workers for what has to be
// brought on, such as a gang that isn't bound yet: they are at work only where
// the control loops are.
func (e *Executor) Observe(ctx context.Context) ([]run.Observation, error) {
	if err := e.fresh(e.mirrors.records, e.mirrors.jobs, e.mirrors.pods); err != nil {
		return nil, err
	}
	e.noteWork()
	var out []run.Observation
	for _, a := range e.attempts() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s := e.sight(a)
		switch {
		case s.tend:
			e.queue.Add(a.Attempt)
		case s.slow:
			e.queue.AddAfter(a.Attempt, podTime)
		}
		out = append(out, s.tasks...)
	}
	return out, nil
}

// attempts are those that were started, in order of UID.
func (e *Executor) attempts() []*attempt {
	var out []*attempt
	for _, o := range e.mirrors.records.GetStore().List() {
		object, ok := o.(*corev1.ConfigMap)
		if !ok || object.Annotations[startedMark] == "" || e.isForgotten(object) {
			continue
		}
		a, err := readRecord(object)
		if err != nil {
			e.Log.Error("an attempt is not observed", "error", err)
			continue
		}
		out = append(out, a)
	}
	e.mu.Lock()
	for _, a := range e.vanished {
		out = append(out, a)
	}
	e.mu.Unlock()
	slices.SortFunc(out, func(a, b *attempt) int { return cmp.Compare(a.Attempt, b.Attempt) })
	return out
}

func (e *Executor) isForgotten(object *corev1.ConfigMap) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forgotten[object.UID]
}

// sight is what is seen of one attempt.
type sight struct {
	tasks []run.Observation
	tend  bool // a worker has something to do
	slow  bool // a worker has something to find out, if this lasts
}

// podTime is what the cluster may take to make a pod before it is asked why.
const podTime = 5 * time.Second

// picture is what the cluster has of an attempt.
type picture struct {
	*attempt
	jobs map[string]*batchv1.Job // by name
	pods map[int]*corev1.Pod     // by rank; of several the one that lives
	ends map[int]string          // what was last seen of pods that are gone
	site bool                    // the site's scheduler places
	wait string                  // why the cluster makes no pods, if that is known
}

func (e *Executor) picture(a *attempt) picture {
	p := picture{attempt: a, jobs: map[string]*batchv1.Job{}, pods: map[int]*corev1.Pod{}, ends: map[int]string{}, site: e.Placement == Site}
	for _, job := range indexed[*batchv1.Job](e.mirrors.jobs, byAttempt, string(a.Attempt)) {
		if job.Namespace == a.namespace && a.owns(job) {
			p.jobs[job.Name] = job
		}
	}
	for _, pod := range indexed[*corev1.Pod](e.mirrors.pods, byAttempt, string(a.Attempt)) {
		_, rank, ok := rankOf(pod)
		if !ok || pod.Namespace != a.namespace {
			continue
		}
		if other := p.pods[rank]; other == nil || over(other) && (!over(pod) || other.CreationTimestamp.Before(&pod.CreationTimestamp)) {
			p.pods[rank] = pod
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p.wait = e.waits[a.Attempt]
	for rank, end := range e.ends[a.Attempt] {
		p.ends[rank] = end
	}
	return p
}

func (e *Executor) sight(a *attempt) sight {
	p := e.picture(a)
	s := sight{tend: p.restless(), slow: p.short() != nil}
	for rank := range a.world() {
		o := p.task(rank)
		o.Attempt, o.Rank = a.Attempt, rank
		s.tasks = append(s.tasks, o)
	}
	return s
}

// task tells how one task stands.
func (p picture) task(rank int) run.Observation {
	if pod := p.pods[rank]; pod != nil {
		o := podState(pod)
		if o.State == run.Gone && p.mark(brokenMark) != "" {
			o.Detail = p.mark(brokenMark)
		}
		if p.site {
			o.Node = pod.Spec.NodeName
		}
		return o
	}
	set, index, ok := p.set(rank)
	if !ok {
		return run.Observation{State: run.Gone, Detail: "there is no such task"}
	}
	if detail := cmp.Or(p.mark(brokenMark), p.mark(lostMark)); detail != "" {
		return run.Observation{State: run.Gone, Detail: detail}
	}
	return p.podless(p.jobs[p.job(set)], rank, index)
}

// podless is a task that has no pod: not yet, or not any more. That a Job of
// ours isn't mirrored may mean that the mirror is behind: a worker asks.
func (p picture) podless(job *batchv1.Job, rank, index int) run.Observation {
	end := cmp.Or(p.ends[rank], "its pod is gone")
	switch {
	case job == nil && p.ends[-1] != "":
		return run.Observation{State: run.Gone, Detail: cmp.Or(p.ends[rank], p.ends[-1])}
	case job == nil:
		return run.Observation{State: run.Pending, Detail: "its Job isn't seen yet"}
	case completed(job.Status.CompletedIndexes, index):
		return run.Observation{State: run.Gone, Detail: cmp.Or(p.ends[rank], "its pod succeeded")}
	case ended(job) != nil:
		return run.Observation{State: run.Gone, Detail: end + "; " + said(ended(job))}
	case suspended(job) && !p.queued(job):
		return run.Observation{State: run.Running, Detail: "its Job was suspended, which ends it"}
	case suspended(job):
		return run.Observation{State: run.Pending, Detail: "it waits in queue " + job.Labels[queueLabel]}
	case job.Status.Failed > 0 || failing(job):
		return run.Observation{State: run.Running, Detail: end + "; its Job ends"}
	}
	detail := fmt.Sprintf("it waits for its pod: the cluster has made %d of %d", len(p.pods), p.world())
	if p.wait != "" {
		detail += "; " + p.wait
	}
	return run.Observation{State: run.Pending, Detail: detail}
}

// runs: something of the attempt has not ended yet.
func (p picture) runs() bool {
	for _, job := range p.jobs {
		if ended(job) == nil {
			return true
		}
	}
	return slices.ContainsFunc(sorted(p.pods), func(pod *corev1.Pod) bool { return !over(pod) })
}

// short is a Job that has still to make a pod, or nil.
func (p picture) short() *batchv1.Job {
	for set, s := range p.Sets {
		job := p.jobs[p.job(set)]
		if job == nil || suspended(job) || ended(job) != nil || failing(job) || job.Status.Failed > 0 {
			continue
		}
		for rank := s.First; rank < s.First+s.Count; rank++ {
			if p.pods[rank] == nil && !completed(job.Status.CompletedIndexes, rank-s.First) {
				return job
			}
		}
	}
	return nil
}

// queued: the Job waits, as it was made, for its site's queue to let it go.
func (p picture) queued(job *batchv1.Job) bool {
	return job.Labels[queueLabel] != "" && p.mark(placedMark) == ""
}

// restless: a worker has something to do for the attempt.
func (p picture) restless() bool {
	if p.mark(brokenMark) != "" {
		return slices.ContainsFunc(sorted(p.pods), func(pod *corev1.Pod) bool { return !over(pod) && pod.DeletionTimestamp.IsZero() })
	}
	for set := range p.Sets {
		job := p.jobs[p.job(set)]
		if job == nil && p.mark(lostMark) == "" && p.ends[-1] == "" || job != nil && suspended(job) && !p.queued(job) {
			return true
		}
	}
	for _, pod := range p.pods {
		switch {
		case over(pod) || !pod.DeletionTimestamp.IsZero():
		case !p.site && pod.Spec.NodeName == "":
			return len(p.pods) == p.world()
		case p.site && pod.Spec.NodeName != "" && p.mark(placedMark) == "" && p.hasQueue():
			return true
		case lingers(pod) && p.done():
			return true
		}
	}
	return false
}

// done: every task of the gang has ended. To delete the pod of one before would
// fail its Job, and the Job would end the others.
func (p picture) done() bool {
	for rank := range p.world() {
		pod := p.pods[rank]
		if pod == nil && p.ends[rank] == "" || pod != nil && !over(pod) && !taskEnded(pod) {
			return false
		}
	}
	return true
}

func (p picture) hasQueue() bool {
	for _, job := range p.jobs {
		if job.Labels[queueLabel] != "" {
			return true
		}
	}
	return false
}

// sorted are the pods in order of rank.
func sorted(pods map[int]*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for rank := range slices.Max(append(keys(pods), -1)) + 1 {
		if pod := pods[rank]; pod != nil {
			out = append(out, pod)
		}
	}
	return out
}

func keys(pods map[int]*corev1.Pod) []int {
	var out []int
	for rank := range pods {
		out = append(out, rank)
	}
	return out
}

func suspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// ended is the condition with which a Job has ended, or nil. All pods of it are
// dead then.
func ended(job *batchv1.Job) *batchv1.JobCondition {
	return condition(job, batchv1.JobFailed, batchv1.JobComplete)
}

func failing(job *batchv1.Job) bool {
	return condition(job, batchv1.JobFailureTarget) != nil
}

func condition(job *batchv1.Job, kinds ...batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range job.Status.Conditions {
		if slices.Contains(kinds, c.Type) && c.Status == corev1.ConditionTrue {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}

func said(c *batchv1.JobCondition) string {
	return strings.TrimSpace("its Job is " + strings.ToLower(string(c.Type)) + ". " + c.Message)
}

// completed reads a Job's list of indexes: "1,3-5,7".
func completed(indexes string, index int) bool {
	for part := range strings.SplitSeq(indexes, ",") {
		first, last := 0, 0
		n, _ := fmt.Sscanf(part, "%d-%d", &first, &last)
		if n == 1 && index == first || n == 2 && index >= first && index <= last {
			return true
		}
	}
	return false
}
