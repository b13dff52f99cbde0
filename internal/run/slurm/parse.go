package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
)

// The text of scontrol --oneliner has been the same since long before 22.05;
// new fields come, old ones stay. Its JSON changes with each release.

// machine is a node as scontrol shows it. Memory is in MiB.
type machine struct {
	name                 string
	states               []string // such as IDLE, DRAIN
	reason               string
	cpus, cpusTaken      int64 // threads, without those kept for the system
	threads              int64 // of a core
	memory, memoryTaken  int64
	gres                 []gres
	features, partitions []string
}

// gres is a sort of devices of a node.
type gres struct {
	name         string // such as gpu:h100, or gpu
	count, taken int64
}

// resource is the type's name as people write it: gpu:H100 is h100, as is
// gpu:nvidia_h100. Devices without a type are of type gpu.
func (g gres) resource() penstock.Resource {
	_, sort, ok := strings.Cut(g.name, ":")
	if !ok {
		return "gpu"
	}
	sort = strings.ReplaceAll(strings.ToLower(sort), "_", "-")
	return penstock.Resource(strings.TrimPrefix(sort, "nvidia-"))
}

// parseNodes reads scontrol --oneliner --detail show node.
func parseNodes(text string) ([]machine, error) {
	var all []machine
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		m, err := parseNode(line)
		if err != nil {
			return nil, fmt.Errorf("read scontrol show node: %w in %.120q", err, line)
		}
		all = append(all, m)
	}
	return all, nil
}

func parseNode(line string) (machine, error) {
	f := fields(line)
	m := machine{name: f["NodeName"], threads: 1, features: list(f["ActiveFeatures"]), partitions: list(f["Partitions"])}
	if !nodeForm.MatchString(m.name) {
		return m, fmt.Errorf("no NodeName")
	}
	m.reason, _, _ = strings.Cut(f["Reason"], " [") // [WHO@WHEN]
	for word := range strings.SplitSeq(f["State"], "+") {
		word, silent := strings.CutSuffix(strings.TrimRight(word, "~#!%$@^-"), "*")
		m.states = append(m.states, word)
		if silent {
			m.states = append(m.states, "NOT_RESPONDING")
		}
	}
	if m.states[0] == "" {
		return m, fmt.Errorf("no State")
	}
	for name, to := range map[string]*int64{"CPUTot": &m.cpus, "CPUAlloc": &m.cpusTaken, "RealMemory": &m.memory, "AllocMem": &m.memoryTaken} {
		if err := whole(f, name, to); err != nil {
			return m, err
		}
	}
	var kept int64
	for name, to := range map[string]*int64{"CPUEfctv": &m.cpus, "ThreadsPerCore": &m.threads, "MemSpecLimit": &kept} {
		if f[name] == "" {
			continue // not in every version, or on every node
		}
		if err := whole(f, name, to); err != nil {
			return m, err
		}
	}
	m.threads = max(1, m.threads)
	m.memory = max(0, m.memory-kept)
	var err error
	m.gres, err = parseGres(f["Gres"], f["GresUsed"])
	return m, err
}

func whole(f map[string]string, name string, to *int64) error {
	n, err := strconv.ParseInt(f[name], 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s is %.20q, which is no number", name, f[name])
	}
	*to = n
	return nil
}

// list reads a list with commas; "(null)" is how Slurm writes none.
func list(s string) []string {
	if s == "" || s == "(null)" {
		return nil
	}
	return strings.Split(s, ",")
}

// parseGres reads the GPUs of lists such as "gpu:h100:4(S:0-1),nic:2" and
// "gpu:h100:2(IDX:0-1),nic:0".
func parseGres(has, used string) ([]gres, error) {
	all, err := countGres(has)
	if err != nil {
		return nil, err
	}
	taken, err := countGres(used)
	if err != nil {
		return nil, err
	}
	for i := range all {
		for _, t := range taken {
			// Use without a type is of the only one.
			if t.name == all[i].name || t.name == "gpu" && len(all) == 1 {
				all[i].taken = t.count
			}
		}
	}
	return all, nil
}

func countGres(text string) ([]gres, error) {
	var all []gres
	if text == "(null)" {
		return nil, nil
	}
	for _, part := range splitOutside(text, '(', ')') {
		part, _, _ = strings.Cut(part, "(")
		f := strings.Split(part, ":")
		if f[0] != "gpu" {
			continue
		}
		n, err := strconv.ParseInt(f[len(f)-1], 10, 32)
		if err != nil || n < 0 || len(f) < 2 || len(f) > 3 {
			return nil, fmt.Errorf("%.40q is no count of devices", part)
		}
		name := strings.Join(f[:len(f)-1], ":")
		if name == "gpu:(null)" {
			name = "gpu"
		}
		if i := slices.IndexFunc(all, func(g gres) bool { return g.name == name }); i >= 0 {
			all[i].count += n // on another socket
			continue
		}
		all = append(all, gres{name: name, count: n})
	}
	return all, nil
}

// partition is what a partition allows. 0 is no limit.
type partition struct {
	name, state  string
	cpus, memory int64 // of each node; MiB
}

// parsePartition finds a partition in scontrol --oneliner show partition: the
// one of that name, or with none the default one.
func parsePartition(text, name string) (partition, error) {
	for line := range strings.Lines(text) {
		f := fields(line)
		if f["PartitionName"] == "" || name == "" && f["Default"] != "YES" || name != "" && f["PartitionName"] != name {
			continue
		}
		p := partition{name: f["PartitionName"], state: f["State"]}
		for field, to := range map[string]*int64{"MaxCPUsPerNode": &p.cpus, "MaxMemPerNode": &p.memory} {
			if v := f[field]; v == "" || v == "UNLIMITED" {
				continue
			}
			if err := whole(f, field, to); err != nil {
				return p, fmt.Errorf("read scontrol show partition: %w", err)
			}
		}
		return p, nil
	}
	msg := fmt.Sprintf("the cluster has no partition %q", name)
	if name == "" {
		msg = "the cluster has no default partition"
	}
	return partition{}, &penstock.Error{Code: penstock.Invalid, Msg: msg, Hint: "name one of 'scontrol show partition'"}
}

// parseTopology reads scontrol show topology: for each node the switch of each
// level above it, as labels switch/0 for the nearest, or its block.
func parseTopology(text string) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for line := range strings.Lines(text) {
		f := fields(line)
		key, value := "", ""
		switch {
		case f["SwitchName"] != "" && f["Level"] != "":
			key, value = labelPrefix+"switch/"+f["Level"], f["SwitchName"]
		case f["BlockName"] != "":
			key, value = labelPrefix+"block", f["BlockName"]
		default:
			continue
		}
		names, err := expand(f["Nodes"])
		if err != nil {
			return nil, fmt.Errorf("read scontrol show topology: %w", err)
		}
		for _, name := range names {
			if all[name] == nil {
				all[name] = map[string]string{}
			}
			all[name][key] = value
		}
	}
	return all, nil
}

// allocatesCores reads from scontrol show config whether jobs get cores and no
// less: then two threads of one core never belong to two jobs.
func allocatesCores(config string) bool {
	for line := range strings.Lines(config) {
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "SelectTypeParameters" {
			return !strings.Contains(strings.ToUpper(value), "CR_CPU")
		}
	}
	return false
}
