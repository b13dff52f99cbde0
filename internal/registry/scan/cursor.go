package scan

import (
	"encoding/binary"
	"io"
)

// bufferSize is how much a cursor reads ahead, and the most that next can give.
const bufferSize = 64 << 10

// cursor reads a file forwards through a small buffer. It never gives or skips
// more than the file holds, and says so as malformed.
type cursor struct {
	src  io.ReaderAt
	size int64
	off  int64
	buf  []byte // the bytes from base on
	base int64
}

func newCursor(f File) *cursor { return &cursor{src: f.ReaderAt, size: f.Size} }

// left is how many bytes follow.
func (c *cursor) left() int64 { return c.size - c.off }

// peek gives the next n bytes, bufferSize at most, without going on. They are
// valid until the next call.
func (c *cursor) peek(n int) ([]byte, error) {
	if int64(n) > c.left() {
		return nil, malformed(byteAt(c.off), "%d bytes are needed but only %d follow", n, c.left())
	}
	if c.off < c.base || c.off+int64(n) > c.base+int64(len(c.buf)) {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	at := c.off - c.base
	return c.buf[at : at+int64(n)], nil
}

func (c *cursor) fill() error {
	want := min(c.left(), bufferSize)
	if int64(cap(c.buf)) < want {
		c.buf = make([]byte, want)
	}
	c.buf, c.base = c.buf[:want], c.off
	n, err := c.src.ReadAt(c.buf, c.off)
	if int64(n) < want {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		c.buf = c.buf[:0]
		return unreadable(c.off+int64(n), err)
	}
	return nil
}

// next gives the next n bytes, bufferSize at most, and goes on past them.
func (c *cursor) next(n int) ([]byte, error) {
	b, err := c.peek(n)
	if err == nil {
		c.off += int64(n)
	}
	return b, err
}

// skip goes on past n bytes.
func (c *cursor) skip(n int64) error {
	if n < 0 || n > c.left() {
		return malformed(byteAt(c.off), "%d bytes are needed but only %d follow", uint64(n), c.left())
	}
	c.off += n
	return nil
}

// uint32 reads a little-endian number.
func (c *cursor) uint32() (uint32, error) {
	b, err := c.next(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// uint64 reads a little-endian number.
func (c *cursor) uint64() (uint64, error) {
	b, err := c.next(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}
