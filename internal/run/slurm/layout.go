package slurm

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// layout is how a gang becomes one allocation and the steps in it.
//
// Slurm gives each node of a job the same, and components of a heterogeneous
// job never share a node. So nodes that bear the same mixture of tasks make one
// component, and each sort of task of it is a step of its own.
type layout struct {
	components []component
	steps      []step
}

// component is what sbatch is asked for.
type component struct {
	nodes []string // exactly these; nil leaves that to Slurm
	count int      // nodes, or where they are left to Slurm tasks
	each  share    // of a node, or of a task
}

// step is what srun is asked for: tasks of one sort.
type step struct {
	component int
	task      demand
	places    []place // in the order of ranks
	perNode   int     // tasks on each node; 0 where Slurm places
}

// place is where a task belongs. Its node is empty where Slurm chooses.
type place struct {
	rank, local int
	node        string
}

// demand is what one task wants: whole CPUs, MiB, devices of one sort.
type demand struct {
	cpus    int64
	memory  int64 // MiB; 0 is what Slurm gives by default
	devices int64
	gres    string // such as gpu:h100; empty without devices
}

// share is a sum of demands.
type share struct {
	cpus, memory int64
	devices      map[string]int64 // by gres
}

func (s share) plus(d demand, times int64) share {
	sum := share{cpus: s.cpus + d.cpus*times, memory: s.memory + d.memory*times, devices: maps.Clone(s.devices)}
	if d.devices > 0 {
		if sum.devices == nil {
			sum.devices = map[string]int64{}
		}
		sum.devices[d.gres] += d.devices * times
	}
	return sum
}

// gres writes devices as sbatch's --gres takes them.
func (s share) gres() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.devices)) {
		parts = append(parts, name+":"+strconv.FormatInt(s.devices[name], 10))
	}
	return strings.Join(parts, ",")
}

// demandOf says what an order wants in Slurm's units. gres names the devices of
// a type as the cluster does.
func demandOf(o v1.Order, gres func(penstock.Resource) string) (demand, error) {
	d := demand{cpus: max(1, (int64(o.Resources[penstock.CPU])+999)/1000)}
	const mib = 1 << 20
	d.memory = (int64(o.Resources[penstock.Memory]) + mib - 1) / mib
	for _, name := range o.Resources.Names() {
		amount := o.Resources[name]
		if !name.Accelerator() || amount == 0 {
			continue
		}
		if amount%1000 != 0 {
			return d, &penstock.Error{
				Code: penstock.Unsupported, Msg: fmt.Sprintf("rank %d wants %s of a %s, and Slurm's devices are given whole", o.Rank, name.Format(amount), name),
				Hint: "ask for whole devices, or for a pool of another executor",
			}
		}
		if d.devices > 0 {
			return d, &penstock.Error{
				Code: penstock.Unsupported, Msg: fmt.Sprintf("rank %d wants devices of two types, %s among them", o.Rank, name), Hint: "let each task have one type",
			}
		}
		d.gres, d.devices = gres(name), int64(amount)/1000
	}
	return d, nil
}

// planned lays a gang out on the nodes that its orders name.
func planned(gang []v1.Order, demands []demand) layout {
	var nodes []string // in the order of their lowest rank
	ranks := map[string][]int{}
	for i, o := range gang {
		if ranks[o.Node] == nil {
			nodes = append(nodes, o.Node)
		}
		ranks[o.Node] = append(ranks[o.Node], i)
	}
	// mixture tells how many tasks of each sort a node bears.
	mixture := func(node string) string {
		counts := map[demand]int{}
		for _, i := range ranks[node] {
			counts[demands[i]]++
		}
		var parts []string
		for d, n := range counts {
			parts = append(parts, fmt.Sprintf("%d×%+v", n, d))
		}
		slices.Sort(parts)
		return strings.Join(parts, " ")
	}
	var l layout
	known := map[string]int{}
	componentOf := map[string]int{}
	for _, node := range nodes {
		m := mixture(node)
		n, ok := known[m]
		if !ok {
			n = len(l.components)
			known[m] = n
			var c component
			for _, i := range ranks[node] {
				c.each = c.each.plus(demands[i], 1)
			}
			l.components = append(l.components, c)
		}
		l.components[n].nodes = append(l.components[n].nodes, node)
		l.components[n].count++
		componentOf[node] = n
	}
	for i, o := range gang {
		l.add(componentOf[o.Node], demands[i], place{rank: o.Rank, local: o.LocalRank, node: o.Node})
	}
	for i, s := range l.steps {
		l.steps[i].perNode = len(s.places) / l.components[s.component].count
	}
	return l
}

// sited lays a gang out by sorts of tasks and leaves the nodes to Slurm.
func sited(gang []v1.Order, demands []demand) layout {
	var l layout
	known := map[demand]int{}
	for i, o := range gang {
		n, ok := known[demands[i]]
		if !ok {
			n = len(l.components)
			known[demands[i]] = n
			l.components = append(l.components, component{each: share{}.plus(demands[i], 1)})
		}
		l.components[n].count++
		l.add(n, demands[i], place{rank: o.Rank})
	}
	return l
}

// add puts a task into the step of its sort.
func (l *layout) add(n int, d demand, p place) {
	i := slices.IndexFunc(l.steps, func(s step) bool { return s.component == n && s.task == d })
	if i < 0 {
		i = len(l.steps)
		l.steps = append(l.steps, step{component: n, task: d})
	}
	l.steps[i].places = append(l.steps[i].places, p)
}

// arguments are sbatch's for one component.
func (c component) arguments() []string {
	cpus := "--cpus-per-task=" + strconv.FormatInt(c.each.cpus, 10)
	if c.nodes == nil {
		args := []string{"--ntasks=" + strconv.Itoa(c.count), cpus}
		if c.each.memory > 0 {
			// There is no memory for each task: a share of each of its CPUs, rounded up.
			args = append(args, fmt.Sprintf("--mem-per-cpu=%dM", (c.each.memory+c.each.cpus-1)/c.each.cpus))
		}
		for name, n := range c.each.devices { // one type at most, and all are GPUs
			sort := strings.TrimPrefix(strings.TrimPrefix(name, "gpu"), ":")
			args = append(args, "--gpus-per-task="+strings.TrimPrefix(fmt.Sprintf("%s:%d", sort, n), ":"))
		}
		return args
	}
	args := []string{
		"--nodes=" + strconv.Itoa(c.count), "--nodelist=" + strings.Join(c.nodes, ","), "--ntasks-per-node=1", cpus,
	}
	if c.each.memory > 0 {
		args = append(args, fmt.Sprintf("--mem=%dM", c.each.memory))
	}
	if gres := c.each.gres(); gres != "" {
		args = append(args, "--gres="+gres)
	}
	return args
}

// options are srun's for step number n, one a line; the batch script adds what
// all steps have.
func (l layout) options(n int) []string {
	s := l.steps[n]
	args := []string{"--ntasks=" + strconv.Itoa(len(s.places)), "--cpus-per-task=" + strconv.FormatInt(s.task.cpus, 10)}
	if len(l.components) > 1 {
		args = append(args, "--het-group="+strconv.Itoa(s.component))
	}
	if s.perNode > 0 {
		// A path, since it has a slash: the node of each task, line by line.
		args = append(args, "--distribution=arbitrary", fmt.Sprintf("--nodelist=./hosts-%d", n))
	}
	switch {
	case s.task.devices == 0:
		return append(args, "--gres=none")
	case s.perNode > 0:
		args = append(args, fmt.Sprintf("--gres=%s:%d", s.task.gres, s.task.devices*int64(s.perNode)))
	}
	return append(args, fmt.Sprintf("--gpu-bind=per_task:%d", s.task.devices))
}

// hosts is the file in which srun finds the node of each task of a step.
func (s step) hosts() string {
	var b strings.Builder
	for _, p := range s.places {
		b.WriteString(p.node + "\n")
	}
	return b.String()
}

// ranks is the file in which a task finds its rank and local rank: line 1 is for
// the first task of the step. "-" is the local rank that Slurm gives.
func (s step) ranks() string {
	var b strings.Builder
	for _, p := range s.places {
		local := "-"
		if s.perNode > 0 {
			local = strconv.Itoa(p.local)
		}
		fmt.Fprintf(&b, "%d %s\n", p.rank, local)
	}
	return b.String()
}

// parts tells, by rank, what each task has of the job.
func (l layout) parts(orders []v1.Order) []part {
	all := make([]part, len(orders))
	for _, s := range l.steps {
		for _, p := range s.places {
			all[p.rank] = part{
				Component: s.component, Node: p.node, CPUs: s.task.cpus, Memory: s.task.memory,
				Devices: s.task.devices, Gres: s.task.gres, IDs: orders[p.rank].Devices,
			}
		}
	}
	return all
}
