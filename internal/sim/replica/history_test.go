package replica

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/penstock/penstock"
)

// history is all that all processes wrote, and what the test read in between.
type history struct {
	mu    sync.Mutex
	ops   []porcupine.Operation
	leads []lead // in the order in which they were heard of
	fates map[string]int
	said  map[string]int // lines, by process
}

// lead is a commit of a leader that was acknowledged.
type lead struct {
	name  string
	token int64
	at    int64
}

func newHistory() *history { return &history{fates: map[string]int{}, said: map[string]int{}} }

// never is when a call ends whose end nobody saw: it may still have come about.
const never = math.MaxInt64

// input and output are porcupine's two halves of an operation.
type input struct {
	Kind  kind
	Token int64
	Job   penstock.UID // empty: it is about the lease
	Who   string
}

type output struct {
	Fate  fate
	Owner string // of a read
}

const read kind = "read"

// listen takes what a process writes until it ends.
func (h *history) listen(name string, client int, out io.Reader) {
	begun := map[int64]line{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // the last line of a killed process may be half a one
		}
		h.mu.Lock()
		h.said[name]++
		if l.Call != nil {
			begun[l.Op] = l
		} else if b, ok := begun[l.Op]; ok {
			delete(begun, l.Op)
			h.add(name, client, b, l.At, l.Result)
		}
		h.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range begun {
		h.add(name, client, b, never, unknown)
	}
}

// add adds a call under the lock. A leader's claim is two operations in one
// moment, on the lease and on the job. What is not known to have happened may
// still happen, at any time after; what can't have happened says nothing, unless
// it was refused for a reason that must have been so at that time.
func (h *history) add(name string, client int, began line, at int64, result fate) {
	c := *began.Call
	h.fates[string(c.Kind)+" "+string(result)]++
	if result == unknown {
		at = never
	}
	client *= 3
	operation := func(client int, in input) {
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: began.At, Output: output{Fate: result}, Return: at})
	}
	switch {
	case c.Kind == takeover:
		operation(client, input{Kind: takeover, Token: c.Token, Who: c.Who})
	case c.Kind == commit && (result == done || result == fenced):
		operation(client+1, input{Kind: commit, Token: c.Token, Who: c.Who})
		if result == done {
			h.leads = append(h.leads, lead{name, c.Token, at})
		}
	}
	if c.Job != "" && result != fenced {
		operation(client+2, input{Kind: claim, Job: c.Job, Who: c.Who})
	}
}

// read adds what the test itself found a job to be.
func (h *history) read(job penstock.UID, owner string, began, ended int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{
		ClientId: 0, Input: input{Kind: read, Job: job}, Call: began, Output: output{Owner: owner}, Return: ended,
	})
}

// leader waits until somebody of whom ok is true leads, with a commit that was
// acknowledged after a time.
func (h *history) leader(t *testing.T, after int64, ok func(lead) bool) lead {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // polls: other processes commit
		h.mu.Lock()
		for i := len(h.leads) - 1; i >= 0 && h.leads[i].at > after; i-- {
			if l := h.leads[i]; ok(l) {
				// The first one of its term counts.
				for _, earlier := range h.leads {
					if earlier.at > after && earlier.at < l.at && ok(earlier) {
						l = earlier
					}
				}
				h.mu.Unlock()
				return l
			}
		}
		h.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("nobody has led for 30 s")
		}
	}
}

// lines is how many lines a process has written.
func (h *history) lines(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said[name]
}

// lease is the lease as a single process would have it: its state is the token.
func lease() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, in, out any) (bool, any) {
			token, c, result := state.(int64), in.(input), out.(output).Fate
			current := token == c.Token
			switch {
			case c.Kind == commit:
				return current == (result == done), token
			case result == unknown && !current:
				return true, token // it never came about
			case result == done || result == unknown:
				return current, token + 1
			}
			return true, token // a candidate may be refused for a beat, too
		},
		DescribeOperation: describe,
	}
}

// job is a job as a single process would have it: its state is who claimed it.
func job() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, in, out any) (bool, any) {
			owner, c, result := state.(string), in.(input), out.(output)
			switch {
			case c.Kind == read:
				return owner == result.Owner, owner
			case result.Fate == lost:
				return owner != "", owner
			case result.Fate == unknown && owner != "":
				return true, owner
			}
			return owner == "", c.Who
		},
		DescribeOperation: describe,
	}
}

func describe(in, out any) string {
	c, o := in.(input), out.(output)
	switch {
	case c.Kind == read:
		return "read -> " + o.Owner
	case c.Job != "":
		return fmt.Sprintf("%s claims -> %s", c.Who, o.Fate)
	}
	return fmt.Sprintf("%s: %s at token %d -> %s", c.Who, c.Kind, c.Token, o.Fate)
}

// check looks for an order that explains everything, and draws what has none.
func (h *history) check(t *testing.T, folder string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	apart := map[penstock.UID][]porcupine.Operation{}
	for _, o := range h.ops {
		uid := o.Input.(input).Job
		apart[uid] = append(apart[uid], o)
	}
	for uid, ops := range apart {
		model, what := job(), "job-"+string(uid)
		if uid == "" {
			model, what = lease(), "lease"
		}
		result, info := porcupine.CheckOperationsVerbose(model, ops, 2*time.Minute)
		if result == porcupine.Ok {
			continue
		}
		file := filepath.Join(folder, what+".html")
		if err := porcupine.VisualizePath(model, info, file); err != nil {
			t.Error(err)
		}
		t.Errorf("no order explains the history of %s (%d operations: %s); see %s", what, len(ops), result, file)
	}
}

// TestTheCheckFindsWhatMustNotBe holds the models themselves to histories that
// they must refuse.
func TestTheCheckFindsWhatMustNotBe(t *testing.T) {
	op := func(began, ended int64, in input, out output) porcupine.Operation {
		return porcupine.Operation{Input: in, Call: began, Output: out, Return: ended}
	}
	take := func(token int64) input { return input{Kind: takeover, Token: token} }
	lead := func(token int64) input { return input{Kind: commit, Token: token} }
	claims := func(who string) input { return input{Kind: claim, Job: "j", Who: who} }
	for what, c := range map[string]struct {
		model porcupine.Model
		ops   []porcupine.Operation
		want  bool
	}{
		"a commit after the takeover": {lease(), []porcupine.Operation{
			op(1, 2, take(0), output{Fate: done}), op(3, 4, take(1), output{Fate: done}), op(5, 6, lead(1), output{Fate: done})}, false},
		"a commit beside the takeover": {lease(), []porcupine.Operation{
			op(1, 2, take(0), output{Fate: done}), op(3, 6, take(1), output{Fate: done}), op(4, 5, lead(1), output{Fate: done})}, true},
		"two takeovers of one lease": {lease(), []porcupine.Operation{
			op(1, 4, take(0), output{Fate: done}), op(2, 3, take(0), output{Fate: done})}, false},
		"a takeover that came about unseen": {lease(), []porcupine.Operation{
			op(1, never, take(0), output{Fate: unknown}), op(2, 3, take(1), output{Fate: done}), op(4, 5, lead(2), output{Fate: done})}, true},
		"a leader that is fenced although it leads": {lease(), []porcupine.Operation{
			op(1, 2, take(0), output{Fate: done}), op(3, 4, lead(1), output{Fate: fenced})}, false},
		"two claims of one job": {job(), []porcupine.Operation{
			op(1, 2, claims("a"), output{Fate: done}), op(1, 2, claims("b"), output{Fate: done})}, false},
		"a claim that is lost": {job(), []porcupine.Operation{
			op(1, 2, claims("a"), output{Fate: done}), op(3, 4, input{Kind: read, Job: "j"}, output{})}, false},
		"a claim that came about unseen": {job(), []porcupine.Operation{
			op(1, never, claims("a"), output{Fate: unknown}), op(3, 4, claims("b"), output{Fate: lost}),
			op(5, 6, input{Kind: read, Job: "j"}, output{Owner: "a"})}, true},
	} {
		if got := porcupine.CheckOperations(c.model, c.ops); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}
