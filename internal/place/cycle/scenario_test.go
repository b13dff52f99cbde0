package cycle

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/cycle/fleet"
	"github.com/penstock/penstock/internal/place/cycle/quota"
)

// A scenario is a story in lines. A line starting with # is a comment; these
// change the state and print nothing, unless they are refused:
//
//	policy KEY=VALUE ...                         half, hold, age, run, most, evictions, every, patience, restart; first of all
//	pool NAME [LEVEL ...]                        the nodes after it are in it
//	node NAME AMOUNTS [at=VALUE/VALUE] [closed=WHY]
//	gone NODE                                    of the last pool
//	queue NAME [in=PARENT] [weight=W] [strict] AMOUNTS [borrow AMOUNTS] [lend AMOUNTS]
//	job NAME in=QUEUE [priority=N] [pool=A,B] [limit=D] [endless] [keeps] [restart=D] [required=LEVEL] [preferred=LEVEL] : SET xN AMOUNTS [; SET ...]
//	end NAME                                     it is over, or taken back
//	back NAME                                    it ran, and queues again
//	saved NAME                                   its work is safe
//	wait D                                       time passes
//
// and these print what follows their ----, up to an empty line:
//
//	cycle                                        what is decided
//	why NAME                                     why a job waits
//	runs                                         who holds what
type scenario struct {
	s     *State
	start time.Time
	now   time.Time
	pool  string
}

func newScenario() *scenario {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return &scenario{s: New(Defaults()), start: start, now: start}
}

// run does one line and returns what it prints.
func (c *scenario) run(t *testing.T, line string) string {
	words := strings.Fields(line)
	verb, args := words[0], words[1:]
	switch verb {
	case "wait":
		c.now = c.now.Add(duration(t, args[0]))
		return ""
	case "policy":
		c.s = New(policyOf(t, args))
		return ""
	case "cycle":
		return c.cycle()
	case "why":
		if r := c.s.Why(penstock.UID(args[0])); r != nil {
			return say(*r) + "\n"
		}
		return "nothing holds it\n"
	case "runs":
		return c.runs()
	}
	if err := c.event(t, verb, args); err != nil {
		return "refused: " + err.Error() + "\n"
	}
	return ""
}

func (c *scenario) event(t *testing.T, verb string, args []string) error {
	switch verb {
	case "pool":
		c.pool = args[0]
		return c.s.SetPool(args[0], args[1:]...)
	case "node":
		return c.s.SetNode(c.pool, nodeOf(t, args))
	case "gone":
		return c.s.RemoveNode(c.pool, args[0])
	case "queue":
		return c.queue(t, args)
	case "drop":
		return c.s.RemoveQueue(args[0])
	case "job":
		return c.s.Submit(c.job(t, args))
	case "end":
		return c.s.Finished(penstock.UID(args[0]))
	case "back":
		return c.s.Requeued(penstock.UID(args[0]))
	case "saved":
		return c.s.Saved(penstock.UID(args[0]), c.now)
	}
	t.Fatalf("unknown line %q", verb)
	return nil
}

func policyOf(t *testing.T, args []string) Policy {
	p := Defaults()
	spans := map[string]*time.Duration{
		"half": &p.HalfLife, "hold": &p.HoldAfter, "age": &p.Age, "run": &p.Preemption.MinRuntime, "every": &p.Preemption.Every,
		"patience": &p.Preemption.Patience, "restart": &p.Preemption.Restart,
	}
	for _, word := range args {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case spans[key] != nil:
			*spans[key] = duration(t, value)
		case key == "most":
			p.Preemption.Most = number(t, value)
		case key == "evictions":
			p.Preemption.Evictions = number(t, value)
		default:
			t.Fatalf("unknown word %q of a policy", word)
		}
	}
	return p
}

func nodeOf(t *testing.T, args []string) fleet.Spec {
	spec := fleet.Spec{Name: args[0], Capacity: penstock.Resources{}}
	for _, word := range args[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "at":
			spec.Topology = strings.Split(value, "/")
		case "closed":
			spec.Closed = value
		case "devices":
			for d := range strings.SplitSeq(value, ",") {
				kind, _, _ := strings.Cut(d, "-")
				spec.Devices = append(spec.Devices, fleet.DeviceSpec{ID: d, Type: penstock.Resource(kind)})
			}
		default:
			spec.Capacity[penstock.Resource(key)] = amount(t, key, value)
		}
	}
	return spec
}

func (c *scenario) queue(t *testing.T, args []string) error {
	spec := quota.Spec{Name: args[0], Nominal: penstock.Resources{}, Borrow: penstock.Resources{}, Lend: penstock.Resources{}}
	passing, into := Backfill, spec.Nominal
	for _, word := range args[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "in":
			spec.Parent = value
		case "weight":
			spec.Weight = number(t, value) * 1000
		case "strict":
			passing = Strict
		case "borrow":
			into = spec.Borrow
		case "lend":
			into = spec.Lend
		default:
			into[penstock.Resource(key)] = amount(t, key, value)
			if value == "any" {
				into[penstock.Resource(key)] = quota.Unlimited
			}
		}
	}
	return c.s.SetQueue(spec, passing)
}

func (c *scenario) job(t *testing.T, args []string) Job {
	head, tail, _ := strings.Cut(strings.Join(args, " "), " : ")
	words := strings.Fields(head)
	j := Job{ID: penstock.UID(words[0]), QueuedAt: c.now}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "in":
			j.Queue = value
		case "priority":
			j.Priority = number(t, value)
		case "pool":
			j.Pools = strings.Split(value, ",")
		case "limit":
			j.Limit = duration(t, value)
		case "restart":
			j.Restart = duration(t, value)
		case "waited":
			j.QueuedAt = c.now.Add(-duration(t, value))
		case "endless":
			j.Endless = true
		case "keeps":
			j.Keeps = true
		case "required":
			j.Together = fleet.Topology{Level: value, Mode: fleet.Required}
		case "preferred":
			j.Together = fleet.Topology{Level: value, Mode: fleet.Preferred}
		default:
			t.Fatalf("unknown word %q of a job", word)
		}
	}
	for part := range strings.SplitSeq(tail, ";") {
		j.Sets = append(j.Sets, setOf(t, strings.Fields(part)))
	}
	return j
}

func setOf(t *testing.T, words []string) Set {
	set := Set{Name: words[0], Count: number(t, strings.TrimPrefix(words[1], "x")), Each: penstock.Resources{}}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "required":
			set.Topology = fleet.Topology{Level: value, Mode: fleet.Required}
		case "preferred":
			set.Topology = fleet.Topology{Level: value, Mode: fleet.Preferred}
		default:
			set.Each[penstock.Resource(key)] = amount(t, key, value)
		}
	}
	return set
}

func (c *scenario) cycle() string {
	var b strings.Builder
	for _, d := range c.s.Cycle(c.now) {
		switch d.Verdict {
		case Start:
			fmt.Fprintf(&b, "%s starts%s\n", d.Job, tellPlace(d.Placement))
		case Promise:
			fmt.Fprintf(&b, "%s is promised%s\n", d.Job, tellPlace(d.Placement))
		case Evict:
			fmt.Fprintf(&b, "%s gives way to %s\n", d.Job, d.For)
		case Wait:
			of := ""
			if d.Jobs > 1 {
				of = fmt.Sprintf(", as do %d like it", d.Jobs-1)
			}
			fmt.Fprintf(&b, "%s waits%s\n  %s\n", d.Job, of, say(d.Reason()))
		}
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

// tellPlace tells nodes and devices, tasks of one node together.
func tellPlace(p *Placement) string {
	text := " on " + p.Pool + ":"
	for i, task := range p.Tasks {
		if i > 0 && p.Tasks[i-1].Node == task.Node && len(task.Devices) == 0 {
			continue
		}
		if i == 0 || p.Tasks[i-1].Node != task.Node {
			text += " " + task.Node
		}
		if len(task.Devices) > 0 {
			text += "[" + strings.Join(task.Devices, " ") + "]"
		}
	}
	return text
}

func say(r penstock.Reason) string { return fmt.Sprintf("%s (%s): %s", r.Code, r.Class, r.Message) }

func (c *scenario) runs() string {
	var b strings.Builder
	for _, r := range c.s.Running() {
		fmt.Fprintf(&b, "%s%s", r.Job, tellPlace(r.Placement))
		if r.GivesWay {
			b.WriteString(", gives way")
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return "nobody\n"
	}
	return b.String()
}

func amount(t *testing.T, name, text string) penstock.Amount {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < 0 {
		return penstock.Amount(n)
	} else if text == "any" {
		return quota.Unlimited
	}
	a, err := penstock.ParseAmount(penstock.Resource(name), text)
	if err != nil {
		t.Fatal(err)
	}
	return a
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
