package main

import (
	"fmt"
	"strconv"
)

// published are the FGD authors' own curves.
type published map[publishedRun][columns]float64

type publishedRun struct {
	list, policy string
	seed         int64
}

func readPublished(file string) (published, error) {
	p := published{}
	err := rows(file, func(cell func(string) string) error {
		seed, err := strconv.ParseInt(cell("seed"), 10, 64)
		if err != nil {
			return err
		}
		var c [columns]float64
		for x := range c {
			if c[x], err = strconv.ParseFloat(cell(strconv.Itoa(x)), 64); err != nil {
				return fmt.Errorf("column %d: %w", x, err)
			}
		}
		p[publishedRun{cell("workload"), cell("sc_policy"), seed}] = c
		return nil
	})
	return p, err
}

// equalCells counts the cells that are equal to the published ones, digit by
// digit. A run that wasn't published has none.
func (p published) equalCells(run publishedRun, got [columns]float64) (equal, of int) {
	want, there := p[run]
	if !there {
		return 0, 0
	}
	for x := range want {
		if got[x] == want[x] {
			equal++
		}
	}
	return equal, columns
}
