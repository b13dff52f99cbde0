package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// write sends pieces through a scribe as the loop does.
func write(stops []string, pieces [][]byte) (text string, stopped bool) {
	s := scribe{stops: stops}
	for _, piece := range pieces {
		part, stop := s.add(piece)
		if text += part; stop {
			return text, true
		}
	}
	return text + s.rest(), false
}

func TestCharactersArriveWholeHoweverTokensCutThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		s := scribe{}
		var got strings.Builder
		for rest := []byte(want); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			part, _ := s.add(rest[:n])
			if !utf8.ValidString(part) {
				t.Fatalf("sent %q, which is no UTF-8", part)
			}
			got.WriteString(part)
			rest = rest[n:]
		}
		got.WriteString(s.rest())
		if diff := cmp.Diff(strings.ToValidUTF8(want, "\uFFFD"), got.String()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestStopStringsEndTheTextHoweverTokensCutThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("abé")), 0, 40, -1).Draw(t, "text")
		stops := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom([]rune("abé")), 1, 3, -1), 0, 3).Draw(t, "stops")
		want, wantStop := text, false
		for _, stop := range stops {
			if before, _, found := strings.Cut(text, stop); found && len(before) <= len(want) {
				want, wantStop = before, true
			}
		}
		var pieces [][]byte
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, min(4, len(rest))).Draw(t, "cut")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, stopped := write(stops, pieces)
		// Where two stop strings overlap, the one that is whole first wins.
		if stopped != wantStop || !strings.HasPrefix(got, want) || len(got) > len(want)+2*utf8.UTFMax {
			t.Fatalf("got %q, stopped %v; want %q, %v", got, stopped, want, wantStop)
		}
		for _, stop := range stops {
			if strings.Contains(got, stop) {
				t.Fatalf("%q holds the stop string %q", got, stop)
			}
		}
	})
}

func TestBytesThatAreNoTextBecomeTheReplacementCharacter(t *testing.T) {
	got, _ := write(nil, [][]byte{{'a', 0xff}, {'b', 0xe2}, {0x82}})
	if diff := cmp.Diff("a\uFFFDb\uFFFD", got); diff != "" {
		t.Fatal(diff)
	}
}
