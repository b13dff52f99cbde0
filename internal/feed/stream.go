package feed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// tokenBytes is the size of a token in a shard and on the wire.
const tokenBytes = 2

// stream is the bytes of all shards, one after the other.
type stream struct {
	shards []shard
	size   int64
}

type shard struct {
	name string
	file *os.File
	end  int64 // in the stream
}

// openStream opens the shards of a staged dataset in dir. They stay open: an
// os.File closes itself when nothing refers to it any more.
func openStream(dir string, data v1.Staged) (*stream, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Where: data.Name, Msg: "the staged data can't be opened", Err: err}
	}
	defer root.Close()
	s := &stream{}
	for _, f := range data.Files {
		if err := s.open(root, f); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *stream) open(root *os.Root, f v1.File) error {
	if f.Size%tokenBytes != 0 {
		return &penstock.Error{
			Code: penstock.Unsupported, Where: f.Path, Msg: fmt.Sprintf("a shard of %d bytes holds no whole tokens of %d bytes", f.Size, tokenBytes),
			Hint: "a feed needs a dataset of the format tokens-u16",
		}
	}
	file, err := root.Open(f.Path)
	if err != nil {
		return &penstock.Error{Code: penstock.Unavailable, Where: f.Path, Msg: "the shard can't be opened", Err: err}
	}
	s.size += f.Size
	s.shards = append(s.shards, shard{f.Path, file, s.size})
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
		return &penstock.Error{Code: penstock.Corrupt, Where: f.Path, Msg: fmt.Sprintf("the shard is not a file of %d bytes", f.Size), Err: err}
	}
	return nil
}

// close gives the files back, for who can't wait until they are forgotten.
func (s *stream) close() (err error) {
	for _, sh := range s.shards {
		err = errors.Join(err, sh.file.Close())
	}
	return err
}

// readAt fills b with what stands in the stream from offset on.
func (s *stream) readAt(b []byte, offset int64) error {
	i := sort.Search(len(s.shards), func(i int) bool { return s.shards[i].end > offset })
	for len(b) > 0 {
		sh := s.shards[i]
		start := int64(0)
		if i > 0 {
			start = s.shards[i-1].end
		}
		n := min(int64(len(b)), sh.end-offset)
		if _, err := sh.file.ReadAt(b[:n], offset-start); err != nil {
			if err == io.EOF {
				err = nil // it says no more than the message
			}
			return &penstock.Error{Code: penstock.Corrupt, Where: sh.name, Msg: fmt.Sprintf("the shard has no %d bytes from %d on any more", n, offset-start), Err: err}
		}
		b, offset, i = b[n:], offset+n, i+1
	}
	return nil
}
