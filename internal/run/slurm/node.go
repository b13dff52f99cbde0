package slurm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Labels of nodes begin with it.
const labelPrefix = "slurm/"

// fleet is what the last discovery found that submissions must know.
type fleet struct {
	mu   sync.Mutex
	gres map[penstock.Resource]string // such as gpu:H100 for h100; nil before the first discovery
	// cores says that a CPU of ours is a whole core, of several threads.
	cores bool
}

// Nodes implements run.Executor: the nodes of the partition, through scontrol.
func (e *Executor) Nodes(ctx context.Context) ([]v1.Node, error) {
	ask := func(args ...string) (string, error) {
		text, err := e.commands.run(ctx, "scontrol", append([]string{"--oneliner", "--detail", "show"}, args...)...)
		if err != nil {
			return "", unavailable("what its "+args[0]+" is", err)
		}
		return text, nil
	}
	ours, err := e.held(ctx)
	if err != nil {
		return nil, err
	}
	var texts [3]string
	for i, what := range []string{"node", "partition", "config"} {
		if texts[i], err = ask(what); err != nil {
			return nil, err
		}
	}
	partition, err := parsePartition(texts[1], e.options.Partition)
	if err != nil {
		return nil, err
	}
	machines, err := parseNodes(texts[0])
	if err != nil {
		return nil, err
	}
	switches := map[string]map[string]string{}
	// A cluster without a topology refuses to show it.
	if text, err := ask("topology"); err == nil {
		if switches, err = parseTopology(text); err != nil {
			return nil, err
		}
	}
	cores := allocatesCores(texts[2])
	reserved := slices.ContainsFunc(e.options.Arguments, func(a string) bool { return strings.HasPrefix(a, "--reservation") })
	e.fleet.learn(machines, cores)
	var nodes []v1.Node
	for _, m := range machines {
		if !slices.Contains(m.partitions, partition.name) {
			continue
		}
		n := m.node(partition, cores, reserved, ours[m.name])
		maps.Copy(n.Labels, switches[m.name])
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// learn keeps how the cluster names the devices, and what a CPU is.
func (f *fleet) learn(machines []machine, cores bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gres, f.cores = map[penstock.Resource]string{}, false
	for _, m := range machines {
		f.cores = f.cores || cores && m.threads > 1
		for _, g := range m.gres {
			f.gres[g.resource()] = g.name
		}
	}
}

// gresNames gives the cluster's names of the devices that orders want.
func (e *Executor) gresNames(ctx context.Context, orders []v1.Order) (map[penstock.Resource]string, error) {
	missing := func(names map[penstock.Resource]string) penstock.Resource {
		for _, o := range orders {
			for _, r := range o.Resources.Names() {
				if r.Accelerator() && o.Resources[r] > 0 && names[r] == "" {
					return r
				}
			}
		}
		return ""
	}
	known := e.fleet.known()
	if known != nil && missing(known) == "" {
		return known, nil
	}
	if _, err := e.Nodes(ctx); err != nil {
		return nil, err
	}
	known = e.fleet.known()
	if r := missing(known); r != "" {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("no node of the cluster has devices of type %s", r),
			Hint: "see the GRES of 'scontrol show node'; a device gpu:h100 is the resource h100",
		}
	}
	return known, nil
}

func (f *fleet) known() map[penstock.Resource]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.gres)
}

// wholeCores reports whether a CPU of ours is a core of several threads.
func (f *fleet) wholeCores() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cores
}

// holding is what our jobs hold of a node, and which devices they were given by
// us; Slurm's are its own choice.
type holding struct {
	share
	ids []string
}

// held adds up, by node, what our running jobs hold.
func (e *Executor) held(ctx context.Context) (map[string]holding, error) {
	entries, err := e.queue.since(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	attempts, err := e.attempts()
	if err != nil {
		return nil, err
	}
	all := map[string]holding{}
	for _, attempt := range attempts {
		dir, err := e.attemptDir(attempt)
		if err != nil {
			return nil, err
		}
		g, err := readGang(dir)
		if err != nil || g.Job == "" {
			continue // it was forgotten just now, or never started
		}
		for rank, t := range g.Tasks {
			live := slices.ContainsFunc(entries, func(e entry) bool {
				return e.job == g.Job && e.component == t.Component && !e.over() && !e.waits()
			})
			node := t.Node
			if e.options.Placement == Site {
				node = nodeOf(rankFolder(dir, rank))
			}
			if live && node != "" {
				h := all[node]
				h.share = h.plus(demand{cpus: t.CPUs, memory: t.Memory, devices: t.Devices, gres: t.Gres}, 1)
				h.ids = append(h.ids, t.IDs...)
				all[node] = h
			}
		}
	}
	return all, nil
}

// node says what of a machine is there for us.
func (m machine) node(p partition, cores, reserved bool, ours holding) v1.Node {
	threads := int64(1)
	if cores {
		threads = m.threads // a core is given whole: one CPU is one core
	}
	cpus, memory := m.cpus/threads, m.memory
	if p.cpus > 0 {
		cpus = min(cpus, p.cpus/threads)
	}
	if p.memory > 0 {
		memory = min(memory, p.memory)
	}
	others := penstock.Resources{}
	add := func(r penstock.Resource, unit, taken, own int64) {
		if n := taken - own; n > 0 {
			others[r] = penstock.Amount(n * unit)
		}
	}
	add(penstock.CPU, 1000, m.cpusTaken/threads, ours.cpus)
	add(penstock.Memory, 1<<20, m.memoryTaken, ours.memory)
	n := v1.Node{Name: m.name, Labels: m.labels(p), Unavailable: m.unavailable(p, reserved)}
	n.Capacity = penstock.Resources{penstock.CPU: penstock.Amount(cpus * 1000), penstock.Memory: penstock.Amount(memory << 20)}
	id := 0
	for _, g := range m.gres {
		r := g.resource()
		add(r, 1000, g.taken, ours.devices[g.name])
		spare := int64(others[r]) / 1000 // devices that are others'
		for range g.count {
			name := strconv.Itoa(id)
			id++
			if spare > 0 && !slices.Contains(ours.ids, name) {
				spare--
				continue
			}
			n.Devices = append(n.Devices, v1.Device{ID: name, Type: r})
		}
		n.Capacity[r] = penstock.Amount(g.count * 1000)
	}
	for r, amount := range others {
		n.Capacity[r] = max(0, n.Capacity[r].Add(-amount))
	}
	if len(others) > 0 {
		n.Others = others
	}
	return n
}

func (m machine) labels(p partition) map[string]string {
	labels := map[string]string{labelPrefix + "partition": p.name}
	for _, f := range m.features {
		labels[labelPrefix+"feature/"+f] = "true"
	}
	return labels
}

// closed are the words of a node's state that keep new work away: scontrol(1),
// under "node state".
var closed = []string{
	"BLOCKED", "DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL", "INVALID_REG", "MAINT", "MAINTENANCE", "NOT_RESPONDING",
	"PERFCTRS", "POWERING_DOWN", "REBOOT", "REBOOT_ISSUED", "REBOOT_REQUESTED", "UNKNOWN",
}

// unavailable says why nothing new may start on a machine, or nothing.
func (m machine) unavailable(p partition, reserved bool) string {
	if p.state != "UP" {
		return fmt.Sprintf("partition %s is %s", p.name, p.state)
	}
	for _, word := range m.states {
		if slices.Contains(closed, word) || word == "RESERVED" && !reserved {
			said := "Slurm says " + strings.Join(m.states, "+")
			if m.reason != "" {
				said += ": " + m.reason
			}
			return said
		}
	}
	return ""
}
