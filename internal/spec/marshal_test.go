package spec

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestMarshalWritesWhatPeopleWouldWrite(t *testing.T) {
	attempt := v1.Object{
		APIVersion: v1.Version, Kind: penstock.KindAttempt,
		Metadata: v1.Metadata{Project: "vision", Name: "train-1", Generation: 1, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		Spec: json.RawMessage(`{"why":"fits: 2 free","number":1,"step":-1,"none":null,"empty":{},"nothing":[],
			"grid":[[1,2],[{"a":1},[]]],"argv":["python","train.py","--steps","100","yes",""],
			"long":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]}`),
		Status: json.RawMessage(`{"tasks":[{"rank":0,"cpuTime":"1m30s","address":"127.0.0.1:80"}],"psi":1e-7}`),
	}
	const want = `apiVersion: penstock/v1
kind: Attempt
metadata:
  project: vision
  name: train-1
  generation: 1
  createdAt: "2026-01-02T03:04:05Z"
spec:
  why: "fits: 2 free"
  number: 1
  step: -1
  none: null
  empty: {}
  nothing: []
  grid:
  - [1, 2]
  -
    - a: 1
    - []
  argv: [python, train.py, --steps, "100", "yes", ""]
  long:
  - aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  - bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
status:
  tasks:
  - rank: 0
    cpuTime: 1m30s
    address: "127.0.0.1:80"
  psi: 1e-7
`
	b, err := Marshal([]v1.Object{attempt})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	documents, faults := read(b)
	if len(documents) != 1 || len(faults) != 0 {
		t.Fatalf("read back: %d documents, %v", len(documents), faults)
	}
	again, err := json.Marshal(attempt)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := readJSON(again)
	if err != nil {
		t.Fatal(err)
	}
	d := differ{}
	if d.compare("", whole, documents[0]); len(d.changes) != 0 {
		t.Errorf("read back it differs: %v", d.changes)
	}
}
