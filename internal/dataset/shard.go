package dataset

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The tokens of the tokeniser "bytes". 0 is left for the unknown token, as the
// vocabularies of Llama have it: <unk>, <s>, </s>, then the 256 bytes.
const (
	tokenBegin = 1
	tokenEnd   = 2
	tokenByte  = 3 // token of the byte 0
)

// format is how a document is packed.
type format struct {
	extension string
	cut       bool // a document longer than a shard may go on in the next one
	// pack appends a document to b.
	pack func(b *bytes.Buffer, name string, text []byte)
	// tokens is how many tokens a document of n bytes has.
	tokens func(n int) int64
}

var formats = map[string]format{
	"tokens-u16": {extension: ".bin", cut: true, pack: packTokens, tokens: func(n int) int64 { return int64(n) + 2 }},
	"jsonl":      {extension: ".jsonl", pack: packLine, tokens: func(int) int64 { return 0 }},
}

func packTokens(b *bytes.Buffer, _ string, text []byte) {
	b.Grow(2 * (len(text) + 2))
	out := binary.LittleEndian.AppendUint16(b.AvailableBuffer(), tokenBegin)
	for _, c := range text {
		out = binary.LittleEndian.AppendUint16(out, uint16(c)+tokenByte)
	}
	b.Write(binary.LittleEndian.AppendUint16(out, tokenEnd))
}

func packLine(b *bytes.Buffer, name string, text []byte) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(struct { // two strings always encode
		Path string `json:"path"`
		Text string `json:"text"`
	}{name, string(text)})
}

// shards writes one split as files <split>-00000.bin and so on. A shard begins
// with a document, except where the one before was too long for its shard.
type shards struct {
	out       *os.Root
	split     string
	extension string
	limit     int64 // bytes of a shard

	file *os.File
	to   *bufio.Writer
	hash hash.Hash
	size int64 // of the shard that is being written
	done v1.SplitFiles
}

// add appends one packed document.
func (s *shards) add(packed []byte) error {
	if s.size > 0 && s.size+int64(len(packed)) > s.limit {
		if err := s.finish(); err != nil {
			return err
		}
	}
	for len(packed) > 0 {
		n := min(int64(len(packed)), s.limit-s.size)
		if n == 0 {
			if err := s.finish(); err != nil {
				return err
			}
			continue
		}
		if err := s.write(packed[:n]); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}

func (s *shards) name() string {
	return fmt.Sprintf("%s-%05d%s", s.split, len(s.done.Shards), s.extension)
}

// temporary is what a file is called until it is whole.
const temporary = ".tmp"

func (s *shards) write(b []byte) error {
	if s.file == nil {
		f, err := s.out.OpenFile(s.name()+temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return unwritable(s.name(), err)
		}
		s.file, s.hash = f, sha256.New()
		s.to = bufio.NewWriterSize(io.MultiWriter(f, s.hash), 1<<18)
	}
	n, err := s.to.Write(b)
	s.size += int64(n)
	if err != nil {
		return unwritable(s.name(), err)
	}
	return nil
}

// finish gives the shard its name. Without a shard it does nothing.
func (s *shards) finish() error {
	if s.file == nil {
		return nil
	}
	f, name := s.file, s.name()
	s.file = nil
	err := s.to.Flush()
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.out.Rename(name+temporary, name)
	}
	if err != nil {
		return unwritable(name, err)
	}
	s.done.Shards = append(s.done.Shards, v1.File{Path: name, Size: s.size, Digest: penstock.DigestOf(s.hash.Sum(nil))})
	s.size = 0
	return nil
}

// abandon closes a shard that will never be whole.
func (s *shards) abandon() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func unwritable(name string, err error) error {
	return &penstock.Error{Code: penstock.Unavailable, Where: name, Msg: "the file can't be written", Err: err, Hint: "look whether there is room on the disk of the outputs"}
}
