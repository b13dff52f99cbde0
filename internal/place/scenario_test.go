package place

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/snapshot"
)

// A scenario is a story in lines. A line starting with # is a comment; these
// change the state and print nothing:
//
//	pool NAME                                    the nodes after it are in it
//	node NAME AMOUNTS                            devices are called h100-0, h100-1 and so on
//	project NAME nominal AMOUNTS [borrow AMOUNTS]
//	closed PROJECT CODE MESSAGE                  all new work is held back
//	job PROJECT/NAME [priority=N] [waited=D] [pool=P] [until=D] [endless] : SET xN AMOUNTS [; SET ...]
//	held PROJECT/NAME CODE MESSAGE               the queued job waits for something of its own
//	cancel PROJECT/NAME                          a queued job is taken back
//	end PROJECT/NAME                             a running job is over
//	wait D                                       time passes
//
// and these print what follows their ----, up to an empty line:
//
//	plan                                         what Plan says
//	start                                        the same, and does it
//	explain PROJECT/NAME                         Holders and Fixes
type scenario struct {
	state *snapshot.State
}

func newScenario() *scenario {
	return &scenario{&snapshot.State{
		Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), Projects: map[string]snapshot.Project{},
	}}
}

// run does one line and returns what it prints.
func (c *scenario) run(t *testing.T, line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	s := c.state
	switch verb {
	case "pool":
		s.Pools = append(s.Pools, snapshot.Pool{Name: rest})
	case "node":
		p := &s.Pools[len(s.Pools)-1]
		p.Nodes = append(p.Nodes, node(args[0], amountsOf(t, args[1:])))
	case "project":
		nominal, borrow, _ := strings.Cut(strings.Join(args[2:], " "), "borrow")
		s.Projects[args[0]] = snapshot.Project{Quota: v1.Quota{
			Nominal: amountsOf(t, strings.Fields(nominal)), Borrow: amountsOf(t, strings.Fields(borrow)),
		}}
	case "closed":
		p := s.Projects[args[0]]
		p.Closed = append(p.Closed, reasonOf(args[1:], penstock.Ask))
		s.Projects[args[0]] = p
	case "job":
		s.Queue = append(s.Queue, c.job(t, rest))
	case "held":
		i := slices.IndexFunc(s.Queue, called(args[0]))
		s.Queue[i].Held = append(s.Queue[i].Held, reasonOf(args[1:], penstock.Wait))
	case "cancel":
		s.Queue = slices.DeleteFunc(s.Queue, called(rest))
	case "end":
		s.Running = slices.DeleteFunc(s.Running, func(r snapshot.Running) bool { return called(rest)(r.Job) })
	case "wait":
		s.Now = s.Now.Add(duration(t, rest))
	case "plan", "start":
		decisions := Plan(s)
		if verb == "start" {
			apply(s, decisions)
		}
		return printPlan(decisions)
	case "explain":
		i := slices.IndexFunc(s.Queue, called(rest))
		return printExplanation(s, s.Queue[i])
	default:
		t.Fatalf("unknown line %q", line)
	}
	return ""
}

func called(name string) func(snapshot.Job) bool {
	return func(j snapshot.Job) bool { return j.Ref.Project+"/"+j.Ref.Name == name }
}

func (c *scenario) job(t *testing.T, text string) snapshot.Job {
	head, tail, _ := strings.Cut(text, " : ")
	words := strings.Fields(head)
	project, name, _ := strings.Cut(words[0], "/")
	j := snapshot.Job{UID: penstock.UID(words[0]), Ref: penstock.Ref{Kind: penstock.KindJob, Project: project, Name: name}, QueuedAt: c.state.Now}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "priority":
			j.Priority = number(t, value)
		case "waited":
			j.QueuedAt = c.state.Now.Add(-duration(t, value))
		case "until":
			j.Until = c.state.Now.Add(duration(t, value))
		case "pool":
			j.Pool = value
		case "endless":
			j.Endless = true
		default:
			t.Fatalf("unknown word %q of a job", word)
		}
	}
	for part := range strings.SplitSeq(tail, ";") {
		f := strings.Fields(part)
		j.Sets = append(j.Sets, snapshot.Set{Name: f[0], Count: number(t, strings.TrimPrefix(f[1], "x")), Each: amountsOf(t, f[2:])})
	}
	return j
}

func node(name string, capacity penstock.Resources) v1.Node {
	n := v1.Node{Name: name, Capacity: capacity}
	for _, r := range capacity.Names() {
		for i := range int(capacity[r]/1000) * map[bool]int{true: 1}[r.Accelerator()] {
			n.Devices = append(n.Devices, v1.Device{ID: fmt.Sprintf("%s-%d", r, i), Type: r})
		}
	}
	return n
}

// apply makes every started job a running one.
func apply(s *snapshot.State, decisions []Decision) {
	for _, d := range decisions {
		if d.Start == nil {
			continue
		}
		s.Running = append(s.Running, snapshot.Running{Job: d.Job, Pool: d.Start.Pool, Tasks: d.Start.Tasks, Since: s.Now})
		s.Queue = slices.DeleteFunc(s.Queue, func(j snapshot.Job) bool { return j.UID == d.Job.UID })
	}
}

func printPlan(decisions []Decision) string {
	var b strings.Builder
	for _, d := range decisions {
		name := d.Job.Ref.Project + "/" + d.Job.Ref.Name
		if d.Start == nil {
			fmt.Fprintf(&b, "%s waits\n", name)
			for _, r := range d.Reasons {
				fmt.Fprintf(&b, "  %s (%s): %s%s\n", r.Code, r.Class, r.Message, printNumbers(r.Numbers))
			}
			continue
		}
		fmt.Fprintf(&b, "%s starts: %s\n", name, d.Start.Why)
		for _, task := range d.Start.Tasks {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(fmt.Sprintf("%d %s.%d on %s/%s %s",
				task.Rank, task.Set, task.Index, d.Start.Pool, task.Node, strings.Join(task.Devices, " "))))
		}
	}
	return b.String()
}

func printNumbers(numbers map[string]int64) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		text += fmt.Sprintf(" %s=%d", name, numbers[name])
	}
	if text == "" {
		return ""
	}
	return " [" + text[1:] + "]"
}

func printExplanation(s *snapshot.State, job snapshot.Job) string {
	var b strings.Builder
	for _, h := range Holders(s, job) {
		fmt.Fprintf(&b, "%s holds %s for %s", h.Job, amounts(h.Holds), s.Now.Sub(h.Since))
		if !h.Until.IsZero() {
			fmt.Fprintf(&b, ", ends in %s at the latest", h.Until.Sub(s.Now))
		}
		b.WriteByte('\n')
	}
	for _, fix := range Fixes(s, job.UID) {
		fmt.Fprintf(&b, "fix: %s\n  %s\n", fix.Command, fix.Effect)
	}
	return b.String()
}

func reasonOf(words []string, class penstock.ReasonClass) penstock.Reason {
	return penstock.Because(penstock.ReasonCode(words[0]), class, "%s", strings.Join(words[1:], " "))
}

func amountsOf(t *testing.T, words []string) penstock.Resources {
	r := penstock.Resources{}
	for _, word := range words {
		name, amount, _ := strings.Cut(word, "=")
		a, err := penstock.ParseAmount(penstock.Resource(name), amount)
		if err != nil {
			t.Fatal(err)
		}
		r[penstock.Resource(name)] = a
	}
	return r
}

func duration(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
