package scan_test

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/registry/scan"
)

// scanCase is one file and what must be found in it. The numbers in names are
// those of the table of known attacks that the rules were written against.
type scanCase struct {
	name, path string
	content    []byte
	verdict    string
	detail     string // part of the finding
}

func (c scanCase) run(t *testing.T) {
	t.Helper()
	got := scan.Scan([]scan.File{file(c.path, c.content)})
	if got.Verdict != c.verdict {
		t.Fatalf("verdict is %s, want %s; findings: %+v", got.Verdict, c.verdict, got.Findings)
	}
	if c.verdict == scan.Clean {
		if len(got.Findings) != 0 {
			t.Errorf("a clean file has findings: %+v", got.Findings)
		}
		return
	}
	if len(got.Findings) != 1 || !strings.Contains(got.Findings[0].Detail, c.detail) || got.Findings[0].Path != c.path {
		t.Errorf("findings are %+v, want one about %q with %q", got.Findings, c.path, c.detail)
	}
}

func u64(n uint64) *uint64 { return &n }

func TestSafetensorsAreHeldToEveryRule(t *testing.T) {
	entry := func(dtype, shape, offsets string) string {
		return `{"w":{"dtype":"` + dtype + `","shape":` + shape + `,"data_offsets":` + offsets + `}}`
	}
	two := func(first, second string) string {
		return `{"a":{"dtype":"U8","shape":[4],"data_offsets":` + first + `},"b":{"dtype":"U8","shape":[4],"data_offsets":` + second + `}}`
	}
	const name = "model.safetensors"
	for _, c := range []scanCase{
		{"plain", name, tensors(tinySafetensors, 20), scan.Clean, ""},
		{"no tensors", name, tensors(`{}`, 0), scan.Clean, ""},
		{"16 empty tensor", name, tensors(entry("F32", "[0,7]", "[0,0]"), 0), scan.Clean, ""},
		{"16 scalar", name, tensors(entry("F32", "[]", "[0,4]"), 4), scan.Clean, ""},
		{"16 spaces behind the header", name, tensors(entry("F32", "[1]", "[0,4]")+"     ", 4), scan.Clean, ""},
		{"half-byte elements", name, tensors(entry("F4", "[6]", "[0,3]"), 3), scan.Clean, ""},
		{"any order in the header", name, tensors(two("[4,8]", "[0,4]"), 8), scan.Clean, ""},
		{"13 N is 2^64-1", name, le(^uint64(0), "{}"), scan.Malformed, "18446744073709551615 bytes"},
		{"13 N is one too many", name, le(uint64(100_000_001), "{}"), scan.Malformed, "at most 100000000"},
		{"13 N beyond the file", name, le(uint64(400), "{}"), scan.Malformed, "only 2 follow"},
		{"13 shorter than its length", name, []byte("\x01\x00"), scan.Malformed, "8 bytes are needed"},
		{"14 overlap", name, tensors(two("[0,4]", "[2,6]"), 6), scan.Malformed, "inside of what ends at 4"},
		{"14 gap", name, tensors(two("[0,4]", "[6,10]"), 10), scan.Malformed, "leaves a gap after 4"},
		{"14 gap at the start", name, tensors(two("[1,5]", "[5,9]"), 9), scan.Malformed, "leaves a gap after 0"},
		{"14 trailing bytes", name, tensors(two("[0,4]", "[4,8]"), 9), scan.Malformed, "8 bytes but 9 follow"},
		{"14 truncated", name, tensors(two("[0,4]", "[4,8]"), 7), scan.Malformed, "8 bytes but 7 follow"},
		{"14 begin after end", name, tensors(entry("U8", "[4]", "[4,0]"), 4), scan.Malformed, "before it begins"},
		{"15 tensor twice", name, tensors(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), scan.Malformed, "duplicate"},
		{"15 member of a tensor twice", name, tensors(`{"w":{"dtype":"U8","dtype":"F64","shape":[1],"data_offsets":[0,1]}}`, 1), scan.Malformed, "duplicate"},
		{"15 metadata twice", name, tensors(`{"__metadata__":{},"__metadata__":{}}`, 0), scan.Malformed, "duplicate"},
		{"15 overflowing shape", name, tensors(entry("U8", "[9223372036854775808,2]", "[0,0]"), 0), scan.Malformed, "overflows"},
		{"15 overflow hidden by a zero", name, tensors(entry("U8", "[9223372036854775808,2,0]", "[0,0]"), 0), scan.Malformed, "overflows"},
		{"15 overflowing bits", name, tensors(entry("F64", "[4611686018427387904]", "[0,0]"), 0), scan.Malformed, "overflows"},
		{"15 unknown dtype", name, tensors(entry("F31", "[1]", "[0,4]"), 4), scan.Malformed, "unknown dtype"},
		{"dtype in lower case", name, tensors(entry("f32", "[1]", "[0,4]"), 4), scan.Malformed, "unknown dtype"},
		{"half a byte over", name, tensors(entry("F4", "[5]", "[0,3]"), 3), scan.Malformed, "20 bits"},
		{"size of the shape isn't the data's", name, tensors(entry("F32", "[3]", "[0,8]"), 8), scan.Malformed, "96 bits of data but 8 bytes"},
		{"negative size", name, tensors(entry("F32", "[-1]", "[0,4]"), 4), scan.Malformed, "isn't {dtype, shape"},
		{"fraction", name, tensors(entry("F32", "[1.0]", "[0,4]"), 4), scan.Malformed, "isn't {dtype, shape"},
		{"three offsets", name, tensors(entry("F32", "[1]", "[0,4,8]"), 4), scan.Malformed, "two data_offsets"},
		{"no shape", name, tensors(`{"w":{"dtype":"U8","data_offsets":[0,1]}}`, 1), scan.Malformed, "needs a shape"},
		{"unknown member", name, tensors(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}}`, 1), scan.Malformed, "isn't {dtype, shape"},
		{"metadata of a number", name, tensors(`{"__metadata__":{"a":1}}`, 0), scan.Malformed, "only strings"},
		{"metadata of null", name, tensors(`{"__metadata__":{"a":null}}`, 0), scan.Malformed, "only strings"},
		{"metadata that isn't an object", name, tensors(`{"__metadata__":[]}`, 0), scan.Malformed, "only strings"},
		{"header starts with a space", name, tensors(" {}", 0), scan.Malformed, "doesn't start with '{'"},
		{"header is empty", name, tensors("", 0), scan.Malformed, "doesn't start with '{'"},
		{"header isn't UTF-8", name, tensors("{\"\xff\":{}}", 0), scan.Malformed, "isn't JSON"},
		{"header breaks off", name, tensors(`{"a":`, 0), scan.Malformed, "unexpected EOF"},
		{"padded with a newline", name, tensors("{}\n", 0), scan.Malformed, "only spaces"},
		{"padded with zeros", name, tensors("{}\x00\x00", 0), scan.Malformed, "only spaces"},
		{"a huge entry", name, tensors(entry("U8", "["+strings.Repeat("1,", 4000)+"1]", "[0,1]"), 1), scan.Malformed, "at most 4096"},
		{"recognised without its name", "weights.dat", tensors(`{"a":1}`, 0), scan.Malformed, "tensor \"a\""},
		{"text that promises tensors", name, []byte("hello, these are no tensors"), scan.Malformed, ""},
	} {
		t.Run(c.name, c.run)
	}
}

func TestGGUFIsHeldToEveryRule(t *testing.T) {
	const name = "model.gguf"
	with := func(change func(*gguf)) []byte {
		g := tinyGGUF()
		change(&g)
		return g.bytes()
	}
	one := func(parts ...[]byte) []byte { return with(func(g *gguf) { g.Tensors = parts }) }
	for _, c := range []scanCase{
		{"plain", name, tinyGGUF().bytes(), scan.Clean, ""},
		{"version 2", name, with(func(g *gguf) { g.Version = 2 }), scan.Clean, ""},
		{"vocabulary only", name, with(func(g *gguf) { g.Tensors, g.Data = nil, 0 }), scan.Clean, ""},
		{"alignment 64", name, with(func(g *gguf) {
			g.Align, g.Data, g.KV = 64, 64+54, append(g.KV, kvUint32("general.alignment", 64))
			g.Tensors[1] = tensor("b", 2, 64, 32, 3)
		}), scan.Clean, ""},
		{"last padding missing", name, with(func(g *gguf) { g.Data = 32 + 54 }), scan.Clean, ""},
		{"empty tensor and a scalar", name, with(func(g *gguf) {
			g.Tensors, g.Data = [][]byte{tensor("a", 0, 0, 0), tensor("b", 0, 0)}, 4
		}), scan.Clean, ""},
		{"17 2^60 tensors", name, with(func(g *gguf) { g.NTensors = u64(1 << 60) }), scan.Malformed, "1152921504606846976 tensors"},
		{"17 2^60 pairs", name, with(func(g *gguf) { g.NKV = u64(1 << 60) }), scan.Malformed, "metadata pairs"},
		{"17 key of 1 GiB", name, with(func(g *gguf) { g.KV[0] = le(uint64(1<<30), "x") }), scan.Malformed, "1 to 65535"},
		{"17 value of 1 GiB", name, with(func(g *gguf) { g.KV[1] = append(text("k"), le(uint32(8), uint64(1<<30))...) }), scan.Malformed, "1073741824 bytes"},
		{"17 string of 2^64-1", name, with(func(g *gguf) { g.KV[1] = append(text("k"), le(uint32(8), ^uint64(0))...) }), scan.Malformed, "18446744073709551615 bytes"},
		{"17 array of 2^61", name, with(func(g *gguf) { g.KV[1] = append(text("k"), le(uint32(9), uint32(12), uint64(1)<<61)...) }), scan.Malformed, "2305843009213693952 values"},
		{"17 alignment 0", name, with(func(g *gguf) { g.KV = append(g.KV, kvUint32("general.alignment", 0)) }), scan.Malformed, "power of two"},
		{"17 alignment 3", name, with(func(g *gguf) { g.KV = append(g.KV, kvUint32("general.alignment", 3)) }), scan.Malformed, "power of two"},
		{"17 alignment 2^31", name, with(func(g *gguf) { g.KV = append(g.KV, kvUint32("general.alignment", 1<<31)) }), scan.Malformed, "at most 65536"},
		{"alignment of another type", name, with(func(g *gguf) { g.KV = append(g.KV, kvString("general.alignment", "32")) }), scan.Malformed, "must be a uint32"},
		{"17 five dimensions", name, one(tensor("a", 0, 0, 1, 1, 1, 1, 1)), scan.Malformed, "5 dimensions"},
		{"17 overflowing elements", name, one(tensor("a", 0, 0, 1<<62, 4)), scan.Malformed, "overflows"},
		{"17 overflow hidden by a zero", name, one(tensor("a", 0, 0, 1<<62, 4, 0)), scan.Malformed, "overflows"},
		{"17 overflowing bytes", name, one(tensor("a", 28, 0, 1<<62)), scan.Malformed, "overflows"},
		{"17 overflowing end", name, one(tensor("a", 0, ^uint64(31), 8)), scan.Malformed, "overflows"},
		{"17 data beyond the file", name, one(tensor("a", 0, 1<<20, 8)), scan.Malformed, "ends at 1048608"},
		{"data a little beyond the file", name, with(func(g *gguf) { g.Data = 32 + 53 }), scan.Malformed, "86 bytes but 85 follow"},
		{"data not aligned", name, one(tensor("a", 0, 4, 8)), scan.Malformed, "multiple of 32"},
		{"data overlaps", name, one(tensor("a", 0, 0, 16), tensor("b", 0, 32, 8)), scan.Malformed, "inside of what ends at 64"},
		{"data with a gap", name, one(tensor("a", 0, 0, 8), tensor("b", 0, 64, 8)), scan.Malformed, "leaves a gap after 32"},
		{"data that no tensor owns", name, with(func(g *gguf) { g.Data += 64 }), scan.Malformed, "86 bytes but 160 follow"},
		{"data without tensors", name, with(func(g *gguf) { g.Tensors = nil }), scan.Malformed, "there are no tensors"},
		{"tensor twice", name, one(tensor("a", 0, 0, 8), tensor("a", 0, 32, 8)), scan.Malformed, "comes twice"},
		{"key twice", name, with(func(g *gguf) { g.KV = append(g.KV, kvString("general.architecture", "bert")) }), scan.Malformed, "comes twice"},
		{"type taken out of the format", name, one(tensor("a", 4, 0, 32)), scan.Malformed, "ggml type 4"},
		{"type from the future", name, one(tensor("a", 9999, 0, 32)), scan.Malformed, "ggml type 9999"},
		{"half a block", name, one(tensor("a", 2, 0, 33)), scan.Malformed, "blocks of 32"},
		{"name too long", name, one(tensor(strings.Repeat("n", 64), 0, 0, 8)), scan.Malformed, "1 to 63"},
		{"name empty", name, one(tensor("", 0, 0, 8)), scan.Malformed, "1 to 63"},
		{"name isn't text", name, one(tensor("a\x00b", 0, 0, 8)), scan.Malformed, "isn't UTF-8"},
		{"array of arrays", name, with(func(g *gguf) { g.KV[1] = append(text("k"), le(uint32(9), uint32(9), uint64(1))...) }), scan.Malformed, "array of arrays"},
		{"unknown value type", name, with(func(g *gguf) { g.KV[1] = append(text("k"), le(uint32(13), uint64(1))...) }), scan.Malformed, "value type 13"},
		{"version 1", name, with(func(g *gguf) { g.Version = 1 }), scan.Malformed, "version 1"},
		{"big-endian", name, with(func(g *gguf) { g.Version = 3 << 24 }), scan.Malformed, "version 50331648"},
		{"only its magic", name, []byte("GGUF"), scan.Malformed, "4 bytes are needed"},
		{"text that promises GGUF", name, []byte("GGUF files hold models"), scan.Malformed, "version"},
		{"text about GGUF", "README", []byte("GGUF files hold models"), scan.Clean, ""},
	} {
		t.Run(c.name, c.run)
	}
}

func TestEveryCutOfAGoodFileIsBlocked(t *testing.T) {
	for name, whole := range map[string][]byte{"m.safetensors": tensors(tinySafetensors, 20), "m.gguf": tinyGGUF().bytes()} {
		last := len(whole)
		if name == "m.gguf" {
			last -= 10 // the last tensor's padding may be missing
		}
		for n := range last {
			if got := scan.Scan([]scan.File{file(name, whole[:n])}); got.Verdict == scan.Clean {
				t.Errorf("%s cut to %d of %d bytes is clean", name, n, len(whole))
			}
		}
	}
}

func TestPicklesAreRefusedWhateverTheyAreCalled(t *testing.T) {
	system := short("os") + short("system") + "\x93" + short("id") + "\x85R."
	benign := "\x80\x04ccollections\nOrderedDict\n)R."
	state := "\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRu."
	for _, c := range []scanCase{
		{"1 os.system, protocol 0", "a.pkl", []byte("cos\nsystem\n(S'id'\ntR."), scan.Malicious, "os.system"},
		{"1 os.system, protocol 4", "a.pkl", []byte("\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00" + system), scan.Malicious, "os.system"},
		{"1 posix.system", "a.pkl", []byte("cposix\nsystem\n(S'id'\ntR."), scan.Malicious, "posix.system"},
		{"1 nt.system by INST", "a.pkl", []byte("(S'id'\nint\nsystem\n."), scan.Malicious, "nt.system"},
		{"1 builtins.eval by OBJ", "a.pkl", []byte("\x80\x02(cbuiltins\neval\nX\x01\x00\x00\x001o."), scan.Malicious, "builtins.eval"},
		{"2 names from BINPUT and MEMOIZE", "a.pkl", []byte("\x80\x04" + short("os") + "\x94" + short("system") + "q\x05" + "00" + "h\x00h\x05\x93" + short("id") + "\x85R."), scan.Malicious, "os.system"},
		{"4 numpy.__builtins__.eval", "a.pkl", []byte("\x80\x04" + short("numpy") + short("__builtins__.eval") + "\x93."), scan.Malicious, "numpy.__builtins__.eval"},
		{"introspection from a harmless name", "a.pkl", []byte("cbuiltins\nprint.__class__.__base__\n."), scan.Malicious, "__class__"},
		{"a module behind a module", "a.pkl", []byte("ctorch.serialization\nos.system\n(S'id'\ntR."), scan.Malicious, "os.system"},
		{"5 loads of a benign pickle", "a.pkl", []byte("\x80\x04cpickle\nloads\nC\x02N.\x85R."), scan.Inconclusive, "pickle is refused"},
		{"5 loads of an evil pickle", "a.pkl", le("\x80\x04c_pickle\nloads\nC", byte(len(system)), system, "\x85R."), scan.Malicious, "os.system"},
		{"6 a second pickle after STOP", "a.pkl", []byte(benign + "\x80\x04" + system), scan.Malicious, "os.system"},
		{"broken after the attack", "a.pkl", []byte("cos\nsystem\n(S'id'\ntR\xff\xff"), scan.Malicious, "os.system"},
		{"10 called .bin", "pytorch_model.bin", []byte("\x80\x04" + system), scan.Malicious, "os.system"},
		{"10 called .safetensors", "model.safetensors", []byte("\x80\x04" + system), scan.Malicious, "os.system"},
		{"10 benign, called .safetensors", "model.safetensors", []byte(benign), scan.Inconclusive, "pickle is refused"},
		{"10 protocol 0, called README", "README.md", []byte("ccollections\nOrderedDict\n(tR."), scan.Inconclusive, "collections.OrderedDict"},
		{"12 a plain state dict", "model.pt", []byte(state), scan.Inconclusive, "torch._utils._rebuild_tensor_v2"},
		{"computed name", "a.pkl", []byte("\x80\x04NN\x93)R."), scan.Inconclusive, "computed"},
		{"extension registry", "a.pkl", []byte("\x80\x02\x82\x07)R."), scan.Inconclusive, "extension 7"},
		{"protocol header and rubbish", "a.bin", []byte("\x80\x04\xff\xff\xff"), scan.Inconclusive, "pickle is refused"},
		{"no import at all", "a.pkl", []byte("(lp0\nI1\na."), scan.Inconclusive, "pickle is refused"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestArchivesAreRefusedAndLookedInto(t *testing.T) {
	evil := "\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR."
	good := "\x80\x02ccollections\nOrderedDict\n)R."
	encrypted := func(h *zip.FileHeader) { h.Flags |= 1 }
	badCRC := func(h *zip.FileHeader) { h.CRC32++ }
	local := zipOf(t, nil, [2]string{"archive/data.pkl", evil})
	local = []byte(strings.Replace(string(local), "archive/data.pkl", "archive/data.txt", 1))
	for _, c := range []scanCase{
		{"torch file", "m.pt", zipOf(t, nil, [2]string{"archive/data.pkl", good}, [2]string{"archive/data/0", "\x00\x00"}), scan.Inconclusive, "is a pickle"},
		{"torch file with an attack", "m.pt", zipOf(t, nil, [2]string{"archive/data.pkl", evil}), scan.Malicious, "os.system"},
		{"8 bad check sum", "m.pt", zipOf(t, badCRC, [2]string{"archive/data.pkl", evil}), scan.Malicious, "os.system"},
		{"8 flagged as encrypted", "m.pt", zipOf(t, encrypted, [2]string{"archive/data.pkl", evil}), scan.Malicious, "os.system"},
		{"8 local name differs", "m.pt", local, scan.Malicious, "os.system"},
		{"9 extra member without extension", "m.pt", zipOf(t, nil, [2]string{"archive/data.pkl", good}, [2]string{"archive/extra", evil}), scan.Malicious, `"archive/extra"`},
		{"no pickles, as .keras", "m.keras", zipOf(t, nil, [2]string{"config.json", "{}"}), scan.Inconclusive, "zip archive of 1 files"},
		{"no directory", "m.zip", []byte("PK\x03\x04 and then nothing"), scan.Inconclusive, "directory"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestFilesOfTwoFormatsAreRefused(t *testing.T) {
	for _, c := range []scanCase{
		{"safetensors and an evil pickle", "m.safetensors", carrier("cos\nsystem\n)R."), scan.Malicious, "os.system"},
		{"safetensors and a pickle", "m.safetensors", carrier("ccollections\nOrderedDict\n)R."), scan.Inconclusive, "a pickle as well"},
		{"safetensors and data that can't import", "m.safetensors", carrier("N."), scan.Clean, ""},
		{"safetensors and zip", "m.safetensors", carrier("\x00\x00PK\x05\x06" + strings.Repeat("\x00", 18)), scan.Inconclusive, "ends as a zip"},
	} {
		t.Run(c.name, c.run)
	}
}

// carrier is a valid safetensors file whose first bytes are a pickle. N, the
// length of the header, is 'X' + 256 × 10: to an unpickler, the opcode X with a
// text of 10 bytes. The text ends within a tensor's name, where V begins a text
// that ends with the line, and the first newline is that of the data.
func carrier(data string) []byte {
	data = "\n" + data
	header := fmt.Sprintf(`{"wwwwwV":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, len(data), len(data))
	header += strings.Repeat(" ", 'X'+256*10-len(header))
	return append(le(uint64(len(header)), header), data...)
}

func TestPlainTextIsClean(t *testing.T) {
	for _, c := range []scanCase{
		{"readme", "README.md", []byte("# A model\n\nTrained on text. 日本語 ✓\r\n"), scan.Clean, ""},
		{"readme that begins like GLOBAL", "README.md", []byte("changes\nmodel\nbetter now.\n"), scan.Clean, ""},
		{"vocabulary", "vocab.txt", []byte("cat\ndog\nbird\n"), scan.Clean, ""},
		{"config", "config.json", []byte(`{"model_type":"llama"}`), scan.Clean, ""},
		{"empty", "notes.txt", nil, scan.Clean, ""},
		{"a rune across two reads", "long.txt", []byte(strings.Repeat("x", 64<<10-1) + "é" + strings.Repeat("y", 10)), scan.Clean, ""},
		{"long text with a zero far in", "long.txt", []byte(strings.Repeat("x", 70<<10) + "\x00"), scan.Inconclusive, "byte 71680"},
		{"Latin-1", "README", []byte("caf\xe9 au lait, please, for all of us"), scan.Inconclusive, "not a format"},
		{"text cut within a rune", "README", []byte("a long enough text that ends in \xe6\x97"), scan.Inconclusive, "neither text"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestOtherFormatsAreBlocked(t *testing.T) {
	for _, c := range []scanCase{
		{"HDF5", "model.h5", []byte("\x89HDF\r\n\x1a\n\x00\x00\x00\x00"), scan.Inconclusive, "HDF5"},
		{"HDF5 called .safetensors", "model.safetensors", []byte("\x89HDF\r\n\x1a\n\x00\x00\x00\x00"), scan.Inconclusive, "HDF5"},
		{"ONNX", "model.onnx", []byte("\x08\x07\x12\x07pytorch"), scan.Inconclusive, "ONNX"},
		{"ELF", "kernel.so", []byte("\x7fELF\x02\x01\x01\x00"), scan.Inconclusive, "ELF"},
		{"script", "run", []byte("#!/bin/sh\nid\n"), scan.Inconclusive, "script"},
		{"Windows program", "a.dll", []byte("MZ\x90\x00\x03\x00\x00\x00"), scan.Inconclusive, "Windows"},
		{"text that begins with MZ", "a.txt", []byte("MZ is a format of programs"), scan.Clean, ""},
		{"numpy", "a.npy", []byte("\x93NUMPY\x01\x00v\x00{"), scan.Inconclusive, "not a format"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestTheWorstFileDecides(t *testing.T) {
	clean := file("model.gguf", tinyGGUF().bytes())
	for _, c := range []struct {
		name  string
		files []scan.File
		want  v1.Scan
	}{
		{"no files", nil, v1.Scan{Verdict: scan.Inconclusive, Ruleset: scan.Ruleset, Findings: []v1.Finding{{Verdict: scan.Inconclusive, Detail: "the version has no files"}}}},
		{"all clean", []scan.File{clean, file("README", []byte("hello"))}, v1.Scan{Verdict: scan.Clean, Ruleset: scan.Ruleset}},
		{"one of each", []scan.File{file("a.h5", []byte("\x89HDF\r\n\x1a\n")), file("b.gguf", []byte("GGUF")), clean, file("c.pkl", []byte("cos\nsystem\n)R."))}, v1.Scan{
			Verdict: scan.Malicious, Ruleset: scan.Ruleset, Findings: []v1.Finding{
				{Path: "a.h5", Verdict: scan.Inconclusive, Detail: "refused: HDF5, as Keras writes it, can hold code"},
				{Path: "b.gguf", Verdict: scan.Malformed, Detail: "byte 4: 4 bytes are needed but only 0 follow"},
				{Path: "c.pkl", Verdict: scan.Malicious, Detail: "a pickle that imports os.system"},
			},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, scan.Scan(c.files)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// failing gives the first bytes of a file and then an error.
type failing struct {
	good []byte
	err  error
}

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.good)) {
		return 0, f.err
	}
	n := copy(b, f.good[off:])
	if n < len(b) {
		return n, f.err
	}
	return n, nil
}

func TestWhatCannotBeReadIsNotJudged(t *testing.T) {
	for name, whole := range map[string][]byte{"m.safetensors": tensors(tinySafetensors, 20), "m.gguf": tinyGGUF().bytes(), "m.txt": []byte("some text\n")} {
		for _, err := range []error{io.EOF, errors.New("disk fault"), &penstock.Error{Code: penstock.Corrupt, Msg: "bad blob"}} {
			for n := range len(whole) {
				got := scan.Scan([]scan.File{{Path: name, Size: int64(len(whole)), ReaderAt: failing{whole[:n], err}}})
				want := []v1.Finding{{Path: name, Verdict: scan.Inconclusive, Detail: "the file could not be read to its end"}}
				if diff := cmp.Diff(want, got.Findings); diff != "" {
					t.Fatalf("%s failing at byte %d with %v (-want +got)\n%s", name, n, err, diff)
				}
			}
		}
	}
}

func TestInfoCountsTensorsAndParameters(t *testing.T) {
	f := file("m.gguf", tinyGGUF().bytes())
	got, err := scan.GGUFInfo(f, f.Size)
	if diff := cmp.Diff(scan.Info{Format: "gguf", Architecture: "llama", Tensors: 2, Parameters: 8 + 96}, got); diff != "" || err != nil {
		t.Errorf("GGUF: %v (-want +got)\n%s", err, diff)
	}
	f = file("m.safetensors", tensors(tinySafetensors, 20))
	got, err = scan.SafetensorsInfo(f, f.Size)
	if diff := cmp.Diff(scan.Info{Format: "safetensors", Tensors: 2, Parameters: 6}, got); diff != "" || err != nil {
		t.Errorf("safetensors: %v (-want +got)\n%s", err, diff)
	}
}
