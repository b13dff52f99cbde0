package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// report is what the tour found, and the page that tells it. The page needs
// nothing from elsewhere: no script, no font, no picture.
type report struct {
	Steps []told
	Took  time.Duration

	Data    counted
	Curve   [2][]dot // of attempt 1 and 2: nats a byte over steps
	Kill    kill
	Version v1.ModelVersion
	Gates   []asked

	Latency        latency
	Ledger, Client counts
	SeenOfLeft     int64 // tokens that clients saw of answers which they left

	Costs     []v1.CostReport // by job, model, dataset, environment, team
	Unit      v1.UnitCost
	Drift     v1.MonitorStatus
	Retrained string
	Gone      []string
	Kept      []stay
}

// told is one step that was taken.
type told struct {
	Number int
	Title  string
	Facts  []string
	Took   time.Duration
}

// counted is a dataset's version.
type counted struct {
	v1.Counts
	Version penstock.Digest
	Splits  map[string]v1.SplitFiles
}

// asked is one question to a gate, and its answer.
type asked struct{ Who, What, Answer string }

//go:embed report.html
var page string

// write makes the page, whole or not at all.
func (r report) write(path string) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"curve": r.lossCurve, "histogram": histogram, "bins": bins,
		"seconds": func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) },
		"at":      times.at,
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("read report.html: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := t.Execute(f, r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
