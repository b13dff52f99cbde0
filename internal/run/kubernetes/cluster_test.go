package kubernetes

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// realNode is the node of the test cluster with a kubelet; all others are KWOK's.
const realNode = "worker-1"

// world is a real cluster, started by hack/cluster.
type world struct {
	kubeconfig string
	host       string // this machine's address for pods
	client     kubernetes.Interface
	image      string // with the agent
	prefix     string // of the test's own executor
}

// need gives the test cluster. Without one the test says so, and fails where it
// must not be missing.
func need(t *testing.T) *world {
	t.Helper()
	w, err := found()
	if err != nil {
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatalf("NOT TESTED: %v", err)
		}
		t.Skipf("NOT TESTED: %v", err)
	}
	return &w
}

var found = sync.OnceValues(find)

func find() (world, error) {
	script := filepath.Join("..", "..", "..", "hack", "cluster")
	out, err := exec.Command(script, "env").Output()
	if err != nil {
		return world{}, fmt.Errorf("there is no cluster: run 'hack/cluster up' (%w)", err)
	}
	w := world{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case "KUBECONFIG":
			w.kubeconfig = value
		case "PENSTOCK_CLUSTER_HOST":
			w.host = value
		}
	}
	o := Options{Kubeconfig: w.kubeconfig, AgentImage: "none"}
	if err := o.check(); err != nil {
		return w, err
	}
	config, err := o.connect()
	if err != nil {
		return w, err
	}
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		return w, err
	}
	if _, err := w.client.Discovery().ServerVersion(); err != nil {
		return w, fmt.Errorf("the cluster does not answer: run 'hack/cluster up' (%w)", err)
	}
	w.image, err = agentImage(script)
	return w, err
}

// agentImage gives the real node an image FROM scratch with the agent in it.
func agentImage(script string) (string, error) {
	dir, err := os.MkdirTemp("", "penstock-image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "penstock-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/penstock/penstock/cmd/penstock-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build penstock-agent: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	name := "penstock.local/agent-under-test:" + hex.EncodeToString(sum[:6])
	archive := filepath.Join(dir, "image.tar")
	root := filepath.Dir(filepath.Dir(script))
	for _, step := range [][]string{
		{"sh", "-c", `exec "$0" -name "$1" "$2" > "$3"`, filepath.Join(root, ".build", "cluster", "bin", "image"), name, program, archive},
		{script, "import", archive},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("import the agent's image: %w\n%s", err, out)
		}
	}
	return name, nil
}

// options are those of an executor that has the cluster's real node for itself,
// with this machine's programs in every pod. All that it makes goes with the test.
func (w *world) options(t *testing.T) Options {
	t.Helper()
	o := Options{
		Kubeconfig: w.kubeconfig, Prefix: "t-" + strings.ToLower(rand.Text()[:8]), AgentImage: w.image, Image: w.image,
		Nodes: "kubernetes.io/hostname=" + realNode, QPS: 500,
		Volumes: []Volume{
			{Path: "/usr", HostPath: "/usr", ReadOnly: true}, {Path: "/bin", HostPath: "/usr/bin", ReadOnly: true},
			{Path: "/lib", HostPath: "/usr/lib", ReadOnly: true}, {Path: "/lib64", HostPath: "/usr/lib64", ReadOnly: true},
			{Path: "/etc/alternatives", HostPath: "/etc/alternatives", ReadOnly: true},
			{Path: os.TempDir(), HostPath: os.TempDir()},
		},
	}
	w.prefix = o.Prefix
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.endFakes(ctx, o.Prefix) }()
	t.Cleanup(func() { w.sweep(t, o.Prefix); cancel(); <-ended })
	return o
}

// endFakes ends the pods of an executor that are deleted and have no node, or one
// that went with its test: a cluster's garbage collector takes 20 s and more.
func (w *world) endFakes(ctx context.Context, prefix string) {
	status := []byte(`{"status":{"phase":"Failed"}}`)
	for ctx.Err() == nil {
		pods, err := w.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + prefix, FieldSelector: alive})
		if err != nil {
			return // the test ends
		}
		for i := range pods.Items {
			if pod := &pods.Items[i]; !pod.DeletionTimestamp.IsZero() && pod.Spec.NodeName != realNode {
				_, _ = w.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// sweep deletes the namespaces of an executor.
func (w *world) sweep(t *testing.T, prefix string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := w.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + prefix})
	if err != nil {
		t.Errorf("look for what the test left: %v", err)
		return
	}
	for _, space := range all.Items {
		zero := int64(0)
		_ = w.client.CoreV1().Pods(space.Name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
		if err := w.client.CoreV1().Namespaces().Delete(ctx, space.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace %s: %v", space.Name, err)
		}
	}
	await(t, "that nothing is left of the test", func() bool {
		pods, err := w.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + prefix})
		return err == nil && len(pods.Items) == 0
	})
}

// executor makes an Executor and waits until it knows the cluster.
func executor(t *testing.T, o Options) *Executor {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	await(t, "that the cluster is known", func() bool {
		_, err := e.Observe(t.Context())
		return err == nil && e.fresh(e.mirrors.nodes) == nil
	})
	return e
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen in 90 s", what)
		}
	}
}

// sleepers are a gang of one set on these nodes whose tasks sleep.
func sleepers(uid string, nodes ...string) []v1.Order {
	var orders []v1.Order
	for rank, node := range nodes {
		orders = append(orders, v1.Order{
			Server: v1.Contact{URL: "https://penstock.example:7070", Token: "a-token"}, Project: "vision", Job: "train", JobUID: "job-1",
			Attempt: penstock.UID(uid), Number: 1, Set: "worker", Index: rank, Rank: rank, WorldSize: len(nodes), Node: node,
			Command: []string{"/bin/sleep", "1000"}, Grace: v1.Duration(20 * time.Second),
			Resources: penstock.Resources{penstock.CPU: 100, penstock.Memory: 32 << 20},
			Labels:    map[string]string{"team": "Vision Team", "model": "llama"},
		})
	}
	return orders
}

// seen are the observations of one attempt, by rank.
func seen(t *testing.T, e *Executor, uid string) map[int]run.Observation {
	t.Helper()
	all, err := e.Observe(t.Context())
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	out := map[int]run.Observation{}
	for _, o := range all {
		if o.Attempt == penstock.UID(uid) {
			out[o.Rank] = o
		}
	}
	return out
}

// fake makes KWOK nodes of this test alone, each with 8 H100, and gives their
// names and the selector that finds them.
func (w *world) fake(t *testing.T, n int) (names []string, selector string) {
	t.Helper()
	mark := strings.ToLower(rand.Text()[:8])
	for range n {
		name := "t-gpu-" + strings.ToLower(rand.Text()[:8])
		w.makeNode(t, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
				Labels: map[string]string{"kubernetes.io/hostname": name, "type": "kwok", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "test.penstock.dev/fleet": mark},
			},
			// Nobody else's pods come here.
			Spec:   corev1.NodeSpec{Taints: []corev1.Taint{{Key: "kwok.x-k8s.io/node", Value: "fake", Effect: corev1.TaintEffectNoSchedule}}},
			Status: corev1.NodeStatus{Allocatable: list("cpu", "96", "memory", "1Ti", "pods", "110", "nvidia.com/gpu", "8")},
		})
		names = append(names, name)
	}
	selector = "test.penstock.dev/fleet=" + mark
	// A new node is closed until the cluster has heard that it is ready.
	await(t, "that the fake nodes are open", func() bool {
		list, err := w.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		return err == nil && !slices.ContainsFunc(list.Items, closed)
	})
	return names, selector
}

// closed: a node isn't ready, or still has the taint that says so.
func closed(node corev1.Node) bool {
	ready := func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	return !slices.ContainsFunc(node.Status.Conditions, ready) ||
		slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
}

// makeNode makes a node with a status, and removes it with the test.
func (w *world) makeNode(t *testing.T, node *corev1.Node) {
	t.Helper()
	node.Status.Capacity = node.Status.Allocatable
	if _, err := w.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.client.CoreV1().Nodes().Delete(context.Background(), node.Name, metav1.DeleteOptions{}) // the test may have
	})
	patch, err := json.Marshal(map[string]any{"status": node.Status})
	if err != nil {
		t.Fatal(err)
	}
	// Others write to it, too.
	if _, err := w.client.CoreV1().Nodes().Patch(t.Context(), node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// deletePod removes a pod at once.
func (w *world) deletePod(t *testing.T, namespace, name string) {
	t.Helper()
	zero := int64(0)
	_ = w.client.CoreV1().Pods(namespace).Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}) // it may be gone
}
