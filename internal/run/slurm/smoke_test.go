package slurm_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
	"github.com/penstock/penstock/internal/run/slurm"
)

func TestSmoke(t *testing.T) {
	program := runtest.BuildAgent(t)
	e := open(t, slurm.Options{Dir: t.TempDir(), AgentPath: program})
	nodes, err := e.Nodes(t.Context())
	fmt.Printf("%+v %v\n", nodes, err)
	s := runtest.NewServer(t)
	var gang []v1.Order
	for i, n := range []string{"n2", "n2", "n1"} {
		gang = append(gang, v1.Order{Server: s.Contact(), Project: "p", Job: "j", Attempt: "a-1", Number: 1, Set: "w", Rank: i, Index: i, WorldSize: 3, Node: n, LocalRank: i % 2,
			Command:   []string{"/bin/sh", "-c", "env | grep -v SLURM_ | sort; sleep 1"},
			Resources: penstock.Resources{penstock.CPU: 1000, penstock.Memory: 100 << 20, "h100": 1000}})
	}
	s.Keep(gang)
	if err := e.Start(t.Context(), gang); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(200 * time.Millisecond) {
		seen, err := e.Observe(t.Context())
		fmt.Println(seen, err)
		done := len(seen) > 0
		for _, o := range seen {
			done = done && o.State == run.Gone
		}
		if done {
			break
		}
	}
	nodes, err = e.Nodes(t.Context())
	fmt.Printf("%+v %v\n", nodes, err)
	for r := range 3 {
		l, err := e.Logs(t.Context(), "a-1", r, run.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(l)
		fmt.Println(string(text))
	}
}
