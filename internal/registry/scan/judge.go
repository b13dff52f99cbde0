package scan

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// format is what the first bytes of a file say that it is.
type format string

const (
	formatText        format = "text"
	formatSafetensors format = "safetensors"
	formatGGUF        format = "gguf"
	formatZip         format = "zip archive"
	formatUnknown     format = "unknown"
)

// refused are formats that are recognised only to be refused with a proper name.
var refused = []struct{ magic, name string }{
	{"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes it, can hold code"},
	{"\x7fELF", "an ELF program or library"},
	{"MZ", "a Windows program or library"},
	{"\xcf\xfa\xed\xfe", "a macOS program or library"},
	{"\xca\xfe\xba\xbe", "a macOS program or a Java class"},
	{"\x1f\x8b", "a gzip archive, whose content isn't looked into"},
	{"#!", "a script"},
}

// headSize is how many first bytes tell the format.
const headSize = 16

// judge is the verdict on one file.
func judge(f File) judgement {
	head, err := newCursor(f).next(int(min(headSize, f.Size)))
	if err != nil {
		return judgementOf(err)
	}
	head = bytes.Clone(head)
	p, err := probe(f)
	switch {
	case err != nil:
		return judgementOf(err)
	case p.danger != "":
		return judgement{Malicious, "a pickle that imports " + p.danger}
	}
	switch kind := formatOf(f.Path, head); kind {
	case formatSafetensors, formatGGUF:
		return judgeWeights(f, kind, p)
	case formatZip:
		return judgeZip(f)
	case formatText:
		return judgeText(f, p)
	}
	if p.is {
		return judgement{Inconclusive, pickleRefused(p)}
	}
	for _, r := range refused {
		if bytes.HasPrefix(head, []byte(r.magic)) {
			return judgement{Inconclusive, "refused: " + r.name}
		}
	}
	if path.Ext(f.Path) == ".onnx" {
		return judgement{Inconclusive, "ONNX isn't supported: it can point to files outside the model"}
	}
	return judgement{Inconclusive, fmt.Sprintf("not a format that %s knows: it starts with % x", Ruleset, head)}
}

// formatOf decides by the bytes. An extension can't make a file better: it only
// holds a file of no other known binary format to the format that it promises.
func formatOf(name string, head []byte) format {
	printable := func(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsFunc(b, control) }
	switch {
	case bytes.HasPrefix(head, []byte("GGUF")) && len(head) >= 8 && !printable(head[4:8]):
		return formatGGUF
	case len(head) >= 9 && head[8] == '{' && !printable(head[:8]):
		return formatSafetensors
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return formatZip
	case protocolHeader(head):
		return formatUnknown
	}
	for _, r := range refused {
		if bytes.HasPrefix(head, []byte(r.magic)) && !(r.magic == "MZ" && printable(head)) {
			return formatUnknown
		}
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".safetensors":
		return formatSafetensors
	case ".gguf":
		return formatGGUF
	}
	if textStart(head) {
		return formatText
	}
	return formatUnknown
}

// judgeWeights holds a file to its format, and refuses one that is something
// else as well: who loads it as that other thing runs what it holds.
func judgeWeights(f File, kind format, p pickle) judgement {
	var err error
	if kind == formatGGUF {
		_, err = GGUFInfo(f, f.Size)
	} else {
		_, err = SafetensorsInfo(f, f.Size)
	}
	switch j := judgementOf(err); {
	case err != nil && p.is:
		return judgement{Inconclusive, pickleRefused(p) + "; its name promises " + string(kind)}
	case err != nil:
		return j
	case len(p.imports) > 0 && p.is:
		return judgement{Inconclusive, "valid " + string(kind) + " that is a pickle as well: " + pickleRefused(p)}
	}
	zipped, err := endsAsZip(f)
	switch {
	case err != nil:
		return judgementOf(err)
	case zipped:
		return judgement{Inconclusive, "valid " + string(kind) + " that ends as a zip archive"}
	}
	return judgement{verdict: Clean}
}

// maxText bounds a text file: the largest tokenizer.json files in use have
// about 35 MB.
const maxText = 64 << 20

// judgeText accepts valid UTF-8 without control characters.
func judgeText(f File, p pickle) judgement {
	switch {
	case p.is:
		return judgement{Inconclusive, pickleRefused(p)}
	case f.Size > maxText:
		return judgement{Inconclusive, fmt.Sprintf("text of %d bytes; at most %d are looked at", f.Size, maxText)}
	}
	c := newCursor(f)
	for c.left() > 0 {
		chunk, err := c.peek(int(min(c.left(), bufferSize)))
		if err != nil {
			return judgementOf(err)
		}
		whole := wholeRunes(chunk)
		if i := bytes.IndexFunc(whole, notText); i >= 0 || len(whole) == 0 {
			return judgement{Inconclusive, fmt.Sprintf("neither text nor a known format: byte %d isn't UTF-8 text", c.off+int64(max(i, 0)))}
		}
		if err := c.skip(int64(len(whole))); err != nil {
			return judgementOf(err)
		}
	}
	return judgement{verdict: Clean}
}

// textStart reports whether b, cut anywhere, may be the start of a text.
func textStart(b []byte) bool {
	return !bytes.ContainsFunc(wholeRunes(b), notText) && (len(b) == 0 || len(wholeRunes(b)) > 0)
}

// wholeRunes is b without a rune that was cut off at its end.
func wholeRunes(b []byte) []byte {
	for cut := 1; cut < utf8.UTFMax && cut <= len(b); cut++ {
		if tail := b[len(b)-cut:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-cut]
			}
			break
		}
	}
	return b
}

// notText also refuses U+FFFD, which is what invalid bytes decode to: a text
// that holds it was already damaged.
func notText(r rune) bool { return r == utf8.RuneError || control(r) }

func control(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' || r == 0x7f
}
