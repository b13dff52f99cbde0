package kubernetes

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
)

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for what, o := range map[string]Options{
		"no agent":         {},
		"prefix":           {AgentImage: "a", Prefix: "Penstock_"},
		"long prefix":      {AgentImage: "a", Prefix: strings.Repeat("p", 21)},
		"placement":        {AgentImage: "a", Placement: "nobody"},
		"two placers":      {AgentImage: "a", Queue: "research"},
		"root":             {AgentImage: "a", User: -1},
		"selector":         {AgentImage: "a", Nodes: "a in b"},
		"volume of none":   {AgentImage: "a", Volumes: []Volume{{Path: "/data"}}},
		"volume of two":    {AgentImage: "a", Volumes: []Volume{{Path: "/data", HostPath: "/data", Claim: "data"}}},
		"kubeconfig":       {AgentImage: "a", Kubeconfig: "/nowhere"},
		"not in a cluster": {AgentImage: "a"},
	} {
		if _, err := New(o); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%s: %v, want invalid", what, err)
		}
	}
}

// TestARestrictedNamespaceTakesOurPods lets the real admission of Pod Security
// judge, and looks at what else was made.
func TestARestrictedNamespaceTakesOurPods(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 2)
	o.Egress = []string{"10.0.0.0/8"}
	e := executor(t, o)
	uid := begin(t, e, sleepers("pods-1", nodes...))
	pod := w.podOf(t, penstock.UID(uid), 1)
	space, err := w.client.CoreV1().Namespaces().Get(t.Context(), pod.Namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Namespace != o.Prefix+"-vision" || space.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("it is in namespace %s with labels %v", pod.Namespace, space.Labels)
	}
	want := map[string]string{
		"app.kubernetes.io/managed-by": "penstock", ownerLabel: o.Prefix, attemptLabel: uid, setLabel: "worker", firstLabel: "0",
		domain + "project": "vision", domain + "job": "train", domain + "number": "1", domain + "team": "Vision-Team", domain + "model": "llama",
	}
	for key, value := range want {
		if pod.Labels[key] != value {
			t.Errorf("label %s is %q, want %q", key, pod.Labels[key], value)
		}
	}
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken || pod.Spec.SchedulerName != "penstock" || *pod.Spec.TerminationGracePeriodSeconds != 50 {
		t.Errorf("its spec is %+v", pod.Spec)
	}
	if diff := cmp.Diff(list("cpu", "100m", "memory", "32Mi"), pod.Spec.Containers[0].Resources.Limits); diff != "" {
		t.Errorf("limits (-want +have):\n%s", diff)
	}
	policies, err := w.client.NetworkingV1().NetworkPolicies(pod.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, p := range policies.Items {
		names = append(names, p.Name)
		if p.Name == "penstock" && (len(p.Spec.PodSelector.MatchLabels) > 0 || !slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) || len(p.Spec.Egress) != 3) {
			t.Errorf("the namespace's policy is %+v", p.Spec)
		}
	}
	if len(names) != 2 {
		t.Errorf("the network policies are %v, want the namespace's and the gang's", names)
	}
	if _, err := w.client.CoreV1().ResourceQuotas(pod.Namespace).Get(t.Context(), "penstock", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	w.forgotten(t, e, uid, pod.Namespace)
}

// forgotten stops and forgets an attempt, and waits until the cluster has let go
// of all that its record owned.
func (w *world) forgotten(t *testing.T, e *Executor, uid, namespace string) {
	t.Helper()
	if err := e.Stop(t.Context(), penstock.UID(uid), time.Second); err != nil {
		t.Fatal(err)
	}
	all(t, e, uid, run.Gone, 2)
	if err := e.Forget(t.Context(), penstock.UID(uid)); err != nil {
		t.Fatal(err)
	}
	ours := metav1.ListOptions{LabelSelector: attemptLabel + "=" + uid}
	await(t, "that nothing is left of it", func() bool {
		pods, err1 := w.client.CoreV1().Pods(namespace).List(t.Context(), ours)
		jobs, err2 := w.client.BatchV1().Jobs(namespace).List(t.Context(), ours)
		secrets, err3 := w.client.CoreV1().Secrets(namespace).List(t.Context(), ours)
		services, err4 := w.client.CoreV1().Services(namespace).List(t.Context(), ours)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
			t.Fatal(err1, err2, err3, err4)
		}
		return len(pods.Items)+len(jobs.Items)+len(secrets.Items)+len(services.Items) == 0
	})
}

func TestStartThatCannotBeLeavesNothing(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	e := executor(t, o)
	for what, edit := range map[string]func(*v1.Order){
		"half a device":  func(o *v1.Order) { o.Resources = penstock.Resources{"h100": 500} },
		"a loopback":     func(o *v1.Order) { o.Server.URL = "http://127.0.0.1:7070" },
		"a file of ours": func(o *v1.Order) { o.Server = v1.Contact{AddressFile: "/run/penstock/address"} },
		"a bad uid":      func(o *v1.Order) { o.Attempt = "../x" },
	} {
		uid := "cannot-" + what[len(what)-3:]
		orders := sleepers(uid, nodes...)
		edit(&orders[0])
		err := e.Start(t.Context(), orders)
		if code := penstock.CodeOf(err); code != penstock.Invalid && code != penstock.Unsupported {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
		if left := w.jobs(t, uid); len(left) > 0 {
			t.Errorf("%s: %d jobs are left", what, len(left))
		}
		if observed := seen(t, e, uid); len(observed) > 0 {
			t.Errorf("%s: it is seen: %+v", what, observed)
		}
	}
}

// TestHalfAGangIsTakenBack lets the cluster refuse the second of two Jobs, where
// pods of the first may run already.
func TestHalfAGangIsTakenBack(t *testing.T) {
	w := need(t)
	o, nodes := w.fakes(t, 1)
	o.Placement = Site
	e := executor(t, o)
	start(t, e, sleepers("one-1", nodes[0])) // makes the namespace
	namespace := w.jobs(t, "one-1")[0].Namespace
	tight := quota(metav1.ObjectMeta{Name: "tight"})
	tight.Spec.Hard = list("count/jobs.batch", "2")
	if _, err := w.client.CoreV1().ResourceQuotas(namespace).Create(t.Context(), tight, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "that the quota is in force", func() bool {
		q, err := w.client.CoreV1().ResourceQuotas(namespace).Get(t.Context(), "tight", metav1.GetOptions{})
		return err == nil && len(q.Status.Used) > 0
	})
	orders := append(sleepers("two-1", nodes[0]), sleepers("two-1", nodes[0])...)
	orders[1].Set, orders[1].Rank = "server", 1
	if err := e.Start(t.Context(), orders); penstock.CodeOf(err) != penstock.Busy || !strings.Contains(err.Error(), "exceeded quota") {
		t.Errorf("start: %v, want busy", err)
	}
	pods, err := w.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: attemptLabel + "=two-1"})
	if err != nil || len(pods.Items) > 0 || len(w.jobs(t, "two-1")) > 0 || len(seen(t, e, "two-1")) > 0 {
		t.Errorf("%d pods are left (%v)", len(pods.Items), err)
	}
}

// TestTaskOverItsMemoryIsToldOf has a real kubelet hold the limit. Which process
// of the task the kernel takes is the kernel's to choose.
func TestTaskOverItsMemoryIsToldOf(t *testing.T) {
	w := need(t)
	e := executor(t, w.options(t))
	server := runtest.NewServerAt(t, w.host)
	orders := sleepers("memory-1", realNode)
	orders[0].Server, orders[0].Resources = server.Contact(), penstock.Resources{penstock.Memory: 64 << 20}
	orders[0].Command = []string{"/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}
	server.Keep(orders)
	start(t, e, orders)
	end := all(t, e, "memory-1", run.Gone, 1)[0]
	killed := strings.Contains(end.Detail, "OOMKilled") || strings.Contains(end.Detail, "signal 9")
	for _, r := range server.Reports(0) {
		killed = killed || r.Exited != nil && r.Exited.Signal == "SIGKILL"
	}
	if !killed {
		t.Errorf("it ended with %q and the reports %+v", end.Detail, server.Reports(0))
	}
}

func TestARunningTaskCanBeEntered(t *testing.T) {
	w := need(t)
	e := executor(t, w.options(t))
	server := runtest.NewServerAt(t, w.host)
	orders := sleepers("enter-1", realNode)
	orders[0].Server = server.Contact()
	orders[0].Command = []string{"/usr/bin/python3", "-m", "http.server", "8080", "--bind", "127.0.0.1"}
	orders[0].Resources = nil
	server.Keep(orders)
	if err := e.Exec(t.Context(), "enter-1", 0, []string{"/bin/true"}, run.Streams{}); penstock.CodeOf(err) != penstock.NotFound {
		t.Errorf("entering what isn't there gives %v", err)
	}
	begin(t, e, orders)
	var out, problems bytes.Buffer
	err := e.Exec(t.Context(), "enter-1", 0, []string{"/bin/sh", "-c", "cat; echo bad >&2; exit 3"}, run.Streams{In: strings.NewReader("hello"), Out: &out, Err: &problems})
	if err != run.Exit(3) || out.String() != "hello" || problems.String() != "bad\n" {
		t.Errorf("the command gave %v, %q and %q", err, out.String(), problems.String())
	}
	terminal := make(chan run.Size, 1)
	terminal <- run.Size{Columns: 91, Rows: 17}
	out.Reset()
	if err := e.Exec(t.Context(), "enter-1", 0, []string{"/bin/sh", "-c", "while [ \"$(stty size)\" = '0 0' ]; do sleep 0.1; done; stty size"}, run.Streams{Out: &out, Sizes: terminal}); err != nil || strings.TrimSpace(out.String()) != "17 91" {
		t.Errorf("its terminal has %q (%v)", out.String(), err)
	}
	var page []byte
	await(t, "that its port answers", func() bool {
		c, err := e.Dial(t.Context(), "enter-1", 0, 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return false
		}
		page, _ = io.ReadAll(c)
		return bytes.HasPrefix(page, []byte("HTTP/1.0 200"))
	})
	if !bytes.Contains(page, []byte("Directory listing")) {
		t.Errorf("the port answers %q", page)
	}
}

func TestIndexesOfCompletedTasksAreRead(t *testing.T) {
	for indexes, want := range map[string][]int{"": nil, "0": {0}, "1,3-5,7": {1, 3, 4, 5, 7}, "0-2": {0, 1, 2}} {
		var have []int
		for i := range 9 {
			if completed(indexes, i) {
				have = append(have, i)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%q: %s", indexes, diff)
		}
	}
}

func TestPodsTellHowTheyStand(t *testing.T) {
	ended := func(code int32, reason, message string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
			Name: taskContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}},
		}}}
	}
	running := []corev1.ContainerStatus{{Name: taskContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	waits := func(reason, message string) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
	evicted := ended(143, "Error", "")
	evicted.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting"}}
	for what, c := range map[string]struct {
		node   string
		status corev1.PodStatus
		state  run.State
		detail string
	}{
		"unbound":    {"", corev1.PodStatus{Phase: corev1.PodPending}, run.Pending, "waits for the scheduler"},
		"no room":    {"", corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes"}}}, run.Pending, "Unschedulable: 0/3 nodes"},
		"no image":   {"n1", corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: waits("ImagePullBackOff", "not found")}, run.Pending, "ImagePullBackOff on n1: not found"},
		"runs":       {"n1", corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: running}, run.Running, ""},
		"node lost":  {"n1", corev1.PodStatus{Phase: corev1.PodUnknown}, run.Running, ""},
		"delivered":  {"n1", ended(0, "Completed", ""), run.Gone, "delivered its last report"},
		"memory":     {"n1", ended(137, "OOMKilled", ""), run.Gone, "OOMKilled"},
		"killed":     {"n1", ended(137, "Error", ""), run.Gone, "killed by signal 9"},
		"fenced":     {"n1", ended(1, "Error", "step 7\npenstock-agent: attempt 2 has taken over\n"), run.Gone, "exit code 1: attempt 2 has taken over"},
		"evicted":    {"n1", evicted, run.Gone, "EvictionByEvictionAPI"},
		"refused":    {"n1", corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Node didn't have enough resource: cpu"}, run.Gone, "OutOfcpu: Node didn't"},
		"no install": {"n1", corev1.PodStatus{Phase: corev1.PodFailed, InitContainerStatuses: []corev1.ContainerStatus{{Name: "agent", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "penstock-agent: no space"}}}}}, run.Gone, "container agent: its agent left with exit code 1: no space"},
	} {
		have := podState(&corev1.Pod{Spec: corev1.PodSpec{NodeName: c.node}, Status: c.status})
		if have.State != c.state || !strings.Contains(have.Detail, c.detail) {
			t.Errorf("%s: %+v, want %s with %q", what, have, c.state, c.detail)
		}
	}
	alone := corev1.Pod{Status: ended(0, "Completed", "")}
	alone.Status.Phase = corev1.PodRunning // for a moment
	if !taskEnded(&alone) || lingers(&alone) {
		t.Error("a pod whose only container has ended is taken for one that doesn't end by itself")
	}
	deleted := corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}, Status: ended(143, "Error", "")}
	deleted.DeletionTimestamp.Time = time.Now()
	if have := podState(&deleted); !strings.Contains(have.Detail, podDeleted) || !strings.Contains(have.Detail, "signal 15") {
		t.Errorf("deleted while it ran: %+v", have)
	}
}

// TestTasksWithoutPodsTellHowTheyStand: a Job's word, and what was last seen.
func TestTasksWithoutPodsTellHowTheyStand(t *testing.T) {
	suspend := true
	job := func(status batchv1.JobStatus) *batchv1.Job { return &batchv1.Job{Status: status} }
	failed := batchv1.JobStatus{Failed: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Message: "backoff limit"}}}
	for what, c := range map[string]struct {
		job    *batchv1.Job
		ends   map[int]string
		state  run.State
		detail string
	}{
		"not mirrored yet": {nil, nil, run.Pending, "isn't seen"},
		"no pod yet":       {job(batchv1.JobStatus{}), nil, run.Pending, "waits for its pod"},
		"another failed":   {job(batchv1.JobStatus{Failed: 1}), nil, run.Running, "its Job ends"},
		"done":             {job(batchv1.JobStatus{CompletedIndexes: "0"}), nil, run.Gone, "succeeded"},
		"failed":           {job(failed), map[int]string{0: "it was evicted"}, run.Gone, "it was evicted; its Job is failed. backoff limit"},
		"lost with record": {nil, map[int]string{-1: "its Job was deleted"}, run.Gone, "its Job was deleted"},
		"suspended":        {&batchv1.Job{Spec: batchv1.JobSpec{Suspend: &suspend}}, nil, run.Running, "suspended"},
	} {
		a := &attempt{record: record{Sets: []part{{Name: "w", Count: 1}}}, name: "a"}
		p := picture{attempt: a, jobs: map[string]*batchv1.Job{}, ends: c.ends}
		if c.job != nil {
			p.jobs["a-0"] = c.job
		}
		if have := p.task(0); have.State != c.state || !strings.Contains(have.Detail, c.detail) {
			t.Errorf("%s: %+v, want %s with %q", what, have, c.state, c.detail)
		}
	}
}

// TestNoClockOfOursDecides reads the source: our clock may be minutes away from
// the cluster's, so it only measures how long something takes here, and nothing
// reads the times that the cluster has written down.
func TestNoClockOfOursDecides(t *testing.T) {
	measuring := []string{"mirror.go", "stop.go"} // since when a watch is down; which of two stops is earlier
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := s.X.(*ast.Ident)
			clock := x != nil && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, s.Sel.Name) && !slices.Contains(measuring, name)
			written := slices.Contains([]string{"LastTransitionTime", "StartTime", "CompletionTime", "FinishedAt", "StartedAt", "LastHeartbeatTime"}, s.Sel.Name)
			if clock || written {
				t.Errorf("%s: %s: a clock that is wrong would decide", fset.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
	}
}
