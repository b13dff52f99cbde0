package scan

import (
	"cmp"
	"fmt"
	"slices"
)

// span is where one tensor's data lies, as offsets into the data section.
type span struct {
	name       string
	begin, end uint64
}

// spans are the data of all tensors of a file.
type spans []span

// cover checks that s, in the order of the data, fills size bytes exactly:
// bytes that no tensor owns can hide something, bytes that two own are a trap.
func (s spans) cover(size int64) error {
	end := uint64(0)
	for _, t := range s.sorted() {
		if err := t.follows(end); err != nil {
			return err
		}
		end = t.end
	}
	if end != uint64(size) {
		return malformed("data", "the tensors have %d bytes but %d follow the header", end, size)
	}
	return nil
}

// sorted orders by begin, then end: an empty tensor stands before the one that
// begins where it does.
func (s spans) sorted() spans {
	slices.SortFunc(s, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	return s
}

// follows checks that t begins where the data before it ended.
func (t span) follows(end uint64) error {
	where := fmt.Sprintf("tensor %.80q", t.name)
	switch {
	case t.begin < end:
		return malformed(where, "its data begins at %d, inside of what ends at %d", t.begin, end)
	case t.begin > end:
		return malformed(where, "its data begins at %d, which leaves a gap after %d", t.begin, end)
	}
	return nil
}
