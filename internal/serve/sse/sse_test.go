package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/serve/sse"
)

// event is an Event that stays valid, as text.
type event struct {
	Raw, Data string
	HasData   bool
}

func read(t testing.TB, src io.Reader) []event {
	t.Helper()
	var events []event
	for r := sse.NewReader(src); ; {
		e, err := r.Next()
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event{string(e.Raw), string(e.Data), e.Data != nil})
	}
}

func TestEveryFormOfTheFormat(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []event
	}{
		"LF":                     {"data: a\n\ndata: b\n\n", []event{{"data: a\n\n", "a", true}, {"data: b\n\n", "b", true}}},
		"CRLF":                   {"data: a\r\n\r\ndata: b\r\n\r\n", []event{{"data: a\r\n\r\n", "a", true}, {"data: b\r\n\r\n", "b", true}}},
		"CR":                     {"data: a\r\rdata: b\r\r", []event{{"data: a\r\r", "a", true}, {"data: b\r\r", "b", true}}},
		"CR, then CRLF":          {"data: a\r\r\ndata: b\r\r\n", []event{{"data: a\r\r", "a", true}, {"\ndata: b\r\r", "b", true}, {"\n", "", false}}},
		"no space":               {"data:a\n\n", []event{{"data:a\n\n", "a", true}}},
		"two spaces":             {"data:  a\n\n", []event{{"data:  a\n\n", " a", true}}},
		"no colon":               {"data\n\n", []event{{"data\n\n", "", true}}},
		"several lines":          {"data: a\ndata: b\n\n", []event{{"data: a\ndata: b\n\n", "a\nb", true}}},
		"other fields":           {"event: x\nid: 1\ndata: a\nretry: 5\n\n", []event{{"event: x\nid: 1\ndata: a\nretry: 5\n\n", "a", true}}},
		"comment":                {": ping\n\ndata: a\n\n", []event{{": ping\n\n", "", false}, {"data: a\n\n", "a", true}}},
		"comment within":         {"data: a\n: x\ndata: b\n\n", []event{{"data: a\n: x\ndata: b\n\n", "a\nb", true}}},
		"end without blank":      {"data: a\n\ndata: [DONE]\n", []event{{"data: a\n\n", "a", true}, {"data: [DONE]\n", "[DONE]", true}}},
		"end within a line":      {"data: [DONE]", []event{{"data: [DONE]", "[DONE]", true}}},
		"byte order mark":        {"\ufeffdata: a\n\n", []event{{"\ufeffdata: a\n\n", "a", true}}},
		"blank lines":            {"\n\ndata: a\n\n\n", []event{{"\n\ndata: a\n\n", "a", true}, {"\n", "", false}}},
		"characters of 4 bytes":  {"data: 😀é\n\n", []event{{"data: 😀é\n\n", "😀é", true}}},
		"data that looks like 2": {"data: data: a\n\n", []event{{"data: data: a\n\n", "data: a", true}}},
		"nothing":                {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, read(t, strings.NewReader(c.in))); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(c.want, read(t, iotest.OneByteReader(strings.NewReader(c.in)))); diff != "" {
				t.Fatalf("byte by byte: %s", diff)
			}
			for cut := range len(c.in) {
				two := io.MultiReader(strings.NewReader(c.in[:cut]), strings.NewReader(c.in[cut:]))
				if diff := cmp.Diff(c.want, read(t, two)); diff != "" {
					t.Fatalf("cut at %d: %s", cut, diff)
				}
			}
		})
	}
}

// pieces gives the parts of a stream one Read at a time.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; len((*p)[0]) == 0 {
		*p = (*p)[1:]
	}
	return n, nil
}

func TestAnySplitGivesTheSameEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom([]string{"data: ", "data:", "data", "x", "é", "😀", "\r", "\n", "\r\n", "\n\n", ": c", "event: e", "\ufeff", ":"}))
		in := strings.Join(words.Draw(rt, "words"), "")
		var p pieces
		for rest := []byte(in); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "cut")
			p, rest = append(p, rest[:n]), rest[n:]
		}
		whole := read(t, strings.NewReader(in))
		if diff := cmp.Diff(whole, read(t, &p)); diff != "" {
			rt.Fatal(diff)
		}
		sameBytes(rt, in, whole)
	})
}

func sameBytes(t interface{ Fatalf(string, ...any) }, in string, events []event) {
	var all strings.Builder
	for _, e := range events {
		all.WriteString(e.Raw)
	}
	if all.String() != in {
		t.Fatalf("%q became %q", in, all.String())
	}
}

func FuzzAnySplitGivesTheSameEvents(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\ndata: b\n\n: c\r\rdata"), uint8(3))
	f.Add([]byte("\ufeffdata:\r\rdata: x\r\n\r\n\r"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var p pieces
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			p, rest = append(p, rest[:n]), rest[n:]
		}
		whole := read(t, bytes.NewReader(in))
		if diff := cmp.Diff(whole, read(t, &p)); diff != "" {
			t.Fatal(diff)
		}
		sameBytes(t, string(in), whole)
	})
}

func TestEventOverTheLimitIsAnErrorHoweverItArrives(t *testing.T) {
	fits := "data: " + strings.Repeat("x", sse.MaxEvent-8) + "\n\n"
	if got := read(t, strings.NewReader(fits)); len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	for name, src := range map[string]io.Reader{
		"whole":   strings.NewReader("data: " + strings.Repeat("x", sse.MaxEvent-7) + "\n\n"),
		"endless": io.MultiReader(strings.NewReader("data: a\n\n"), endless{}),
	} {
		r, last := sse.NewReader(src), error(nil)
		for last == nil {
			_, last = r.Next()
		}
		if penstock.CodeOf(last) != penstock.TooLarge {
			t.Errorf("%s: %v", name, last)
		}
	}
}

// endless is a line that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestUnfinishedEventBeforeAnErrorIsNotGiven(t *testing.T) {
	reset := errors.New("connection reset")
	r := sse.NewReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(reset)))
	if e, err := r.Next(); err != nil || string(e.Data) != "a" {
		t.Fatalf("%q, %v", e.Data, err)
	}
	if e, err := r.Next(); !errors.Is(err, reset) {
		t.Fatalf("%q, %v", e.Data, err)
	}
}

// A CR-only stream must not wait for the byte after its blank line.
func TestEventEndedByCRIsGivenAtOnce(t *testing.T) {
	in, out := io.Pipe()
	defer in.Close()
	go func() { _, _ = out.Write([]byte("data: a\r\r")) }()
	if e, err := sse.NewReader(in).Next(); err != nil || string(e.Data) != "a" {
		t.Fatalf("%q, %v", e.Data, err)
	}
}
