package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// maxHosts bounds what a hostlist may mean: no cluster has so many nodes.
const maxHosts = 1 << 17

// expand gives the names that a hostlist means, in order, such as n1, n2, n07
// and n08 for "n[1-2,07-08]": scontrol(1), show hostnames.
func expand(list string) ([]string, error) {
	var all []string
	for _, part := range splitOutside(list, '[', ']') {
		names, err := expandOne(part, maxHosts-len(all))
		if err != nil {
			return nil, fmt.Errorf("read hostlist %.120q: %w", list, err)
		}
		all = append(all, names...)
	}
	return all, nil
}

// splitOutside splits at the commas that aren't between brackets.
func splitOutside(s string, open, end rune) []string {
	var parts []string
	depth, from := 0, 0
	for i, r := range s {
		switch {
		case r == open:
			depth++
		case r == end:
			depth--
		case r == ',' && depth <= 0:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	if from < len(s) {
		parts = append(parts, s[from:])
	}
	return parts
}

// expandOne expands one name with any number of ranges in it.
func expandOne(name string, most int) ([]string, error) {
	before, rest, ranged := strings.Cut(name, "[")
	if !ranged {
		if name == "" || most < 1 {
			return nil, fmt.Errorf("an empty name, or more than %d names", maxHosts)
		}
		return []string{name}, nil
	}
	ranges, after, closed := strings.Cut(rest, "]")
	if !closed {
		return nil, fmt.Errorf("a [ without its ]")
	}
	tails := []string{""}
	if after != "" {
		var err error
		if tails, err = expandOne(after, most); err != nil {
			return nil, err
		}
	}
	var all []string
	for r := range strings.SplitSeq(ranges, ",") {
		numbers, err := expandRange(r, most-len(all))
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			if len(all)+len(tails) > most {
				return nil, fmt.Errorf("more than %d names", maxHosts)
			}
			for _, tail := range tails {
				all = append(all, before+n+tail)
			}
		}
	}
	return all, nil
}

// expandRange gives the numbers of "3" or "08-11", as wide as the first is.
func expandRange(r string, most int) ([]string, error) {
	first, last, ok := strings.Cut(r, "-")
	if !ok {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 32)
	to, err2 := strconv.ParseUint(last, 10, 32)
	if err1 != nil || err2 != nil || to < from || to-from >= uint64(max(0, most)) {
		return nil, fmt.Errorf("%.40q is no range", r)
	}
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf("%0*d", len(first), n))
	}
	return all, nil
}
