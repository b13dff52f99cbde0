package dataset

import (
	"fmt"
	"path"
	"strings"

	"github.com/penstock/penstock"
)

// pattern is a glob on slash-separated paths: one element for each folder.
// "**" stands for any number of folders, also none; all else is as in
// path.Match, within one element.
type pattern []string

func parsePatterns(texts []string) ([]pattern, error) {
	patterns := make([]pattern, len(texts))
	for i, text := range texts {
		if _, err := path.Match(text, ""); err != nil || text == "" {
			return nil, &penstock.Error{
				Code: penstock.Invalid, Where: fmt.Sprintf("%.80q", text), Msg: "it is not a pattern",
				Hint: "write for instance **/*.go or docs/**",
			}
		}
		patterns[i] = strings.Split(text, "/")
	}
	return patterns, nil
}

// match takes one step for each pair of an element and a folder: at[i] says
// whether the first i elements match the folders so far.
func (p pattern) match(name string) bool {
	at := make([]bool, len(p)+1)
	at[0] = true
	p.skip(at)
	for folder := range strings.SplitSeq(name, "/") {
		next := make([]bool, len(p)+1)
		for i, element := range p {
			if !at[i] {
				continue
			}
			if element == "**" {
				next[i] = true
			} else if ok, _ := path.Match(element, folder); ok { // the pattern was checked
				next[i+1] = true
			}
		}
		p.skip(next)
		at = next
	}
	return at[len(p)]
}

// skip lets each "**" stand for nothing.
func (p pattern) skip(at []bool) {
	for i, element := range p {
		if element == "**" && at[i] {
			at[i+1] = true
		}
	}
}

func matchAny(patterns []pattern, name string) bool {
	for _, p := range patterns {
		if p.match(name) {
			return true
		}
	}
	return false
}
