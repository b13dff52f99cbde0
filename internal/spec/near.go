package spec

import "strings"

// suggest is the hint for a word that isn't one of those known: the nearest
// one, or the list.
func suggest(word string, known []string) string {
	hint := didYouMean(word, known)
	if hint != "" || len(known) == 0 {
		return hint
	}
	return "write one of " + strings.Join(known, ", ")
}

// didYouMean is the hint where the message lists the known words already.
func didYouMean(word string, known []string) string {
	if hit := nearest(word, known); hit != "" {
		return "did you mean " + hit + "?"
	}
	return ""
}

// nearest is the known word with the fewest letters to change, if those are at
// most a third of it; the first of several.
func nearest(word string, known []string) string {
	if len(word) == 0 || len(word) > 64 {
		return ""
	}
	best, least := "", len(word)
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d < least && d <= max(1, len(k)/3) {
			best, least = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes: how many single bytes must be
// put in, taken out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
