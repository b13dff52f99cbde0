package scan_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/penstock/penstock/internal/registry/scan"
)

// le writes numbers as both formats do.
func le(numbers ...any) []byte {
	var b bytes.Buffer
	for _, n := range numbers {
		if s, ok := n.(string); ok {
			b.WriteString(s)
			continue
		}
		if err := binary.Write(&b, binary.LittleEndian, n); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// tensors is a safetensors file of a header and n bytes of data.
func tensors(header string, n int) []byte {
	return le(uint64(len(header)), header, make([]byte, n))
}

// text is a GGUF string.
func text(s string) []byte { return le(uint64(len(s)), s) }

// gguf is a GGUF file from its parts. Its zero value with Tensors is valid.
type gguf struct {
	Version       uint32
	NTensors, NKV *uint64
	KV            [][]byte
	Tensors       [][]byte
	Align         uint64
	Data          int
}

func (g gguf) bytes() []byte {
	version, nt, nkv, align := g.Version, uint64(len(g.Tensors)), uint64(len(g.KV)), g.Align
	if version == 0 {
		version = 3
	}
	if align == 0 {
		align = 32
	}
	if g.NTensors != nil {
		nt = *g.NTensors
	}
	if g.NKV != nil {
		nkv = *g.NKV
	}
	b := le("GGUF", version, nt, nkv)
	for _, part := range append(append([][]byte{}, g.KV...), g.Tensors...) {
		b = append(b, part...)
	}
	for uint64(len(b))%align != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, g.Data)...)
}

// tensor is the entry of one tensor.
func tensor(name string, kind uint32, offset uint64, shape ...uint64) []byte {
	return append(text(name), le(uint32(len(shape)), shape, kind, offset)...)
}

func kvString(key, value string) []byte {
	return append(append(text(key), le(uint32(8))...), text(value)...)
}
func kvUint32(key string, n uint32) []byte {
	return append(text(key), le(uint32(4), n)...)
}

func tinyGGUF() gguf {
	return gguf{
		KV:      [][]byte{kvString("general.architecture", "llama"), append(text("tokenizer.ggml.tokens"), le(uint32(9), uint32(8), uint64(2), text("a"), text("b"))...)},
		Tensors: [][]byte{tensor("a", 0, 0, 4, 2), tensor("b", 2, 32, 32, 3)},
		Data:    32 + 64,
	}
}

const tinySafetensors = `{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]}}`

// short is a short text of a pickle of protocol 4.
func short(s string) string { return string(le(byte(0x8c), byte(len(s)), s)) }

// zipOf writes a zip file of stored members, whose flags and check sums the
// caller can spoil.
func zipOf(t *testing.T, spoil func(*zip.FileHeader), members ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m[0], Method: zip.Store, CRC32: crc32.ChecksumIEEE([]byte(m[1]))}
		h.CompressedSize64, h.UncompressedSize64 = uint64(len(m[1])), uint64(len(m[1]))
		if spoil != nil {
			spoil(h)
		}
		f, err := w.CreateRaw(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string, content []byte) scan.File {
	return scan.File{Path: name, Size: int64(len(content)), ReaderAt: bytes.NewReader(content)}
}
