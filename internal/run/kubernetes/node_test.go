package kubernetes

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// list makes a resource list of names and amounts in turn.
func list(words ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(words); i += 2 {
		out[corev1.ResourceName(words[i])] = resource.MustParse(words[i+1])
	}
	return out
}

// ready is the status of a node that works.
func ready(allocatable corev1.ResourceList) corev1.NodeStatus {
	return corev1.NodeStatus{Allocatable: allocatable, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
}

// fleet is a node of each sort, as real clusters label them, and what is
// discovered of it.
func fleet() []struct {
	what        string
	labels      map[string]string
	spec        corev1.NodeSpec
	status      corev1.NodeStatus
	capacity    penstock.Resources
	memory      int64 // of the first device
	unavailable string
	told        map[string]string
} {
	type sort = struct {
		what        string
		labels      map[string]string
		spec        corev1.NodeSpec
		status      corev1.NodeStatus
		capacity    penstock.Resources
		memory      int64
		unavailable string
		told        map[string]string
	}
	return []sort{
		{
			what:   "nvidia, as GPU feature discovery labels it",
			labels: map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "1"},
			status: ready(list("cpu", "95500m", "memory", "1Ti", "nvidia.com/gpu", "8")), memory: 81559 << 20,
			capacity: penstock.Resources{"cpu": 95500, "memory": 1 << 40, "h100": 8000},
		},
		{
			what:   "nvidia without labels",
			status: ready(list("cpu", "4", "memory", "8Gi", "nvidia.com/gpu", "1")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "nvidia-gpu": 1000},
		},
		{
			what: "MIG under the strategy mixed, and whole devices",
			labels: map[string]string{
				"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.memory": "40960",
				"nvidia.com/mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "nvidia.com/mig-1g.5gb.memory": "4864", "nvidia.com/mig.strategy": "mixed",
			},
			status: ready(list("cpu", "4", "memory", "8Gi", "nvidia.com/gpu", "2", "nvidia.com/mig-1g.5gb", "7", "nvidia.com/mig-3g.20gb", "1")), memory: 40960 << 20,
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "a100": 2000, "a100-mig-1g-5gb": 7000, "a100-mig-3g-20gb": 1000},
		},
		{
			what:   "MIG under the strategy single",
			labels: map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "nvidia.com/gpu.memory": "9856"},
			status: ready(list("cpu", "4", "memory", "8Gi", "nvidia.com/gpu", "7")), memory: 9856 << 20,
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "h100-mig-1g-10gb": 7000},
		},
		{
			what:   "time slices under the device's own name",
			labels: map[string]string{"nvidia.com/gpu.product": "Tesla-T4-SHARED", "nvidia.com/gpu.memory": "15360", "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"},
			status: ready(list("cpu", "4", "memory", "8Gi", "nvidia.com/gpu", "4")), memory: 15360 << 20,
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "t4-shared": 4000},
		},
		{
			what:   "MPS under a name of its own",
			labels: map[string]string{"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068", "nvidia.com/gpu.replicas": "3", "nvidia.com/gpu.sharing-strategy": "mps"},
			status: ready(list("cpu", "4", "memory", "8Gi", "nvidia.com/gpu.shared", "3")), memory: 15356 << 20,
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "l40s-shared": 3000},
		},
		{
			what:   "AMD",
			labels: map[string]string{"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
			status: ready(list("cpu", "4", "memory", "8Gi", "amd.com/gpu", "8")), memory: 192 << 30,
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "mi300x": 8000},
		},
		{
			what:   "Google's TPU, with its place",
			labels: map[string]string{"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice", "cloud.google.com/gke-tpu-topology": "2x4", "topology.kubernetes.io/zone": "us-west4-a", "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true"},
			status: ready(list("cpu", "4", "memory", "8Gi", "google.com/tpu", "4")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "tpu-v5e": 4000},
			told: map[string]string{"cloud.google.com/gke-tpu-topology": "2x4", "topology.kubernetes.io/zone": "us-west4-a"},
		},
		{
			what: "Intel", status: ready(list("cpu", "4", "memory", "8Gi", "gpu.intel.com/xe", "2")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30, "intel-gpu": 2000},
		},
		{
			what: "cordoned", spec: corev1.NodeSpec{Unschedulable: true},
			status: ready(list("cpu", "4", "memory", "8Gi")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30}, unavailable: "cordoned",
		},
		{
			what: "tainted", spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "team", Value: "search", Effect: corev1.TaintEffectNoSchedule}}},
			status: ready(list("cpu", "4", "memory", "8Gi")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30}, unavailable: "tainted with team=search:NoSchedule",
		},
		{
			what: "tainted with what is borne", spec: corev1.NodeSpec{Taints: []corev1.Taint{
				{Key: "borne", Value: "yes", Effect: corev1.TaintEffectNoExecute}, {Key: "soft", Effect: corev1.TaintEffectPreferNoSchedule},
			}},
			status: ready(list("cpu", "4", "memory", "8Gi")), capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30},
		},
		{
			what: "not ready",
			status: corev1.NodeStatus{Allocatable: list("cpu", "4", "memory", "8Gi"), Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "the kubelet is starting"},
			}},
			capacity: penstock.Resources{"cpu": 4000, "memory": 8 << 30}, unavailable: "not ready: the kubelet is starting",
		},
	}
}

// TestNodesAreDiscoveredAsTheClusterTellsThem makes a node of each sort in a real
// cluster. None of them has a kubelet, so the test is done before the cluster
// wonders.
func TestNodesAreDiscoveredAsTheClusterTellsThem(t *testing.T) {
	w := need(t)
	mark := strings.ToLower(rand.Text()[:8])
	o := w.options(t)
	o.Nodes = "test.penstock.dev/fleet=" + mark
	// What the cluster itself puts on nodes that nobody has heard of.
	o.Tolerations = []Toleration{{Key: "node.kubernetes.io/not-ready"}, {Key: "node.kubernetes.io/unreachable"}, {Key: "borne", Value: "yes"}}
	e := executor(t, o)
	names := map[string]int{}
	for i, sort := range fleet() {
		name := "t-" + mark + "-" + strings.ToLower(rand.Text()[:4])
		names[name] = i
		labels := map[string]string{"test.penstock.dev/fleet": mark}
		for key, value := range sort.labels {
			labels[key] = value
		}
		w.makeNode(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: sort.spec, Status: sort.status})
	}
	var nodes []v1.Node
	await(t, "that all nodes are seen", func() bool {
		var err error
		if nodes, err = e.Nodes(t.Context()); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, n := range nodes {
			if n.Capacity[penstock.CPU] > 0 {
				whole++
			}
		}
		return whole == len(fleet())
	})
	for _, n := range nodes {
		sort := fleet()[names[n.Name]]
		if diff := cmp.Diff(sort.capacity, n.Capacity); diff != "" {
			t.Errorf("%s: capacity (-want +have):\n%s", sort.what, diff)
		}
		if sort.memory > 0 && (len(n.Devices) == 0 || n.Devices[0].Memory != sort.memory) {
			t.Errorf("%s: devices %+v, want %d bytes each", sort.what, n.Devices, sort.memory)
		}
		if (n.Unavailable == "") != (sort.unavailable == "") || !strings.Contains(n.Unavailable, sort.unavailable) {
			t.Errorf("%s: unavailable %q, want %q", sort.what, n.Unavailable, sort.unavailable)
		}
		if sort.told != nil {
			if diff := cmp.Diff(sort.told, n.Labels); diff != "" {
				t.Errorf("%s: labels (-want +have):\n%s", sort.what, diff)
			}
		}
		counted := penstock.Resources{}
		for _, d := range n.Devices {
			counted[d.Type] += 1000
		}
		for kind, amount := range n.Capacity {
			if kind.Accelerator() && counted[kind] != amount {
				t.Errorf("%s: %d devices of %s in thousandths, want %d", sort.what, counted[kind], kind, amount)
			}
		}
	}
}

// TestWhatOthersHoldIsNotOurs puts pods on a node that Penstock didn't start.
func TestWhatOthersHoldIsNotOurs(t *testing.T) {
	w := need(t)
	mark := strings.ToLower(rand.Text()[:8])
	o := w.options(t)
	o.Nodes = "test.penstock.dev/fleet=" + mark
	e := executor(t, o)
	name := "t-" + mark
	w.makeNode(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test.penstock.dev/fleet": mark, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
		Status:     ready(list("cpu", "16", "memory", "64Gi", "nvidia.com/gpu", "8")),
	})
	always := corev1.ContainerRestartPolicyAlways
	container := func(name string, words ...string) corev1.Container {
		return corev1.Container{Name: name, Image: "none", Resources: corev1.ResourceRequirements{Requests: list(words...), Limits: list(words...)}}
	}
	sidecar := container("sidecar", "cpu", "500m")
	sidecar.RestartPolicy = &always
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{
		NodeName: name, RestartPolicy: corev1.RestartPolicyNever,
		InitContainers: []corev1.Container{container("init", "cpu", "3"), sidecar},
		Containers:     []corev1.Container{container("main", "cpu", "2", "memory", "4Gi", "nvidia.com/gpu", "3")},
	}}
	if _, err := w.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.deletePod(t, "default", name) })
	want := v1.Node{
		Capacity: penstock.Resources{"cpu": 13000, "memory": 60 << 30, "h100": 5000},
		Others:   penstock.Resources{"cpu": 3000, "memory": 4 << 30, "h100": 3000},
	}
	await(t, "that the pod is counted", func() bool {
		nodes, err := e.Nodes(t.Context())
		return err == nil && len(nodes) == 1 && cmp.Equal(nodes[0].Capacity, want.Capacity) && cmp.Equal(nodes[0].Others, want.Others) && len(nodes[0].Devices) == 5
	})
	w.deletePod(t, "default", name)
	await(t, "that the node is free again", func() bool {
		nodes, err := e.Nodes(t.Context())
		return err == nil && len(nodes) == 1 && nodes[0].Capacity["h100"] == 8000 && nodes[0].Others == nil
	})
}
