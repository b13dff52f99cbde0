package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
)

// work brings attempts on that Start or Observe has seen something to do for. A
// fault of the moment is tried again by itself, later and later.
func (e *Executor) work(ctx context.Context) {
	for {
		uid, over := e.queue.Get()
		if over {
			return
		}
		err := e.tend(ctx, uid)
		switch {
		case err == nil:
			e.queue.Forget(uid)
		case ctx.Err() == nil:
			e.Log.Warn("an attempt is not brought on", "attempt", uid, "error", err)
			e.queue.AddRateLimited(uid)
		}
		e.queue.Done(uid)
	}
}

// tend does for one attempt what its picture asks for.
func (e *Executor) tend(ctx context.Context, uid penstock.UID) error {
	a, err := e.mirrored(uid)
	if err != nil || a == nil {
		return err
	}
	p := e.picture(a)
	if job := p.short(); !p.restless() && job != nil {
		return e.askWhy(ctx, a, job)
	}
	if !p.restless() {
		return nil
	}
	if p.mark(brokenMark) != "" {
		return e.deletePods(ctx, a, 1)
	}
	if err := e.miss(ctx, p); err != nil {
		return err
	}
	for _, job := range p.jobs {
		if suspended(job) && !p.queued(job) {
			// It ends here: what it ran can't be gone on with by its pods.
			if err := e.deleteJob(ctx, a, job.Name); err != nil {
				return err
			}
		}
	}
	for _, pod := range p.pods {
		if lingers(pod) && pod.DeletionTimestamp.IsZero() && p.done() {
			if err := e.deletePods(ctx, a, int64(standardGrace.Seconds())); err != nil {
				return err
			}
		}
		if p.site && p.hasQueue() && pod.Spec.NodeName != "" && p.mark(placedMark) == "" {
			if err := e.setMark(ctx, a, placedMark, marked); err != nil {
				return err
			}
		}
	}
	if !p.site {
		return e.bind(ctx, p)
	}
	return nil
}

// mirrored is a started attempt as the mirrors have it, or nil.
func (e *Executor) mirrored(uid penstock.UID) (*attempt, error) {
	for _, object := range indexed[*corev1.ConfigMap](e.mirrors.records, byAttempt, string(uid)) {
		if object.Annotations[startedMark] != "" && !e.isForgotten(object) {
			return readRecord(object)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.vanished[uid], nil
}

// askWhy finds out why a Job's pods aren't made: a quota is used up, a policy
// refuses them, a class doesn't exist. Only an event tells that.
func (e *Executor) askWhy(ctx context.Context, a *attempt, job *batchv1.Job) error {
	events, err := call(ctx, "ask why job "+job.Name+" has no pods", func(ctx context.Context) (*corev1.EventList, error) {
		return e.client.CoreV1().Events(job.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "reason=FailedCreate,involvedObject.kind=Job,involvedObject.uid=" + string(job.UID), Limit: 10,
		})
	})
	if err != nil || len(events.Items) == 0 {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waits[a.Attempt] = events.Items[len(events.Items)-1].Message
	return nil
}

// miss asks for the Jobs that the mirror lacks. One that isn't there although
// the record says that it was made never comes again.
func (e *Executor) miss(ctx context.Context, p picture) error {
	for set := range p.Sets {
		name := p.job(set)
		if p.jobs[name] != nil || p.mark(lostMark) != "" || p.ends[-1] != "" {
			continue
		}
		job, err := call(ctx, "look for job "+name, func(ctx context.Context) (*batchv1.Job, error) {
			return e.client.BatchV1().Jobs(p.namespace).Get(ctx, name, metav1.GetOptions{})
		})
		if err == nil && p.owns(job) {
			continue // the mirror is behind
		}
		if ignore(err, penstock.NotFound) != nil {
			return err
		}
		if err := e.lose(ctx, p.attempt, "its Job was deleted, by somebody or when its time was over: how it ended isn't known"); err != nil {
			return err
		}
	}
	return nil
}

// lose notes for good that a Job is gone: in the record, or where that is gone,
// too, in this process.
func (e *Executor) lose(ctx context.Context, a *attempt, why string) error {
	err := e.setMark(ctx, a, lostMark, why)
	if penstock.CodeOf(err) != penstock.NotFound {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends[a.Attempt] == nil {
		e.ends[a.Attempt] = map[int]string{}
	}
	e.ends[a.Attempt][-1] = why
	return nil
}

// bind gives all pods of a gang their nodes, in rank order, or breaks the gang
// up. What was bound before, by this server or another, stays: a gang is bound
// by the same record whoever does it.
func (e *Executor) bind(ctx context.Context, p picture) error {
	pods := sorted(p.pods)
	if len(pods) < p.world() {
		return nil // the rest of them comes
	}
	var waiting []int
	for rank, pod := range pods {
		switch {
		case over(pod) || !pod.DeletionTimestamp.IsZero():
			return nil // the gang ends, and its Job sees to that
		case pod.Spec.NodeName == "" && !e.isBound(pod):
			waiting = append(waiting, rank)
		case pod.Spec.NodeName != "" && pod.Spec.NodeName != p.Nodes[rank]:
			return e.breakUp(ctx, p, fmt.Sprintf("somebody has put rank %d on %s instead of %s", rank, pod.Spec.NodeName, p.Nodes[rank]))
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	if why := e.lacks(p, waiting, over); why != "" {
		return e.crowd(ctx, p, waiting, why)
	}
	if err := e.rehearse(ctx, p, waiting); err != nil {
		return e.unbound(ctx, p, err)
	}
	for _, rank := range waiting {
		if err := e.bindPod(ctx, p, rank, nil); err != nil {
			return e.unbound(ctx, p, err)
		}
		e.mu.Lock()
		e.bound[p.pods[rank].UID] = true
		e.mu.Unlock()
	}
	return nil
}

func (e *Executor) isBound(pod *corev1.Pod) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bound[pod.UID]
}

// rehearse asks for every binding of a gang without making it.
func (e *Executor) rehearse(ctx context.Context, p picture, waiting []int) error {
	if len(waiting) == 1 {
		return nil // one binding is all or nothing by itself
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(parallel)
	for _, rank := range waiting {
		all.Go(func() error { return e.bindPod(ctx, p, rank, []string{metav1.DryRunAll}) })
	}
	return all.Wait()
}

// unbound tells a fault of the moment, which leaves the gang as it is, from a no.
func (e *Executor) unbound(ctx context.Context, p picture, err error) error {
	switch penstock.CodeOf(err) {
	case penstock.Unavailable, penstock.Busy, penstock.Internal, penstock.Canceled:
		return err
	}
	return e.breakUp(ctx, p, "the gang can't be bound: "+penstock.Public(err))
}

func (e *Executor) bindPod(ctx context.Context, p picture, rank int, dryRun []string) error {
	pod := p.pods[rank]
	what := fmt.Sprintf("bind rank %d to %s", rank, p.Nodes[rank])
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: p.Nodes[rank]},
	}
	_, err := call(ctx, what, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{DryRun: dryRun})
	})
	if penstock.CodeOf(err) != penstock.Conflict {
		return err
	}
	// The answer to an earlier binding may have been lost.
	there, again := call(ctx, what, func(ctx context.Context) (*corev1.Pod, error) {
		return e.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	})
	if again == nil && there.UID == pod.UID && there.Spec.NodeName == p.Nodes[rank] {
		return nil
	}
	return err
}

// breakUp ends a gang that can't be bound: the reason first, so that it is known
// whatever happens then.
func (e *Executor) breakUp(ctx context.Context, p picture, why string) error {
	if err := e.setMark(ctx, p.attempt, brokenMark, why); err != nil {
		return err
	}
	return e.deletePods(ctx, p.attempt, 1)
}

// crowdedTime is what pods of ours have to give up the room that a gang was
// planned with, unless they are being ended: then the kubelet sees to it.
const crowdedTime = 5 * time.Second

// crowd is what becomes of a gang that hasn't room. The server knows from the
// agents that an attempt has ended, sooner than the cluster does: where it
// planned with room that pods of ours still hold, they are about to go.
func (e *Executor) crowd(ctx context.Context, p picture, waiting []int, why string) error {
	other := func(pod *corev1.Pod) bool {
		return pod.Labels[ownerLabel] == e.Prefix && pod.Labels[attemptLabel] != string(p.Attempt)
	}
	ending := func(pod *corev1.Pod) bool { return other(pod) && (!pod.DeletionTimestamp.IsZero() || taskEnded(pod)) }
	if e.lacks(p, waiting, ending) == "" {
		return nil // a pod that goes wakes us
	}
	if e.lacks(p, waiting, other) != "" || !e.patient(p.Attempt) {
		return e.breakUp(ctx, p, why)
	}
	return nil
}

// patient: a gang has waited less than crowdedTime for room, as far as this
// process knows.
func (e *Executor) patient(uid penstock.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.crowded[uid] == nil {
		e.crowded[uid] = time.After(crowdedTime)
	}
	select {
	case <-e.crowded[uid]:
		delete(e.crowded, uid)
		return false
	default:
		return true
	}
}

// lacks is why the nodes can't take what is to be bound, or "", once the pods
// that leave have left. The kubelet would refuse a pod that doesn't fit, but only
// when others of its gang run already.
func (e *Executor) lacks(p picture, waiting []int, leaves func(*corev1.Pod) bool) string {
	wanted := map[string]corev1.ResourceList{}
	for _, rank := range waiting {
		name := p.Nodes[rank]
		if wanted[name] == nil {
			wanted[name] = corev1.ResourceList{}
		}
		add(wanted[name], requests(p.pods[rank]))
	}
	for _, rank := range waiting {
		name := p.Nodes[rank]
		node := e.node(name)
		if node == nil {
			return fmt.Sprintf("rank %d was to run on %s, which is no node any more", rank, name)
		}
		if why := e.unavailable(node); why != "" {
			return fmt.Sprintf("rank %d was to run on %s, but %s", rank, name, why)
		}
		if why := e.full(node, wanted[name], leaves); why != "" {
			return fmt.Sprintf("rank %d was to run on %s, but %s", rank, name, why)
		}
	}
	return ""
}

// full is why a node hasn't room, or "", once the pods that leave have left.
func (e *Executor) full(node *corev1.Node, wanted corev1.ResourceList, leaves func(*corev1.Pod) bool) string {
	held := corev1.ResourceList{}
	for _, pod := range indexed[*corev1.Pod](e.mirrors.pods, byNode, node.Name) {
		if !over(pod) && !leaves(pod) {
			add(held, requests(pod))
		}
	}
	var names []corev1.ResourceName
	for name := range wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		want, has, taken := wanted[name], node.Status.Allocatable[name], held[name]
		free := has.DeepCopy()
		free.Sub(taken)
		if want.Cmp(free) > 0 {
			return fmt.Sprintf("that has %s of its %s %s free, and %s is wanted", free.String(), has.String(), name, want.String())
		}
	}
	return ""
}
