package main

import (
	"slices"
	"time"

	"github.com/penstock/penstock/internal/place/cycle"
	"github.com/penstock/penstock/internal/sim/replay"
	"github.com/penstock/penstock/internal/sim/replay/core"
)

// The fleet of the authors' simulations (cluster_spec/n8g8.csv).
const nodes, width = 8, 8

const (
	restart = time.Minute      // what a start but the first costs Penstock
	asked   = 10 * time.Minute // how often its loop runs at least, while a job waits
)

type policy struct {
	name   string
	replay func([]replay.Job) (*replay.Result, error)
}

func policies() []policy {
	return []policy{
		{"srtf", func(jobs []replay.Job) (*replay.Result, error) { return oracle(jobs, replay.Time) }},
		{"srsf", func(jobs []replay.Job) (*replay.Result, error) { return oracle(jobs, replay.Service) }},
		// Not tuned: a factor of 2 or of 10 changes the means by -4 to +10 %. The
		// levels end beyond any job of these traces.
		{"penstock", func(jobs []replay.Job) (*replay.Result, error) {
			return production(jobs, core.Steps(time.Hour, 4, 1_000_000*time.Hour))
		}},
		{"penstock-arrival", func(jobs []replay.Job) (*replay.Result, error) { return production(jobs, nil) }},
	}
}

// oracle starts jobs at the cost that the authors measured for each model.
func oracle(jobs []replay.Job, by replay.By) (*replay.Result, error) {
	fleet := replay.Nodes(nodes, width)
	return replay.Run(jobs, fleet, replay.NewShortest(by, fleet), replay.Options{})
}

func production(jobs []replay.Job, levels core.Levels) (*replay.Result, error) {
	jobs = slices.Clone(jobs)
	for i := range jobs {
		jobs[i].Restart = restart
	}
	fleet := replay.Nodes(nodes, width)
	s, err := core.New(cycle.Defaults(), fleet, []core.Queue{{Name: "muri", Nominal: nodes * width}}, levels)
	if err != nil {
		return nil, err
	}
	return replay.Run(jobs, fleet, s, replay.Options{Every: asked})
}

// published is what the authors printed, in seconds, by trace and policy.
func published() map[string]map[string]figures {
	return map[string]map[string]figures{
		"trace1": {
			"srtf": {1370603.198, 26045465.533}, "srsf": {980140.570, 26065759.045}, "tiresias-l": {3330371.307, 23556410.217},
			"themis": {1823179.078, 24658268.630}, "muri-s": {867705.794, 18446535.223},
		},
		"trace1_pr": {
			"srtf": {2303543.816, 24513543.938}, "srsf": {1801859.995, 24272529.593}, "tiresias-l": {6921682.793, 21990477.824},
			"themis": {3314303.178, 23369493.470}, "muri-s": {1467191.905, 16596420.784},
		},
		"trace2": {
			"srtf": {2665607.375, 48847005.198}, "srsf": {2213949.687, 49026465.311}, "tiresias-l": {7396368.514, 48117093.308},
			"themis": {4628171.542, 47292466.460}, "muri-s": {1342400.019, 34163947.020},
		},
	}
}
