package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/penstock/penstock"
)

// lists are openb's pod lists that are replayed when no other is named.
func lists() []string { return []string{"default", "cpu050", "gpushare40", "multigpu20", "gpuspec10"} }

// files are what one call reads. published is empty where nothing was published.
type files struct {
	nodes, published string
	pods             []string
}

// inputs finds the files: those that were named, and of openb the others.
func inputs(o options) (files, error) {
	folder := tracesFolder()
	f := files{nodes: filepath.Join(folder, "openb_node_list_gpu_node.csv"), published: filepath.Join(folder, "published_allocation.csv")}
	for _, l := range lists() {
		f.pods = append(f.pods, filepath.Join(folder, "openb_pod_list_"+l+".csv"))
	}
	if o.Pods != "" {
		f.pods, f.published = []string{o.Pods}, ""
	}
	if o.Nodes != "" {
		f.nodes, f.published = o.Nodes, ""
	}
	if o.Nodes != "" && o.Pods != "" {
		return f, nil
	}
	if _, err := os.Stat(folder); err != nil {
		return f, &penstock.Error{Code: penstock.NotFound, Msg: fmt.Sprintf("NOTHING WAS REPLAYED: there is no folder %s with openb's lists", folder),
			Hint: "set PENSTOCK_TRACES to the folder that holds openb/, or name files with -nodes and -pods", Err: err}
	}
	return f, nil
}

// tracesFolder is openb's folder in $PENSTOCK_TRACES, by default in the folder
// shared/traces beside the repository.
func tracesFolder() string {
	if traces := os.Getenv("PENSTOCK_TRACES"); traces != "" {
		return filepath.Join(traces, "openb")
	}
	root, err := os.Getwd()
	if err != nil {
		root = "."
	}
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			root = dir
			break
		}
	}
	return filepath.Join(root, "..", "shared", "traces", "openb")
}
