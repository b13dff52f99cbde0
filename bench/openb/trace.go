package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/place/pack"
)

// fleet is a node list: nodes sorted by name, empty.
type fleet struct {
	names []string
	nodes []pack.Node
	types map[string]uint8
	milli int64 // of all devices together
}

// pod is one row of a pod list. Its spec is kept as it was written: the authors'
// typical pods tell "A|B" and "A|B|B" apart.
type pod struct {
	name    string
	request pack.Request
	spec    string
}

// workload is a pod list, sorted by name.
type workload struct {
	name string
	pods []pod
}

// rows reads a CSV file and hands each row on as a function from a column's
// name to its cell; a column that isn't there is empty.
func rows(file string, row func(cell func(column string) string) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if len(records) < 2 {
		return &penstock.Error{Code: penstock.Invalid, Msg: "there are no rows", Where: file, Hint: "give a CSV file with a header and a row at least"}
	}
	column := map[string]int{}
	for i, name := range records[0] {
		column[name] = i
	}
	for i, r := range records[1:] {
		err := row(func(name string) string {
			if at, ok := column[name]; ok {
				return r[at]
			}
			return ""
		})
		if err != nil {
			return &penstock.Error{Code: penstock.Invalid, Msg: err.Error(), Where: fmt.Sprintf("%s:%d", file, i+2), Hint: "the columns are those of Alibaba's openb lists", Err: err}
		}
	}
	return nil
}

// whole parses a cell that must be a number of 0 to 2^40.
func whole(cell func(string) string, column string) (int64, error) {
	n, err := strconv.ParseInt(cell(column), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0, fmt.Errorf("column %s is %.40q, which is no whole number of 0 to 2^40", column, cell(column))
	}
	return n, nil
}

func numbers(cell func(string) string, columns ...string) ([]int64, error) {
	var all []int64
	for _, c := range columns {
		n, err := whole(cell, c)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

func readFleet(file string) (*fleet, error) {
	type row struct {
		name string
		node pack.Node
	}
	f := &fleet{types: map[string]uint8{}}
	var read []row
	err := rows(file, func(cell func(string) string) error {
		n, err := numbers(cell, "cpu_milli", "memory_mib", "gpu")
		if err != nil {
			return err
		}
		kind, known := f.types[cell("model")]
		if !known {
			kind = uint8(len(f.types))
			f.types[cell("model")] = kind
		}
		if n[2] > pack.MaxDevices || len(f.types) > pack.MaxTypes {
			return fmt.Errorf("%d GPUs of the %dth model; %d and %d is the most", n[2], len(f.types), pack.MaxDevices, pack.MaxTypes)
		}
		left := slices.Repeat([]int32{pack.Whole}, int(n[2]))
		read = append(read, row{cell("sn"), pack.Node{CPU: n[0], Memory: n[1], Type: kind, Left: left}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(read, func(a, b row) int { return cmp.Compare(a.name, b.name) })
	for _, r := range read {
		f.names, f.nodes = append(f.names, r.name), append(f.nodes, r.node)
		f.milli += r.node.GPU()
	}
	if f.milli == 0 {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "no node has a GPU", Where: file, Hint: "allocation is counted in GPUs: give the list of GPU nodes"}
	}
	return f, nil
}

func readWorkload(name, file string, f *fleet) (*workload, error) {
	w := &workload{name: name}
	err := rows(file, func(cell func(string) string) error {
		n, err := numbers(cell, "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
		if err != nil {
			return err
		}
		r := pack.Request{CPU: n[0], Memory: n[1], Count: int(n[2]), Milli: int32(min(n[3], pack.Whole+1))}
		if r.Count == 0 {
			r.Milli = 0
		}
		spec := cell("gpu_spec")
		if spec != "" && r.Count > 0 {
			r.Types = f.typesOf(spec)
		}
		if !r.Valid() {
			return fmt.Errorf("%d GPUs of %d/1000 each can't be asked for", n[2], n[3])
		}
		w.pods = append(w.pods, pod{cell("name"), r, spec})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(w.pods, func(p pod) bool { return p.request.GPU() > 0 }) {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "no pod asks for a GPU", Where: file, Hint: "demand is counted in GPUs: give a list with some"}
	}
	slices.SortStableFunc(w.pods, func(a, b pod) int { return cmp.Compare(a.name, b.name) })
	return w, nil
}

// noType is a type that no node has: what only wants models that the fleet
// lacks must not turn into "any".
const noType = pack.Types(1) << (pack.MaxTypes - 1)

// typesOf is the fleet's models among "A|B|C".
func (f *fleet) typesOf(spec string) pack.Types {
	var t pack.Types
	for model := range strings.SplitSeq(spec, "|") {
		if kind, known := f.types[model]; known {
			t |= 1 << kind
		}
	}
	return cmp.Or(t, noType)
}

// typical is what the list's owner would expect, counted over the whole list
// (rule 8): who scores with it knows the list.
func (w *workload) typical() []pack.Counted {
	type key struct {
		shape pack.Shape
		spec  string
	}
	counts := map[key]float64{}
	for i := range w.pods {
		counts[key{w.pods[i].request.Shape(), w.pods[i].spec}]++
	}
	keys := make([]key, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(b.spec, a.spec), cmp.Compare(a.shape.CPU, b.shape.CPU), cmp.Compare(a.shape.Count, b.shape.Count),
			cmp.Compare(a.shape.Milli, b.shape.Milli), cmp.Compare(a.shape.Types, b.shape.Types))
	})
	seen := make([]pack.Counted, len(keys))
	for i, k := range keys {
		seen[i] = pack.Counted{Shape: k.shape, N: counts[k]}
	}
	return seen
}
