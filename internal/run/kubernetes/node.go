package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-helpers/resource"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Nodes implements run.Executor: the nodes that Options.Nodes selects, with what
// pods that aren't Penstock's leave of them.
func (e *Executor) Nodes(ctx context.Context) ([]v1.Node, error) {
	if err := e.fresh(e.mirrors.nodes, e.mirrors.pods); err != nil {
		return nil, err
	}
	var out []v1.Node
	for _, node := range e.nodes() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		out = append(out, e.describe(node))
	}
	return out, nil
}

// nodes are the mirrored nodes, in order of name.
func (e *Executor) nodes() []*corev1.Node {
	var out []*corev1.Node
	for _, o := range e.mirrors.nodes.GetStore().List() {
		if node, ok := o.(*corev1.Node); ok {
			out = append(out, node)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// node is one mirrored node, or nil.
func (e *Executor) node(name string) *corev1.Node {
	o, _, err := e.mirrors.nodes.GetStore().GetByKey(name)
	node, ok := o.(*corev1.Node)
	if err != nil || !ok {
		return nil
	}
	return node
}

func (e *Executor) describe(node *corev1.Node) v1.Node {
	others := corev1.ResourceList{}
	for _, pod := range indexed[*corev1.Pod](e.mirrors.pods, byNode, node.Name) {
		if pod.Labels[ownerLabel] != e.Prefix && !over(pod) {
			add(others, requests(pod))
		}
	}
	free := node.Status.Allocatable.DeepCopy()
	subtract(free, others)
	n := v1.Node{
		Name: node.Name, Labels: topology(node.Labels), Unavailable: e.unavailable(node),
		Capacity: penstock.Resources{penstock.CPU: penstock.Amount(free.Cpu().MilliValue()), penstock.Memory: penstock.Amount(free.Memory().Value())},
	}
	held := penstock.Resources{penstock.CPU: penstock.Amount(others.Cpu().MilliValue()), penstock.Memory: penstock.Amount(others.Memory().Value())}
	for _, a := range accelerators(node) {
		left := free[a.resource]
		taken := others[a.resource]
		held[a.kind] = held[a.kind].Add(penstock.Amount(1000 * taken.Value()))
		n.Capacity[a.kind] = n.Capacity[a.kind].Add(penstock.Amount(1000 * left.Value()))
		for range left.Value() {
			// Which device a pod gets is the kubelet's to choose: these only count.
			id := string(a.kind) + "-" + strconv.Itoa(len(n.Devices))
			n.Devices = append(n.Devices, v1.Device{ID: id, Type: a.kind, Memory: a.memory})
		}
	}
	for name, amount := range held {
		if amount > 0 {
			if n.Others == nil {
				n.Others = penstock.Resources{}
			}
			n.Others[name] = amount
		}
	}
	return n
}

// over: the pod holds nothing any more.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// requests are what a pod holds of its node, counted as the scheduler counts.
func requests(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{})
}

func add(sum, more corev1.ResourceList) {
	for name, q := range more {
		total := sum[name]
		total.Add(q)
		sum[name] = total
	}
}

// subtract takes away what is held; less than nothing isn't free.
func subtract(free, held corev1.ResourceList) {
	for name, q := range held {
		left, ok := free[name]
		if !ok {
			continue
		}
		left.Sub(q)
		if left.Sign() < 0 {
			left.Sub(left)
		}
		free[name] = left
	}
}

// unavailable is why nothing new may start on a node, or "".
func (e *Executor) unavailable(node *corev1.Node) string {
	ready := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	switch {
	case !node.DeletionTimestamp.IsZero():
		return "it is being removed from the cluster"
	case ready < 0:
		return "it has never been ready"
	case node.Status.Conditions[ready].Status != corev1.ConditionTrue:
		return strings.TrimSpace("it is not ready: " + node.Status.Conditions[ready].Message)
	case node.Spec.Unschedulable:
		return "it is cordoned"
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !e.tolerated(taint) {
			return fmt.Sprintf("it is tainted with %s", taint.ToString())
		}
	}
	return ""
}

func (e *Executor) tolerated(taint corev1.Taint) bool {
	return slices.ContainsFunc(e.Tolerations, func(t Toleration) bool {
		return (t.Key == taint.Key || t.Key == "") && (t.Value == "" || t.Value == taint.Value) && (t.Effect == "" || t.Effect == string(taint.Effect))
	})
}

// told are labels of a node that are kept although their name says nothing of
// topology.
var kept = []string{
	corev1.LabelHostname, corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelInstanceTypeStable,
	"nvidia.com/gpu.clique", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
}

// topology are the labels that say where a node is, at any level: region, zone,
// block, rack, switch. Feature discovery writes a hundred more, which nobody
// places by.
func topology(labels map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range labels {
		if strings.Contains(key, "topology") || slices.Contains(kept, key) {
			out[key] = value
		}
	}
	return out
}

// sameNode: nothing has changed that Nodes tells.
func sameNode(a, b *corev1.Node) bool {
	return equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) && readiness(a) == readiness(b)
}

func readiness(node *corev1.Node) corev1.ConditionStatus {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}
