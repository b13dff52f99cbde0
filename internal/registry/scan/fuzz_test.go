package scan_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/registry/scan"
)

// spends fails when do allocates more than a fixed start and a multiple of the
// bytes that it was given: never what a header promises.
func spends(t *testing.T, given int, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if spent, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+64*given); spent > limit {
		t.Errorf("%d bytes of input made %d bytes of allocations; %d are allowed", given, spent, limit)
	}
}

// checkParser holds a parser to its promise on any input: an Info within the
// file's bounds, or an Error that names what is wrong.
func checkParser(t *testing.T, content []byte, parse func(scan.File) (scan.Info, error)) {
	f := file("m", content)
	spends(t, len(content), func() {
		info, err := parse(f)
		switch {
		case err != nil && (penstock.CodeOf(err) != penstock.Invalid || info != scan.Info{}):
			t.Errorf("Info %+v with error %v", info, err)
		case err == nil && (info.Tensors < 0 || info.Parameters < 0 || info.Parameters > 8*f.Size):
			t.Errorf("%d bytes hold %+v", f.Size, info)
		}
	})
}

func FuzzSafetensors(f *testing.F) {
	f.Add(tensors(tinySafetensors, 20))
	f.Add(tensors(`{"a":{"dtype":"F4","shape":[],"data_offsets":[0,0]}}`, 0))
	f.Add(le(^uint64(0), "{"))
	f.Add(carrier("N."))
	f.Fuzz(func(t *testing.T, content []byte) {
		checkParser(t, content, func(f scan.File) (scan.Info, error) { return scan.SafetensorsInfo(f, f.Size) })
	})
}

func FuzzGGUF(f *testing.F) {
	f.Add(tinyGGUF().bytes())
	f.Add(gguf{NTensors: u64(1 << 60), NKV: u64(1 << 60)}.bytes())
	f.Add(gguf{KV: [][]byte{append(text("k"), le(uint32(9), uint32(8), uint64(1)<<40)...)}}.bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		checkParser(t, content, func(f scan.File) (scan.Info, error) { return scan.GGUFInfo(f, f.Size) })
	})
}

func FuzzScan(f *testing.F) {
	f.Add("a.pkl", []byte("\x80\x04c_pickle\nloads\nC\x02N.\x85R."))
	f.Add("a.pkl", []byte("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add("a.pkl", []byte("(S'id'\nint\nsystem\n."))
	f.Add("a.txt", []byte("caf\xc3"))
	f.Add("a.gguf", tinyGGUF().bytes())
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		if strings.HasPrefix(string(content), "PK") {
			t.Skip("archives may hold more than they have bytes; that is bounded by its own constant")
		}
		spends(t, len(content), func() {
			got := scan.Scan([]scan.File{file(name, content)})
			if (got.Verdict == scan.Clean) != (len(got.Findings) == 0) {
				t.Errorf("verdict %s with findings %+v", got.Verdict, got.Findings)
			}
		})
	})
}

func TestHostileCountsAllocateNothing(t *testing.T) {
	for name, content := range map[string][]byte{
		"2^60 tensors":        gguf{NTensors: u64(1 << 60)}.bytes(),
		"2^60 pairs":          gguf{NKV: u64(1 << 60)}.bytes(),
		"a string of 1 GiB":   gguf{KV: [][]byte{append(text("k"), le(uint32(8), uint64(1<<30))...)}}.bytes(),
		"an array of 2^40":    gguf{KV: [][]byte{append(text("k"), le(uint32(9), uint32(8), uint64(1)<<40)...)}}.bytes(),
		"a header of 100 MB":  le(uint64(100_000_000), "{"),
		"a pickle's 2^62":     []byte("\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x40"),
		"a pickle's 2^64 - 1": []byte("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			spends(t, len(content), func() {
				if got := scan.Scan([]scan.File{file("m", content)}); got.Verdict == scan.Clean {
					t.Error("it is clean")
				}
			})
		})
	}
}

// counting counts the bytes that are read from it.
type counting struct {
	io.ReaderAt
	read *int64
}

func (c counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	*c.read += int64(n)
	return n, err
}

func TestAFileIsReadAFewTimesAtMost(t *testing.T) {
	for name, content := range map[string][]byte{
		"short lines":  bytes.Repeat([]byte("Vx\n"), 200_000),
		"long lines":   bytes.Repeat(append(append([]byte("V"), bytes.Repeat([]byte("x"), 60_000)...), '\n'), 20),
		"short texts":  bytes.Repeat([]byte("\x8c\x01x"), 200_000),
		"long texts":   bytes.Repeat(le(byte('X'), uint32(60_000), make([]byte, 60_000)), 20),
		"many pickles": bytes.Repeat([]byte("N."), 300_000),
		"plain text":   bytes.Repeat([]byte("hello world\n"), 50_000),
	} {
		read, f := int64(0), file("m.bin", content)
		f.ReaderAt = counting{f.ReaderAt, &read}
		scan.Scan([]scan.File{f})
		if limit := 5*f.Size + 1<<20; read > limit {
			t.Errorf("%s: of %d bytes, %d were read; %d are allowed", name, f.Size, read, limit)
		}
	}
}

func TestWellFormedWeightsAreClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 9), 0, 6).Draw(t, "sizes")
		var entries []string
		g, begin, elements := gguf{}, 0, 0
		for i, n := range sizes {
			entries = append(entries, fmt.Sprintf(`"t%d":{"dtype":"F32","shape":[%d,3],"data_offsets":[%d,%d]}`, i, n, 12*elements, 12*(elements+n)))
			g.Tensors = append(g.Tensors, tensor(fmt.Sprintf("t%d", i), 0, uint64(begin), uint64(n), 3))
			begin += (12*n + 31) / 32 * 32
			elements += n
		}
		g.Data = begin
		header := "{" + strings.Join(rapid.Permutation(entries).Draw(t, "order"), ",") + "}"
		files := []scan.File{file("m.gguf", g.bytes()), file("m.safetensors", tensors(header, 12*elements))}
		if got := scan.Scan(files); got.Verdict != scan.Clean {
			t.Fatalf("%+v", got)
		}
	})
}
