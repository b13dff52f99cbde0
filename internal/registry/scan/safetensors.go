package scan

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of a safetensors header: the first is the reference parser's, the
// others are ours.
const (
	maxHeader      = 100_000_000
	maxTensors     = 1_000_000
	maxTensorEntry = 4096 // bytes of JSON for one tensor
)

// dtypeBits is the size of one element, in bits, of each dtype of the reference
// implementation (safetensors 0.6, tensor.rs).
var dtypeBits = map[string]uint64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"I16": 16, "U16": 16, "F16": 16, "BF16": 16,
	"I32": 32, "U32": 32, "F32": 32,
	"I64": 64, "U64": 64, "F64": 64, "C64": 64,
}

// SafetensorsInfo checks all structure of a safetensors file and tells what it
// holds. Its rules are those of the reference parser (safetensors, tensor.rs)
// and what its README demands but the parser lets pass: a header of at most
// 100,000,000 bytes that starts with '{' and is padded with spaces only; no
// member twice; known dtypes; shapes whose size doesn't overflow and is exactly
// that of the data; data that covers the rest of the file without gap, overlap
// or rest. An Error with code Invalid means that the bytes break a rule.
func SafetensorsInfo(r io.ReaderAt, size int64) (Info, error) {
	c := newCursor(File{ReaderAt: r, Size: size})
	n, err := c.uint64()
	if err != nil {
		return Info{}, err
	}
	switch {
	case n > maxHeader:
		return Info{}, malformed(byteAt(0), "the header would have %d bytes; at most %d are allowed", n, maxHeader)
	case int64(n) > c.left():
		return Info{}, malformed(byteAt(0), "the header would have %d bytes but only %d follow", n, c.left())
	}
	if b, err := c.peek(min(1, int(n))); err != nil {
		return Info{}, err
	} else if string(b) != "{" {
		return Info{}, malformed(byteAt(8), "the header doesn't start with '{'")
	}
	source := &sectionReader{SectionReader: io.NewSectionReader(r, 8, int64(n))}
	h := header{in: jsontext.NewDecoder(bufio.NewReaderSize(source, int(min(n, bufferSize))))}
	if err := h.read(); err != nil {
		return Info{}, headerError(err, source.failed)
	}
	if err := padding(c, int64(n)-h.in.InputOffset(), h.in.InputOffset()); err != nil {
		return Info{}, err
	}
	if err := h.tensors.cover(size - 8 - int64(n)); err != nil {
		return Info{}, err
	}
	return Info{Format: string(formatSafetensors), Tensors: len(h.tensors), Parameters: h.parameters}, nil
}

// sectionReader remembers a failure of the file, which the JSON decoder would
// else report as its own.
type sectionReader struct {
	*io.SectionReader
	failed error
}

func (s *sectionReader) Read(b []byte) (int, error) {
	n, err := s.SectionReader.Read(b)
	if err != nil && (!errors.Is(err, io.EOF) || s.missing() > 0) {
		s.failed = err
	}
	return n, err
}

// missing is how many bytes of the section weren't read.
func (s *sectionReader) missing() int64 {
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return s.Size()
	}
	return s.Size() - at
}

func headerError(err, failed error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case failed != nil:
		return unreadable(8, failed)
	case errors.As(err, &syntax):
		return malformed(byteAt(8+syntax.ByteOffset), "the header isn't JSON as the format wants it: %.80q", syntax.Err)
	}
	return err
}

// padding checks the n bytes of the header that follow its JSON.
func padding(c *cursor, n, from int64) error {
	if err := c.skip(from); err != nil {
		return err
	}
	for n > 0 {
		b, err := c.next(int(min(n, bufferSize)))
		if err != nil {
			return err
		}
		if i := bytes.IndexFunc(b, func(r rune) bool { return r != ' ' }); i >= 0 {
			return malformed(byteAt(c.off-int64(len(b)-i)), "the header is padded with %#02x; only spaces are allowed", b[i])
		}
		n -= int64(len(b))
	}
	return nil
}

// header reads the JSON of a header. The decoder refuses a member that comes
// twice, at every depth.
type header struct {
	in         *jsontext.Decoder
	tensors    spans
	parameters int64
}

func (h *header) read() error {
	if _, err := h.in.ReadToken(); err != nil {
		return err
	}
	for h.in.PeekKind() == '"' {
		token, err := h.in.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if name == "__metadata__" {
			err = h.metadata()
		} else {
			err = h.tensor(name)
		}
		if err != nil {
			return err
		}
	}
	_, err := h.in.ReadToken()
	return err
}

// metadata checks that it is an object of strings.
func (h *header) metadata() error {
	for i := 0; ; i++ {
		want := jsontext.Kind('"')
		if i == 0 {
			want = '{'
		}
		token, err := h.in.ReadToken()
		switch {
		case err != nil:
			return err
		case token.Kind() == '}' && i%2 == 1:
			return nil
		case token.Kind() != want:
			return malformed("__metadata__", "it holds %s; only strings are allowed", token.Kind())
		}
	}
}

func (h *header) tensor(name string) error {
	where := fmt.Sprintf("tensor %.80q", name)
	if len(h.tensors) == maxTensors {
		return malformed(where, "there are more than %d tensors", maxTensors)
	}
	raw, err := h.in.ReadValue()
	if err != nil {
		return err
	}
	if len(raw) > maxTensorEntry {
		return malformed(where, "its entry has %d bytes; at most %d are allowed", len(raw), maxTensorEntry)
	}
	var entry struct {
		Dtype   string   `json:"dtype"`
		Shape   []uint64 `json:"shape"`
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw, &entry, json.RejectUnknownMembers(true)); err != nil {
		return malformed(where, "its entry isn't {dtype, shape, data_offsets} of a string, sizes and two offsets")
	}
	width, known := dtypeBits[entry.Dtype]
	switch {
	case !known:
		return malformed(where, "unknown dtype %.20q", entry.Dtype)
	case entry.Shape == nil || len(entry.Offsets) != 2:
		return malformed(where, "it needs a shape and two data_offsets")
	case entry.Offsets[1] < entry.Offsets[0]:
		return malformed(where, "its data ends at %d, before it begins at %d", entry.Offsets[1], entry.Offsets[0])
	}
	elements, ok := product(entry.Shape)
	hi, total := bits.Mul64(elements, width)
	if !ok || hi != 0 {
		return malformed(where, "the size of shape %v overflows", entry.Shape)
	}
	if have := entry.Offsets[1] - entry.Offsets[0]; total%8 != 0 || total/8 != have {
		return malformed(where, "%s%v has %d bits of data but %d bytes are given", entry.Dtype, entry.Shape, total, have)
	}
	h.tensors = append(h.tensors, span{name, entry.Offsets[0], entry.Offsets[1]})
	h.parameters += int64(elements)
	return nil
}

// product multiplies the sizes, or reports that the product is beyond 63 bits.
// A size of 0 doesn't excuse the others: a parser that multiplies from the left
// has overflowed before it sees the 0.
func product(shape []uint64) (uint64, bool) {
	p, all := uint64(1), uint64(1)
	for _, n := range shape {
		hi, lo := bits.Mul64(all, max(n, 1))
		if hi != 0 || lo>>63 != 0 {
			return 0, false
		}
		all = lo
		p *= n
	}
	return p, true
}
