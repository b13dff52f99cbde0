package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/store"
)

// log is a store that has an audit log and nothing else, and no guard on it.
type log struct {
	store.Store
	entries []store.AuditEntry
}

func (l *log) View(_ context.Context, fn func(store.Tx) error) error { return fn(tx{log: l}) }

type tx struct {
	store.Tx
	log *log
}

func (x tx) Audit(after int64, limit int) ([]store.AuditEntry, error) {
	var page []store.AuditEntry
	for _, e := range x.log.entries {
		if e.Seq > after && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

// written is a log of n entries, hashed as the stores do it.
func written(n int) *log {
	l, prev := &log{}, store.Genesis
	for i := range n {
		e := store.AuditEntry{
			Seq: int64(i + 1), At: time.Date(2026, 3, 1, 9, 0, i, 0, time.UTC), Actor: "ann", Role: "developer",
			Verb: "create", Target: fmt.Sprintf("job/vision/train-%d", i), Outcome: "ok", Prev: prev,
		}
		e.Hash = e.Sum()
		prev = e.Hash
		l.entries = append(l.entries, e)
	}
	return l
}

func (l *log) at(i int) audit.Checkpoint {
	return audit.Checkpoint{Seq: l.entries[i].Seq, Hash: l.entries[i].Hash}
}

func verify(t testing.TB, l *log, known ...audit.Checkpoint) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), l, known...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAWholeLogIsWholeOverManyPages(t *testing.T) {
	for _, n := range []int{0, 1, 499, 500, 501, 1001} {
		l := written(n)
		want := audit.Report{Entries: int64(n), Head: audit.Checkpoint{Hash: store.Genesis}}
		if n > 0 {
			want.Head = l.at(n - 1)
		}
		got := verify(t, l, want.Head)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d entries (-want +got)\n%s", n, diff)
		}
		if err := got.Err(); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

func TestTheFirstBrokenEntryIsNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(l *log) []audit.Checkpoint
		seq   int64
		why   string
	}{
		{"content changed", func(l *log) []audit.Checkpoint { l.entries[4].Actor = "bob"; return nil }, 5, "it was changed"},
		{"content and hash changed", func(l *log) []audit.Checkpoint {
			l.entries[4].Actor = "bob"
			l.entries[4].Hash = l.entries[4].Sum()
			return nil
		}, 6, "follows an entry of hash"},
		{"first entry changed", func(l *log) []audit.Checkpoint { l.entries[0].Detail = "x"; return nil }, 1, "it was changed"},
		{"first entries gone", func(l *log) []audit.Checkpoint { l.entries = l.entries[2:]; return nil }, 3, "taken out"},
		{"one in the middle gone", func(l *log) []audit.Checkpoint { l.entries = append(l.entries[:4:4], l.entries[5:]...); return nil }, 6, "taken out"},
		{"two exchanged", func(l *log) []audit.Checkpoint {
			l.entries[3].Target, l.entries[4].Target = l.entries[4].Target, l.entries[3].Target
			return nil
		}, 4, "it was changed"},
		{"end cut off", func(l *log) []audit.Checkpoint {
			end := l.at(9)
			l.entries = l.entries[:7]
			return []audit.Checkpoint{end}
		}, 8, "its end was cut off"},
		{"written anew", func(l *log) []audit.Checkpoint {
			known := l.at(5)
			prev := store.Genesis
			for i := range l.entries {
				e := &l.entries[i]
				e.Actor, e.Prev = "bob", prev
				e.Hash = e.Sum()
				prev = e.Hash
			}
			return []audit.Checkpoint{known}
		}, 6, "written anew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := written(10)
			r := verify(t, l, c.spoil(l)...)
			if r.Broken == nil || r.Broken.Seq != c.seq || !strings.Contains(r.Broken.Why, c.why) {
				t.Errorf("report is %+v, want a break at %d with %q", r.Broken, c.seq, c.why)
			}
			if penstock.CodeOf(r.Err()) != penstock.Corrupt {
				t.Errorf("Err is %v", r.Err())
			}
		})
	}
}

func TestEveryChangeIsSeen(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := written(8)
		e := &l.entries[rapid.IntRange(0, 7).Draw(r, "entry")]
		was := *e
		text := rapid.StringN(1, 8, -1).Draw(r, "text")
		switch rapid.IntRange(0, 7).Draw(r, "field") {
		case 0:
			e.Actor += text
		case 1:
			e.Role += text
		case 2:
			e.Verb += text
		case 3:
			e.Target += text
		case 4:
			e.Outcome += text
		case 5:
			e.Detail += text
		case 6:
			e.At = e.At.Add(time.Microsecond)
		case 7: // the same letters, spread over other fields
			e.Verb, e.Target = e.Verb+e.Target[:1], e.Target[1:]
		}
		if got := verify(t, l); got.Broken == nil || got.Broken.Seq != was.Seq {
			r.Fatalf("changing %+v to %+v gives %+v", was, *e, got)
		}
	})
}

func TestAnExportIsCheckedWithoutTheServer(t *testing.T) {
	l := written(620)
	var out bytes.Buffer
	end, err := audit.Export(t.Context(), l, &out)
	if err != nil || end != l.at(619) {
		t.Fatalf("checkpoint %+v, error %v", end, err)
	}
	whole := out.String()
	check := func(text string, known ...audit.Checkpoint) audit.Report {
		t.Helper()
		r, err := audit.VerifyExport(strings.NewReader(text), known...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(whole, end, l.at(3)); r.Broken != nil || r.Entries != 620 || r.Head != end {
		t.Errorf("whole export: %+v %+v", r, r.Broken)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	for name, text := range map[string]string{
		"last entry missing":      strings.Join(append(lines[:619:619], lines[620:]...), ""),
		"checkpoint missing":      strings.Join(lines[:620], ""),
		"one entry changed":       strings.Replace(whole, "train-77", "train-78", 1),
		"checkpoint made shorter": strings.Join(lines[:10], "") + `{"checkpoint":{"seq":9,"hash":"` + l.entries[8].Hash + `"}}`,
	} {
		if r := check(text); r.Broken == nil {
			t.Errorf("%s: the export passes: %+v", name, r)
		}
	}
	if r := check(strings.Join(lines[:10], "")+`{"checkpoint":{"seq":10,"hash":"`+l.entries[9].Hash+`"}}`, end); r.Broken == nil {
		t.Errorf("cut off with a fitting checkpoint: the known one doesn't help: %+v", r)
	}
	for name, text := range map[string]string{"rubbish": "hello\n", "an empty object": "{}\n", "more after the end": whole + lines[0]} {
		if _, err := audit.VerifyExport(strings.NewReader(text)); penstock.CodeOf(err) != penstock.Invalid {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestABrokenLogIsNotExported(t *testing.T) {
	l := written(5)
	l.entries[2].Outcome = "denied"
	if _, err := audit.Export(t.Context(), l, &bytes.Buffer{}); penstock.CodeOf(err) != penstock.Corrupt {
		t.Errorf("error is %v, want Corrupt", err)
	}
}
