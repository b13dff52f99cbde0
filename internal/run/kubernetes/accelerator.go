package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
)

// family is how one vendor's accelerators are told on a node: the extended
// resource that pods ask for, and the labels that say what it stands for.
type family struct {
	resource string
	products []string                     // labels with the product's name; the first that is there counts
	memory   string                       // label with the memory of one, in MiB, or with a unit
	names    map[string]penstock.Resource // products that people call otherwise
	fallback penstock.Resource            // where no label tells
}

// families is the table of vendors. Labels and resources are as written by:
// NVIDIA's GPU feature discovery and device plugin, AMD's node labeller, Intel's
// device plugins and rules for NFD, Habana's device plugin, Google's GKE, and
// AWS's Neuron plugin and Karpenter.
func families() []family {
	nvidia := []string{"nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name", "k8s.amazonaws.com/accelerator"}
	return []family{
		{resource: "nvidia.com/gpu", products: nvidia, memory: "nvidia.com/gpu.memory", fallback: "nvidia-gpu"},
		{resource: "amd.com/gpu", products: []string{"amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"}, memory: "amd.com/gpu.vram", fallback: "amd-gpu"},
		{resource: "gpu.intel.com/i915", products: []string{"gpu.intel.com/product"}, fallback: "intel-gpu"},
		{resource: "gpu.intel.com/xe", products: []string{"gpu.intel.com/product"}, fallback: "intel-gpu"},
		{resource: "habana.ai/gaudi", fallback: "gaudi"},
		{resource: "aws.amazon.com/neuron", fallback: "neuron"},
		{resource: "google.com/tpu", products: []string{"cloud.google.com/gke-tpu-accelerator"}, fallback: "tpu", names: map[string]penstock.Resource{
			"tpu-v4-podslice": "tpu-v4", "tpu-v5-lite-podslice": "tpu-v5e", "tpu-v5-lite-device": "tpu-v5e",
			"tpu-v5p-slice": "tpu-v5p", "tpu-v6e-slice": "tpu-v6e", "tpu-v6e-device": "tpu-v6e", "tpu7x": "tpu-v7x",
		}},
	}
}

// migPrefix begins the resource of one size of MIG devices: nvidia.com/mig-1g.10gb.
const migPrefix = "nvidia.com/mig-"

// accelerator is one type of device on one node.
type accelerator struct {
	kind     penstock.Resource
	resource corev1.ResourceName // what pods ask for
	count    int64               // allocatable
	memory   int64               // bytes of each; 0 is unknown
	label    string              // what says the type, with value; "" is nothing
	value    string
}

// accelerators are those of a node, in order of kind.
func accelerators(node *corev1.Node) []accelerator {
	var out []accelerator
	for name, quantity := range node.Status.Allocatable {
		a, ok := recognize(node.Labels, string(name))
		if !ok || quantity.Value() <= 0 {
			continue
		}
		a.resource, a.count = name, quantity.Value()
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b accelerator) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.resource, b.resource))
	})
	return out
}

// recognize tells what one extended resource of a node with these labels is.
func recognize(labels map[string]string, name string) (accelerator, bool) {
	bare, shared := strings.CutSuffix(name, ".shared")
	if profile, ok := strings.CutPrefix(bare, migPrefix); ok {
		return mig(labels, bare, profile, shared), true
	}
	for _, f := range families() {
		if f.resource == bare {
			return f.read(labels, shared), true
		}
	}
	return accelerator{}, false
}

func (f family) read(labels map[string]string, shared bool) accelerator {
	a := accelerator{kind: f.fallback, memory: mebibytes(labels[f.memory])}
	for _, label := range f.products {
		product := labels[label]
		kind := f.names[product]
		if kind == "" {
			kind = run.DeviceType(product)
		}
		if kind != "" {
			a.kind, a.label, a.value = kind, label, product
			break
		}
	}
	a.share(labels, f.resource, shared)
	return a
}

// mig is a part of a device: under the strategy "mixed" each size is a resource
// of its own, with labels that begin with the resource's name.
func mig(labels map[string]string, resource, profile string, shared bool) accelerator {
	a := accelerator{label: resource + ".product", value: labels[resource+".product"], memory: mebibytes(labels[resource+".memory"])}
	a.kind = run.DeviceType(a.value)
	if a.kind == "" {
		a.label, a.value = "", ""
		a.kind = run.DeviceType(labels["nvidia.com/gpu.product"] + " mig " + profile)
	}
	a.share(labels, resource, shared)
	return a
}

// share marks a device that several pods get: each of its replicas is a whole
// one to Kubernetes, and none of them is to its user. Only under MPS each has its
// share of the memory for itself.
func (a *accelerator) share(labels map[string]string, resource string, renamed bool) {
	replicas, err := strconv.ParseInt(labels[resource+".replicas"], 10, 64)
	if !renamed && (err != nil || replicas < 2) {
		return
	}
	if !strings.HasSuffix(string(a.kind), "-shared") {
		a.kind += "-shared"
	}
	if labels[resource+".sharing-strategy"] == "mps" && replicas > 0 {
		a.memory /= replicas
	}
}

// mebibytes reads the amount of memory in a label, in bytes: a plain number is of
// MiB, as GPU feature discovery writes it, "192G" of GiB, as AMD's labeller does.
// 0 is no amount.
func mebibytes(label string) int64 {
	unit := int64(1 << 20)
	if digits, ok := strings.CutSuffix(label, "G"); ok {
		label, unit = digits, 1<<30
	}
	n, err := strconv.ParseInt(label, 10, 64)
	if err != nil || n < 0 || n > 1<<30 {
		return 0
	}
	return n * unit
}

// choice is how a type of accelerator is asked for in this cluster.
type choice struct {
	resource corev1.ResourceName
	found    []accelerator // one of each label and value
}

// findAccelerator looks on the nodes of a set, or where the site places on all of
// them, for how a type is asked for.
func (e *Executor) findAccelerator(kind penstock.Resource, p part, a *attempt) (choice, error) {
	var c choice
	for _, node := range e.nodes() {
		if e.Placement == Planned && !slices.Contains(a.Nodes[p.First:p.First+p.Count], node.Name) {
			continue
		}
		for _, x := range accelerators(node) {
			switch {
			case x.kind != kind:
			case c.resource != "" && c.resource != x.resource && e.Placement == Planned:
				return c, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("task set %s can't have %s: its nodes call it %s and %s", p.Name, kind, c.resource, x.resource)}
			case c.resource == "" || c.resource == x.resource:
				c.resource, c.found = x.resource, append(c.found, x)
			}
		}
	}
	if c.resource == "" {
		return c, &penstock.Error{
			Code: penstock.Unavailable, Msg: fmt.Sprintf("no node for task set %s has %s now", p.Name, kind),
			Hint: "see the nodes of the pool",
		}
	}
	return c, nil
}

// terms are the nodes that have the type, any of them: all types of a vendor have
// one name with Kubernetes. nil is all nodes.
func (c choice) terms() []corev1.NodeSelectorTerm {
	values := map[string][]string{}
	for _, a := range c.found {
		if a.label == "" {
			return nil // what isn't told can't be asked for
		}
		if !slices.Contains(values[a.label], a.value) {
			values[a.label] = append(values[a.label], a.value)
		}
	}
	var terms []corev1.NodeSelectorTerm
	for _, label := range slices.Sorted(maps.Keys(values)) {
		slices.Sort(values[label])
		terms = append(terms, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: values[label]}}})
	}
	return terms
}

// affinity keeps the site's scheduler to the nodes of these terms and of
// Options.Nodes. It is nil for all nodes.
func (e *Executor) affinity(terms []corev1.NodeSelectorTerm) *corev1.Affinity {
	selector, err := labels.Parse(e.Options.Nodes)
	if err != nil {
		selector = labels.Nothing() // New has refused it
	}
	operators := map[selection.Operator]corev1.NodeSelectorOperator{
		selection.In: corev1.NodeSelectorOpIn, selection.Equals: corev1.NodeSelectorOpIn, selection.DoubleEquals: corev1.NodeSelectorOpIn,
		selection.NotIn: corev1.NodeSelectorOpNotIn, selection.NotEquals: corev1.NodeSelectorOpNotIn,
		selection.Exists: corev1.NodeSelectorOpExists, selection.DoesNotExist: corev1.NodeSelectorOpDoesNotExist,
		selection.GreaterThan: corev1.NodeSelectorOpGt, selection.LessThan: corev1.NodeSelectorOpLt,
	}
	requirements, _ := selector.Requirements()
	if len(terms) == 0 && len(requirements) > 0 {
		terms = []corev1.NodeSelectorTerm{{}}
	}
	for i := range terms {
		for _, r := range requirements {
			terms[i].MatchExpressions = append(terms[i].MatchExpressions, corev1.NodeSelectorRequirement{
				Key: r.Key(), Operator: operators[r.Operator()], Values: r.Values().List(),
			})
		}
	}
	if len(terms) == 0 {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
}
