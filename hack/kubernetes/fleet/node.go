package main

import (
	"fmt"
	"strconv"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fakeLabel is on every node of this program.
const fakeLabel = "type=kwok"

// How the fleet is built: every fiftieth machine has a GPU that is cut by MIG,
// four machines share an NVLink domain, sixteen a rack, 32 a block, 128 a zone.
const (
	gpus         = 8
	migEvery     = 50
	cliqueSize   = 4
	rackSize     = 16
	zoneSize     = 128
	migInstances = 7 // 1g.10gb instances of one H100
)

// fakeNode is the i-th machine, counted from 1: eight NVIDIA H100 under the
// labels that Node Feature Discovery and GPU feature discovery write
// (https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery)
// and topology labels at four levels.
func fakeNode(i int) *core.Node {
	name := fmt.Sprintf("gpu-%04d", i)
	at := i - 1
	rack := fmt.Sprintf("rack-%03d", at/rackSize)
	labels := map[string]string{
		"type":                                           "kwok",
		"kubernetes.io/hostname":                         name,
		"kubernetes.io/os":                               "linux",
		"kubernetes.io/arch":                             "amd64",
		"topology.kubernetes.io/region":                  "region-1",
		"topology.kubernetes.io/zone":                    fmt.Sprintf("zone-%c", 'a'+at/zoneSize%26),
		"topology.penstock.dev/block":                    fmt.Sprintf("block-%02d", at/(2*rackSize)),
		"topology.penstock.dev/rack":                     rack,
		"feature.node.kubernetes.io/pci-10de.present":    "true",
		"feature.node.kubernetes.io/cpu-model.vendor_id": "Intel",
		"nvidia.com/cuda.driver-version.full":            "570.124.06",
		"nvidia.com/cuda.runtime-version.full":           "12.8",
		"nvidia.com/gpu.clique":                          fmt.Sprintf("7d8f1f5a-1c0d-4f0e-9a55-%012d.%d", at/rackSize, at%rackSize/cliqueSize),
		"nvidia.com/gpu.compute.major":                   "9",
		"nvidia.com/gpu.compute.minor":                   "0",
		"nvidia.com/gpu.count":                           strconv.Itoa(gpus),
		"nvidia.com/gpu.family":                          "hopper",
		"nvidia.com/gpu.machine":                         "DGXH100",
		"nvidia.com/gpu.memory":                          "81559", // MiB
		"nvidia.com/gpu.present":                         "true",
		"nvidia.com/gpu.product":                         "NVIDIA-H100-80GB-HBM3",
		"nvidia.com/gpu.replicas":                        "1",
		"nvidia.com/gpu.sharing-strategy":                "none",
		"nvidia.com/mig.capable":                         "true",
		"nvidia.com/mig.config":                          "all-disabled",
		"nvidia.com/mig.strategy":                        "mixed",
	}
	have := resources()
	if i%migEvery == 0 {
		cut(labels, have)
	}
	return &core.Node{
		ObjectMeta: meta.ObjectMeta{
			Name: name, Labels: labels,
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
		},
		// As KWOK's own nodes have it: real pods don't land where nothing runs them.
		Spec:   core.NodeSpec{Taints: []core.Taint{{Key: "kwok.x-k8s.io/node", Value: "fake", Effect: core.TaintEffectNoSchedule}}},
		Status: core.NodeStatus{Capacity: have, Allocatable: have},
	}
}

func resources() core.ResourceList {
	return core.ResourceList{
		core.ResourceCPU:              resource.MustParse("192"),
		core.ResourceMemory:           resource.MustParse("2Ti"),
		core.ResourceEphemeralStorage: resource.MustParse("7Ti"),
		core.ResourcePods:             resource.MustParse("110"),
		"rdma/hca":                    resource.MustParse("8"),
		"nvidia.com/gpu":              *resource.NewQuantity(gpus, resource.DecimalSI),
	}
}

// cut gives the machine one GPU of eight in MIG instances, as the mixed
// strategy shows it: the instances are a resource and labels of their own.
func cut(labels map[string]string, have core.ResourceList) {
	have["nvidia.com/gpu"] = *resource.NewQuantity(gpus-1, resource.DecimalSI)
	have["nvidia.com/mig-1g.10gb"] = *resource.NewQuantity(migInstances, resource.DecimalSI)
	labels["nvidia.com/gpu.count"] = strconv.Itoa(gpus - 1)
	labels["nvidia.com/mig.config"] = "penstock-one-cut"
	labels["nvidia.com/mig-1g.10gb.count"] = strconv.Itoa(migInstances)
	labels["nvidia.com/mig-1g.10gb.product"] = "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"
	labels["nvidia.com/mig-1g.10gb.memory"] = "9984"
	labels["nvidia.com/mig-1g.10gb.multiprocessors"] = "16"
	labels["nvidia.com/mig-1g.10gb.replicas"] = "1"
}
