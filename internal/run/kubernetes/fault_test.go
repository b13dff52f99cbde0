package kubernetes

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// fakes are options for a number of KWOK nodes of the test's own.
func (w *world) fakes(t *testing.T, n int) (Options, []string) {
	t.Helper()
	o := w.options(t)
	o.Volumes = nil // nothing runs there: the namespaces are "restricted"
	o.Image = "registry.example/train:1"
	o.Tolerations = []Toleration{{Key: "kwok.x-k8s.io/node"}}
	nodes, fleet := w.fake(t, n)
	o.Nodes = fleet
	return o, nodes
}

// begin starts a gang and waits until all of it runs.
func begin(t *testing.T, e *Executor, orders []v1.Order) string {
	t.Helper()
	uid := string(orders[0].Attempt)
	start(t, e, orders)
	all(t, e, uid, run.Running, len(orders))
	return uid
}

func start(t *testing.T, e *Executor, orders []v1.Order) {
	t.Helper()
	ready := false
	await(t, "that the nodes are ready", func() bool {
		nodes, err := e.Nodes(t.Context())
		ready = err == nil
		for _, n := range nodes {
			for _, o := range orders {
				ready = ready && (n.Name != o.Node || n.Unavailable == "")
			}
		}
		return ready
	})
	if err := e.Start(t.Context(), orders); err != nil {
		t.Fatalf("start: %v", err)
	}
}

// all waits until all n tasks of an attempt are in one state.
func all(t *testing.T, e *Executor, uid string, state run.State, n int) map[int]run.Observation {
	t.Helper()
	var last map[int]run.Observation
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		last = seen(t, e, uid)
		count := 0
		for _, o := range last {
			if o.State == state {
				count++
			}
		}
		if count == n && len(last) == n {
			return last
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all are %s within 2 minutes: %+v", state, last)
		}
	}
}

func says(t *testing.T, observed map[int]run.Observation, words ...string) {
	t.Helper()
	for rank, o := range observed {
		for _, word := range words {
			if !strings.Contains(o.Detail, word) {
				t.Errorf("rank %d is %s with %q, want that it tells of %q", rank, o.State, o.Detail, word)
			}
		}
	}
}

func (w *world) jobs(t *testing.T, uid string) []batchv1.Job {
	t.Helper()
	list, err := w.client.BatchV1().Jobs("").List(t.Context(), metav1.ListOptions{LabelSelector: ownerLabel + "=" + w.prefix + "," + attemptLabel + "=" + uid})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestServerAwayIsNeverTakenForNews(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	o.Stale = 2 * time.Second
	o, p := w.proxied(t, o)
	e := executor(t, o)
	uid := begin(t, e, sleepers("away-1", nodes...))
	p.down()
	if seen(t, e, uid)[0].State != run.Running {
		t.Error("a moment without the API server changes what is so")
	}
	pod := w.podOf(t, penstock.UID(uid), 0)
	w.deletePod(t, pod.Namespace, pod.Name) // behind the back of an executor that can't see it
	await(t, "that old news is refused", func() bool {
		_, err := e.Observe(t.Context())
		if err != nil && penstock.CodeOf(err) != penstock.Unavailable {
			t.Fatalf("observe: %v, want unavailable", err)
		}
		return err != nil
	})
	if _, err := e.Nodes(t.Context()); penstock.CodeOf(err) != penstock.Unavailable {
		t.Errorf("nodes: %v, want unavailable", err)
	}
	if err := e.Start(t.Context(), sleepers("away-2", nodes...)); penstock.CodeOf(err) != penstock.Unavailable {
		t.Errorf("start: %v, want unavailable", err)
	}
	p.up()
	await(t, "that there is news again", func() bool { _, err := e.Observe(t.Context()); return err == nil })
	all(t, e, uid, run.Gone, 1)
}

func TestExpiredWatchIsReadAnew(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	o, p := w.proxied(t, o)
	e := executor(t, o)
	uid := begin(t, e, sleepers("expired-1", nodes...))
	p.down()
	p.set(func(p *proxy) { p.old = true }) // the server answers 410, Expired: it has forgotten that revision
	for _, job := range w.jobs(t, uid) {
		orphan := metav1.DeletePropagationOrphan
		if err := w.client.BatchV1().Jobs(job.Namespace).Delete(t.Context(), job.Name, metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
			t.Fatal(err)
		}
	}
	pod := w.podOf(t, penstock.UID(uid), 0)
	w.deletePod(t, pod.Namespace, pod.Name)
	p.up()
	await(t, "that a watch is refused and begun anew", func() bool { _, err := e.Observe(t.Context()); return err == nil })
	p.set(func(p *proxy) { p.old = false })
	all(t, e, uid, run.Gone, 1)
}

// TestLostAnswersMakeNothingTwice loses the answer to each call that Start and
// the binder make, one after another.
func TestLostAnswersMakeNothingTwice(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	o, p := w.proxied(t, o)
	e := executor(t, o)
	for _, kind := range []string{"/configmaps", "/secrets", "/services", "/networkpolicies", "/jobs", "PATCH", "/binding"} {
		lost := false
		p.set(func(p *proxy) {
			p.lose = func(r *http.Request) bool {
				match := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, kind) || r.Method == kind && strings.Contains(r.URL.Path, "/configmaps/")
				match = match && r.URL.Query().Get("dryRun") == "" && !lost
				lost = lost || match
				return match
			}
		})
		uid := "lost-" + strings.ToLower(strings.Trim(kind, "/"))
		orders := sleepers(uid, nodes...)
		await(t, "a start that succeeds, with a lost answer to "+kind, func() bool {
			err := e.Start(t.Context(), orders)
			if err != nil && penstock.CodeOf(err) != penstock.Unavailable {
				t.Fatalf("%s: start: %v, want unavailable", kind, err)
			}
			return err == nil
		})
		all(t, e, uid, run.Running, 2)
		if jobs := w.jobs(t, uid); len(jobs) != 1 || jobs[0].Status.Failed > 0 {
			t.Errorf("%s: there are %d jobs, the first with %d failures", kind, len(jobs), jobs[0].Status.Failed)
		}
		if p.set(func(p *proxy) { p.lose = nil }); !lost {
			t.Errorf("no answer to %s was lost: nothing was tested", kind)
		}
	}
}

func TestAnotherGangOfTheSameNameIsRefused(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	e := executor(t, o)
	start(t, e, sleepers("same-1", nodes[0]))
	if err := e.Start(t.Context(), sleepers("same-1", nodes...)); penstock.CodeOf(err) != penstock.Conflict {
		t.Errorf("starting it otherwise gives %v, want a conflict", err)
	}
	if err := e.Start(t.Context(), sleepers("same-1", nodes[0])); err != nil {
		t.Errorf("starting it again gives %v", err)
	}
}

func TestWhatIsChangedBehindOurBackIsGone(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	e := executor(t, o)
	for name, c := range map[string]struct {
		do    func(pod *corev1.Pod, job batchv1.Job) error
		words []string
	}{
		"pod-deleted": {func(pod *corev1.Pod, _ batchv1.Job) error {
			return w.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{})
		}, nil},
		"job-deleted": {func(_ *corev1.Pod, job batchv1.Job) error {
			background := metav1.DeletePropagationBackground
			return w.client.BatchV1().Jobs(job.Namespace).Delete(t.Context(), job.Name, metav1.DeleteOptions{PropagationPolicy: &background})
		}, []string{"deleted"}},
		"job-suspended": {func(_ *corev1.Pod, job batchv1.Job) error {
			_, err := w.client.BatchV1().Jobs(job.Namespace).Patch(t.Context(), job.Name, types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
			return err
		}, nil},
		"record-deleted": {func(pod *corev1.Pod, _ batchv1.Job) error {
			return w.client.CoreV1().ConfigMaps(pod.Namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: attemptLabel + "=" + pod.Labels[attemptLabel]})
		}, nil},
		"pod-evicted": {func(pod *corev1.Pod, _ batchv1.Job) error {
			return w.client.PolicyV1().Evictions(pod.Namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			uid := begin(t, e, sleepers(name, nodes...))
			if err := c.do(w.podOf(t, penstock.UID(uid), 0), w.jobs(t, uid)[0]); err != nil {
				t.Fatal(err)
			}
			states := all(t, e, uid, run.Gone, 2)
			says(t, states, c.words...)
			if name == "pod-evicted" && !strings.Contains(states[0].Detail, "vict") {
				t.Errorf("rank 0 is gone with %q, want that it was evicted", states[0].Detail)
			}
			if again := seen(t, e, uid); len(again) != 2 || again[0].State != run.Gone {
				t.Errorf("later it is %+v", again)
			}
			if err := e.Forget(t.Context(), penstock.UID(uid)); err != nil {
				t.Errorf("forget: %v", err)
			}
			if left := seen(t, e, uid); len(left) > 0 {
				t.Errorf("forgotten, it is still seen: %+v", left)
			}
		})
	}
}

// TestATaskThatHasEndedTakesNoOtherWithIt plays the kubelet of pods into which the
// site has put something that runs on.
func TestATaskThatHasEndedTakesNoOtherWithIt(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	e := executor(t, o)
	uid := begin(t, e, sleepers("ended-1", nodes...))
	ends := func(rank int) {
		const status = `{"status":{"containerStatuses":[
			{"name":"task","image":"","imageID":"","ready":false,"restartCount":0,"state":{"running":null,"terminated":{"exitCode":0,"reason":"Completed"}}},
			{"name":"of-the-site","image":"","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}`
		pod := w.podOf(t, penstock.UID(uid), rank)
		if _, err := w.client.CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		await(t, "that it is mirrored", func() bool {
			mirrored, err := e.pod(t.Context(), penstock.UID(uid), rank)
			return err == nil && taskEnded(mirrored)
		})
	}
	ends(0)
	if err := e.tend(t.Context(), penstock.UID(uid)); err != nil {
		t.Fatal(err)
	}
	for rank := range 2 {
		if pod := w.podOf(t, penstock.UID(uid), rank); !pod.DeletionTimestamp.IsZero() {
			t.Errorf("the pod of rank %d is deleted because the task of rank 0 has ended", rank)
		}
	}
	ends(1)
	all(t, e, uid, run.Gone, 2) // what the site put there is ended with them
}

// TestLostNodeEndsNothingBeforeItIsSure plays the kubelet of a node, which falls
// silent, comes back, and is given up.
func TestLostNodeEndsNothingBeforeItIsSure(t *testing.T) {
	w := need(t)
	o := w.options(t)
	o.Volumes = nil
	name := "t-" + o.Prefix
	o.Nodes = "kubernetes.io/hostname=" + name
	e := executor(t, o)
	w.makeNode(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status:     ready(list("cpu", "4", "memory", "8Gi", "pods", "10")),
	})
	silence := w.beat(t, name)
	start(t, e, sleepers("node-1", name))
	await(t, "that it is bound", func() bool {
		return seen(t, e, "node-1")[0].Detail == "its pod starts on "+name
	})
	pod := w.podOf(t, "node-1", 0)
	status := []byte(`{"status":{"phase":"Running","containerStatuses":[{"name":"task","image":"","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}`)
	if _, err := w.client.CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	all(t, e, "node-1", run.Running, 1)
	unavailable := func() string {
		found, err := e.Nodes(t.Context())
		if err != nil || len(found) != 1 {
			t.Fatalf("%d nodes (%v)", len(found), err)
		}
		return found[0].Unavailable
	}
	silence()
	await(t, "that the node is missed", func() bool { return unavailable() != "" })
	if state := seen(t, e, "node-1")[0]; state.State != run.Running {
		t.Errorf("a task on a node that is not heard of is %+v: nobody knows", state)
	}
	silence = w.beat(t, name)
	await(t, "that the node is back", func() bool { return unavailable() == "" })
	if state := seen(t, e, "node-1")[0]; state.State != run.Running {
		t.Errorf("a task on a node that came back is %+v", state)
	}
	silence()
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	says(t, all(t, e, "node-1", run.Gone, 1), "node")
}

// beat reports a node as ready, as its kubelet would, until silence is called.
func (w *world) beat(t *testing.T, node string) (silence func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	leases := w.client.CoordinationV1().Leases("kube-node-lease")
	seconds := int32(40)
	go func() {
		for ctx.Err() == nil {
			now := metav1.NowMicro()
			lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &now}}
			if _, err := leases.Create(ctx, lease, metav1.CreateOptions{}); err != nil {
				patch, _ := json.Marshal(map[string]any{"spec": lease.Spec}) // can be encoded
				_, _ = leases.Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
			}
			_, _ = w.client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(`{"status":{"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady"}]}}`), metav1.PatchOptions{}, "status")
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return cancel
}

func TestFinishedJobThatTimeDeletedBeforeItWasSeenIsGone(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	o.Annotations = map[string]string{"pod-complete.stage.kwok.x-k8s.io/delay": "1s"}
	e := executor(t, o)
	start(t, e, sleepers("ttl-1", nodes...))
	await(t, "the pod's node", func() bool {
		seen(t, e, "ttl-1")
		pods := w.jobs(t, "ttl-1")
		return len(pods) == 1 && pods[0].Status.Succeeded+pods[0].Status.Active > 0 && w.podOf(t, "ttl-1", 0).Spec.NodeName != ""
	})
	e.Close() // nobody looks from here on
	job := w.jobs(t, "ttl-1")[0]
	if _, err := w.client.BatchV1().Jobs(job.Namespace).Patch(t.Context(), job.Name, types.MergePatchType, []byte(`{"spec":{"ttlSecondsAfterFinished":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "that its time is over", func() bool { return len(w.jobs(t, "ttl-1")) == 0 })
	later := executor(t, o)
	says(t, all(t, later, "ttl-1", run.Gone, 1), "its time")
	// What was found out once is known for good.
	next := executor(t, o)
	await(t, "that another server knows it at once", func() bool {
		o := seen(t, next, "ttl-1")[0]
		return o.State == run.Gone && strings.Contains(o.Detail, "its time")
	})
	if err := later.Start(t.Context(), sleepers("ttl-1", nodes...)); err != nil || len(w.jobs(t, "ttl-1")) > 0 {
		t.Errorf("starting it again makes jobs (%v)", err)
	}
}

func TestGangIsBoundWholeOrNotAtAll(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 3)
	o, p := w.proxied(t, o)
	e := executor(t, o)

	orders := sleepers("whole-1", nodes...)
	for i := range orders {
		orders[i].Resources["h100"] = 8000
	}
	begin(t, e, orders)
	for rank, node := range nodes {
		if pod := w.podOf(t, "whole-1", rank); pod.Spec.NodeName != node {
			t.Errorf("rank %d is on %q, want %q", rank, pod.Spec.NodeName, node)
		}
	}

	bound := p.count("/binding")
	start(t, e, sleepers("room-1", nodes...)) // fits beside it: no devices
	all(t, e, "room-1", run.Running, 3)
	full := sleepers("room-2", nodes...)
	full[2].Resources = penstock.Resources{penstock.CPU: 100, "h100": 1000}
	for i := range full {
		full[i].Resources = full[2].Resources
	}
	start(t, e, full)
	says(t, all(t, e, "room-2", run.Gone, 3), "0 of its 8 nvidia.com/gpu free", "rank 0")
	if now := p.count("/binding"); now-bound != 6 { // a rehearsal and a binding for each of room-1
		t.Errorf("%d calls to bind, want 6: of a gang without room nothing is bound", now-bound)
	}

	// One pod of three goes between the rehearsal and its binding.
	bindings := 0
	p.set(func(p *proxy) {
		p.before = func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/binding") && r.URL.Query().Get("dryRun") == "" {
				if bindings++; bindings == 2 {
					pod := w.podOf(t, "half-1", 1)
					w.deletePod(t, pod.Namespace, pod.Name)
					await(t, "that it is gone", func() bool {
						there, err := w.client.CoreV1().Pods(pod.Namespace).Get(context.Background(), pod.Name, metav1.GetOptions{})
						return err != nil || !there.DeletionTimestamp.IsZero()
					})
				}
			}
		}
	})
	start(t, e, sleepers("half-1", nodes...))
	says(t, all(t, e, "half-1", run.Gone, 3), "can't be bound")
	if bindings != 2 {
		t.Errorf("%d bindings were made, want that the second ends it", bindings)
	}
}

func TestSiteSchedulesAndQueues(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	o.Placement = Site
	e := executor(t, o)
	orders := sleepers("site-1", nodes...)
	for i := range orders {
		orders[i].Resources["h100"] = 5000
	}
	begin(t, e, orders)
	for rank, state := range seen(t, e, "site-1") {
		if state.Node == "" || state.Node != w.podOf(t, "site-1", rank).Spec.NodeName {
			t.Errorf("rank %d is seen on %q", rank, state.Node)
		}
	}

	o.Queue = "research"
	q := executor(t, o)
	if err := q.Start(t.Context(), sleepers("queued-1", nodes...)); err != nil {
		t.Fatal(err)
	}
	await(t, "that it waits in its queue", func() bool {
		s := seen(t, q, "queued-1")
		return s[0].State == run.Pending && strings.Contains(s[0].Detail, "queue research")
	})
	job := w.jobs(t, "queued-1")[0]
	if job.Labels[queueLabel] != "research" || !*job.Spec.Suspend {
		t.Errorf("its job has labels %v", job.Labels)
	}
	suspend := func(text string) {
		if _, err := w.client.BatchV1().Jobs(job.Namespace).Patch(t.Context(), job.Name, types.MergePatchType, []byte(`{"spec":{"suspend":`+text+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	suspend("false") // as Kueue does when it admits
	all(t, q, "queued-1", run.Running, 2)
	await(t, "that the record knows of it", func() bool {
		_ = seen(t, q, "queued-1")
		a, err := q.mirrored("queued-1")
		return err == nil && a.mark(placedMark) != ""
	})
	suspend("true") // as Kueue does when it preempts
	all(t, q, "queued-1", run.Gone, 2)

	if err := q.Start(t.Context(), sleepers("queued-2", nodes...)); err != nil {
		t.Fatal(err)
	}
	await(t, "that it is stopped before it began", func() bool {
		if err := q.Stop(t.Context(), "queued-2", time.Second); err != nil {
			t.Fatal(err)
		}
		s := seen(t, q, "queued-2")
		return len(s) == 2 && s[0].State == run.Gone && s[1].State == run.Gone
	})
}

func TestPodsThatMayNotBeMadeAreToldOf(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	o.PriorityClass = "no-such-class"
	e := executor(t, o)
	start(t, e, sleepers("class-1", nodes...))
	await(t, "that it is told why", func() bool {
		s := seen(t, e, "class-1")[0]
		return s.State == run.Pending && strings.Contains(s.Detail, "no-such-class")
	})
	await(t, "that it can be stopped all the same", func() bool {
		if err := e.Stop(t.Context(), "class-1", time.Second); err != nil {
			t.Fatal(err)
		}
		return seen(t, e, "class-1")[0].State == run.Gone
	})
}
