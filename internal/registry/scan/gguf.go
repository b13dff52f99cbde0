package scan

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// The bounds of a GGUF file. Names are bounded by what ggml can hold
// (GGML_MAX_NAME, GGML_MAX_DIMS) and keys by the specification; the counts and
// the alignment are ours.
const (
	maxGGUFCount  = 1 << 20
	maxKey        = 1<<16 - 1
	maxName       = 63
	maxDims       = 4
	maxAlignment  = 1 << 16
	minPair       = 8 + 1 + 4 + 1     // a key of one byte, its type, a value of one byte
	minTensorInfo = 8 + 1 + 4 + 4 + 8 // a name of one byte, no dimensions, type, offset
)

// valueSize is the size of a metadata value by its type number; the rest are
// valueString and valueArray.
var valueSize = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

const (
	valueUint32 = 4
	valueString = 8
	valueArray  = 9
)

// GGUFInfo checks all structure of a GGUF file, version 2 or 3, and tells what
// it holds. Its rules are the format's specification (ggml, docs/gguf.md) and
// what the loader (ggml, gguf.cpp) demands: counts that the file has room for;
// lengths within the file; no key or tensor twice; no array of arrays; an
// alignment that is a power of two; at most four dimensions whose product
// doesn't overflow; a type that ggml has, with whole blocks in each row; data
// that is aligned and covers the rest of the file. An Error with code Invalid
// means that the bytes break a rule.
func GGUFInfo(r io.ReaderAt, size int64) (Info, error) {
	g := gguf{cursor: newCursor(File{ReaderAt: r, Size: size}), alignment: 32, info: Info{Format: string(formatGGUF)}}
	tensors, pairs, err := g.counts()
	if err != nil {
		return Info{}, err
	}
	if err := g.pairs(pairs); err != nil {
		return Info{}, err
	}
	if err := g.tensors(tensors); err != nil {
		return Info{}, err
	}
	if err := g.cover(); err != nil {
		return Info{}, err
	}
	return g.info, nil
}

type gguf struct {
	*cursor
	alignment uint64
	data      spans
	info      Info
}

// counts reads the fixed header: magic, version, how many tensors and pairs.
func (g *gguf) counts() (tensors, pairs int, err error) {
	magic, err := g.next(4)
	switch {
	case err != nil:
		return 0, 0, err
	case string(magic) != "GGUF":
		return 0, 0, malformed(byteAt(0), "it starts with %q, not with GGUF", magic)
	}
	version, err := g.uint32()
	switch {
	case err != nil:
		return 0, 0, err
	case version != 2 && version != 3:
		return 0, 0, malformed(byteAt(4), "version %d; only 2 and 3, little-endian, are known", version)
	}
	if tensors, err = g.count("tensors", minTensorInfo); err != nil {
		return 0, 0, err
	}
	pairs, err = g.count("metadata pairs", minPair)
	return tensors, pairs, err
}

// count reads how many things of at least each bytes follow.
func (g *gguf) count(what string, each int64) (int, error) {
	n, err := g.uint64()
	if err != nil {
		return 0, err
	}
	if room := g.left() / each; n > maxGGUFCount || int64(n) > room {
		return 0, malformed(byteAt(g.off-8), "%d %s; the file has room for %d and %d are allowed", n, what, room, maxGGUFCount)
	}
	return int(n), nil
}

// name reads a string that must be short, not empty and UTF-8.
func (g *gguf) name(what string, longest uint64) (string, error) {
	at := g.off
	n, err := g.uint64()
	if err != nil {
		return "", err
	}
	if n == 0 || n > longest {
		return "", malformed(byteAt(at), "%s of %d bytes; 1 to %d are allowed", what, n, longest)
	}
	b, err := g.next(int(n))
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return "", malformed(byteAt(at), "%s isn't UTF-8 text: %.40q", what, b)
	}
	return string(b), nil
}

func (g *gguf) pairs(n int) error {
	seen := make(map[string]bool)
	for range n {
		key, err := g.name("a key", maxKey)
		if err != nil {
			return err
		}
		if seen[key] {
			return malformed(byteAt(g.off), "key %.80q comes twice", key)
		}
		seen[key] = true
		if err := g.pair(key); err != nil {
			return err
		}
	}
	return nil
}

func (g *gguf) pair(key string) error {
	kind, err := g.uint32()
	switch {
	case err != nil:
		return err
	case key == "general.alignment":
		return g.readAlignment(kind)
	case key == "general.architecture":
		if kind != valueString {
			return malformed(key, "type %d; it must be a string", kind)
		}
		g.info.Architecture, err = g.name(key, maxName)
		return err
	case kind == valueArray:
		return g.skipArray(key)
	}
	return g.skipValues(key, kind, 1)
}

func (g *gguf) readAlignment(kind uint32) error {
	if kind != valueUint32 {
		return malformed("general.alignment", "type %d; it must be a uint32", kind)
	}
	a, err := g.uint32()
	if err != nil {
		return err
	}
	if bits.OnesCount32(a) != 1 || a > maxAlignment {
		return malformed("general.alignment", "%d; it must be a power of two of at most %d", a, maxAlignment)
	}
	g.alignment = uint64(a)
	return nil
}

func (g *gguf) skipArray(key string) error {
	kind, err := g.uint32()
	if err != nil {
		return err
	}
	if kind == valueArray {
		return malformed("key "+short(key), "an array of arrays; no loader reads those")
	}
	n, err := g.uint64()
	if err != nil {
		return err
	}
	return g.skipValues(key, kind, n)
}

// skipValues goes past n values of one type that lie one after the other.
func (g *gguf) skipValues(key string, kind uint32, n uint64) error {
	each, fixed := valueSize[kind]
	if kind == valueString {
		each = 8 // its length alone
	} else if !fixed {
		return malformed("key "+short(key), "unknown value type %d", kind)
	}
	if n > uint64(g.left()/each) {
		return malformed("key "+short(key), "%d values; the file has room for %d", n, g.left()/each)
	}
	if kind != valueString {
		return g.skip(int64(n) * each)
	}
	for range n {
		length, err := g.uint64()
		if err != nil {
			return err
		}
		if length > uint64(g.left()) {
			return malformed("key "+short(key), "a string of %d bytes but only %d follow", length, g.left())
		}
		if err := g.skip(int64(length)); err != nil {
			return err
		}
	}
	return nil
}

func (g *gguf) tensors(n int) error {
	seen := make(map[string]bool)
	for range n {
		name, err := g.name("a tensor's name", maxName)
		if err != nil {
			return err
		}
		if seen[name] {
			return malformed("tensor "+short(name), "it comes twice")
		}
		seen[name] = true
		if err := g.tensor(name); err != nil {
			return err
		}
	}
	g.info.Tensors = n
	return nil
}

func (g *gguf) tensor(name string) error {
	where := "tensor " + short(name)
	shape, err := g.shape(where)
	if err != nil {
		return err
	}
	number, err := g.uint32()
	if err != nil {
		return err
	}
	offset, err := g.uint64()
	if err != nil {
		return err
	}
	t, known := ggmlTypes[number]
	if !known {
		return malformed(where, "ggml type %d isn't known", number)
	}
	if shape[0]%t.block != 0 {
		return malformed(where, "rows of %d elements aren't whole blocks of %d, as %s has them", shape[0], t.block, t.name)
	}
	elements, ok := product(shape)
	hi, size := bits.Mul64(elements/t.block, t.size)
	end, carry := bits.Add64(offset, size, 0)
	switch {
	case !ok || hi != 0 || carry != 0:
		return malformed(where, "the size of shape %v overflows", shape)
	case offset%g.alignment != 0:
		return malformed(where, "its data begins at %d, which isn't a multiple of %d", offset, g.alignment)
	case end > uint64(g.size):
		return malformed(where, "its data ends at %d; the file has %d bytes", end, g.size)
	}
	g.data = append(g.data, span{name, offset, end})
	g.info.Parameters += int64(elements)
	return nil
}

// shape reads the dimensions; a tensor of none is one number.
func (g *gguf) shape(where string) ([]uint64, error) {
	n, err := g.uint32()
	if err != nil {
		return nil, err
	}
	if n > maxDims {
		return nil, malformed(where, "%d dimensions; at most %d are allowed", n, maxDims)
	}
	if n == 0 {
		return []uint64{1}, nil
	}
	shape := make([]uint64, 0, n)
	for range n {
		size, err := g.uint64()
		if err != nil {
			return nil, err
		}
		shape = append(shape, size)
	}
	return shape, nil
}

// cover checks that the tensors, each padded to the alignment, fill the data
// section. The last one's padding may be missing.
func (g *gguf) cover() error {
	if len(g.data) == 0 {
		if rest := g.left(); rest >= int64(g.alignment) {
			return malformed("data", "%d bytes follow the header but there are no tensors", rest)
		}
		return nil
	}
	begin := align(uint64(g.off), g.alignment)
	if begin > uint64(g.size) {
		return malformed("data", "it would begin at byte %d of %d", begin, g.size)
	}
	end, room := uint64(0), uint64(g.size)-begin
	for _, t := range g.data.sorted() {
		if err := t.follows(align(end, g.alignment)); err != nil {
			return err
		}
		end = t.end
	}
	if room < end || room > align(end, g.alignment) {
		return malformed("data", "the tensors have %d bytes but %d follow the header", end, room)
	}
	return nil
}

// align rounds n up to a multiple of a. n is at most the size of a file, so
// that it can't overflow.
func align(n, a uint64) uint64 { return (n + a - 1) / a * a }

func short(s string) string { return strings.TrimSpace(fmt.Sprintf("%.80q", s)) }

// ggmlType is how a tensor type packs its elements: block of them in size bytes.
type ggmlType struct {
	name        string
	block, size uint64
}

// ggmlTypes are the types that ggml reads, by their number (ggml.h; sizes as in
// gguf-py, constants.py). The numbers in between belonged to types that were
// taken out of the format.
var ggmlTypes = map[uint32]ggmlType{
	0: {"F32", 1, 4}, 1: {"F16", 1, 2}, 2: {"Q4_0", 32, 18}, 3: {"Q4_1", 32, 20},
	6: {"Q5_0", 32, 22}, 7: {"Q5_1", 32, 24}, 8: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 40},
	10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, 12: {"Q4_K", 256, 144}, 13: {"Q5_K", 256, 176},
	14: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292}, 16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74},
	18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50}, 20: {"IQ4_NL", 32, 18}, 21: {"IQ3_S", 256, 110},
	22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136}, 24: {"I8", 1, 1}, 25: {"I16", 1, 2},
	26: {"I32", 1, 4}, 27: {"I64", 1, 8}, 28: {"F64", 1, 8}, 29: {"IQ1_M", 256, 56}, 30: {"BF16", 1, 2},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36}, 41: {"Q1_0", 128, 18},
}
