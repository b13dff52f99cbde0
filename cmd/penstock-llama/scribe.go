package main

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// scribe turns the bytes of tokens into text that may be sent. It holds back
// the first bytes of a character that a later token finishes, and text that may
// turn out to be the beginning of a stop string.
type scribe struct {
	stops []string
	held  []byte
}

// add takes one token's bytes and gives the text that is certain by now.
// stopped says that a stop string was met: neither it nor anything after it is
// part of the text.
func (s *scribe) add(piece []byte) (text string, stopped bool) {
	s.held = append(s.held, piece...)
	if at := s.firstStop(); at >= 0 {
		text, s.held = valid(s.held[:at]), nil
		return text, true
	}
	certain := len(s.held) - max(unfinished(s.held), s.maybeStop())
	text = valid(s.held[:certain])
	s.held = append(s.held[:0], s.held[certain:]...)
	return text, false
}

// rest gives what is still held back when no token follows.
func (s *scribe) rest() string {
	text := valid(s.held)
	s.held = nil
	return text
}

// firstStop is where the earliest stop string begins, or -1.
func (s *scribe) firstStop() int {
	first := -1
	for _, stop := range s.stops {
		if at := bytes.Index(s.held, []byte(stop)); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}

// maybeStop is the length of the longest end of what is held that a stop string
// begins with.
func (s *scribe) maybeStop() int {
	longest := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > longest; n-- {
			if bytes.HasSuffix(s.held, []byte(stop[:n])) {
				longest = n
			}
		}
	}
	return longest
}

// unfinished is how many bytes at the end of b begin a character that isn't
// whole yet.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if utf8.FullRune(tail) {
			return 0
		}
		return n
	}
	return 0
}

// valid replaces bytes that are no UTF-8, since JSON can't carry them.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
