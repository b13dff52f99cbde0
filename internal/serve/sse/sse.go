// Package sse cuts a stream of server-sent events into events without changing
// a byte of it: the Raw bytes of all events, put together, are the stream.
//
// The format is the WHATWG HTML standard, section 9.2.6 "Interpreting an event
// stream": lines end in LF, CRLF or CR, and a blank line ends an event. Two
// things are taken more widely than there, since servers do them: a stream may
// end without the last blank line, and comments alone are an event of their
// own, so that keep-alives are passed on at once.
package sse

import (
	"bytes"
	"fmt"
	"io"

	"github.com/penstock/penstock"
)

// MaxEvent is how many bytes an event may have.
const MaxEvent = 1 << 20

const readSize = 16 << 10

// Event is one event. Its slices are valid until the next call of Next.
type Event struct {
	// Raw is the event as it was received, with its line ends and the blank
	// line, and with blank lines that stood before it.
	Raw []byte
	// Data is the values of the data lines, joined by LF; nil if there was none.
	Data []byte
}

// Reader reads events one by one. Where the events lie doesn't depend on how
// the bytes arrive.
type Reader struct {
	src io.Reader
	err error // what src ended with

	buf   []byte
	given int // bytes of buf that were given as the last event
	line  int // where the current line begins
	pos   int // the next byte to look at

	started bool // the first line was seen: no byte order mark follows
	lines   int  // lines of this event that aren't blank
	data    []byte
	hasData bool

	// loneCR says that a CR was seen to end a line by itself. From then on a CR
	// ends its line at once; until then the byte after it is waited for.
	loneCR bool
	// skipLF says that an LF at pos belongs to the CR before it.
	skipLF bool
}

// NewReader reads from src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Next gives the next event, and io.EOF after the last. An event of more than
// MaxEvent bytes is TooLarge; any other error is src's own, and the unfinished
// event before it is not given.
func (r *Reader) Next() (Event, error) {
	r.forget()
	for {
		if r.scan() {
			return r.give()
		}
		if len(r.buf) > MaxEvent {
			return Event{}, tooLarge()
		}
		if r.err != nil {
			return r.last()
		}
		r.fill()
	}
}

// forget drops the event that was given last.
func (r *Reader) forget() {
	r.buf = r.buf[:copy(r.buf, r.buf[r.given:])]
	r.line, r.pos, r.given = r.line-r.given, r.pos-r.given, 0
	r.lines, r.data, r.hasData = 0, r.data[:0], false
}

func (r *Reader) fill() {
	if cap(r.buf)-len(r.buf) < readSize {
		r.buf = append(make([]byte, 0, 2*cap(r.buf)+readSize), r.buf...)
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.err = err
}

// scan looks at the bytes that are there, and reports whether they end an event.
func (r *Reader) scan() bool {
	for r.pos < len(r.buf) {
		if r.skipLF {
			r.skipLF = false
			if r.buf[r.pos] == '\n' {
				r.pos++
				r.line = r.pos
				continue
			}
		}
		at := bytes.IndexAny(r.buf[r.pos:], "\r\n")
		if at < 0 {
			r.pos = len(r.buf)
			return false
		}
		r.pos += at
		length := r.terminator()
		if length == 0 {
			return false
		}
		text := r.buf[r.line:r.pos]
		r.pos += length
		r.line = r.pos
		if r.take(text) {
			return true
		}
	}
	return false
}

// terminator is the length of the line end at pos, or 0 if it isn't known yet.
func (r *Reader) terminator() int {
	if r.buf[r.pos] == '\n' {
		return 1
	}
	switch {
	case r.loneCR:
		r.skipLF = true
		return 1
	case r.pos+1 < len(r.buf):
		if r.buf[r.pos+1] == '\n' {
			return 2
		}
		r.loneCR = true
		return 1
	case r.err == io.EOF:
		return 1
	}
	return 0
}

// take notes one line and reports whether it ends an event.
func (r *Reader) take(line []byte) bool {
	if !r.started {
		r.started = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) == 0 {
		return r.lines > 0
	}
	r.lines++
	name, value, _ := bytes.Cut(line, []byte(":"))
	if string(name) != "data" {
		return false
	}
	if r.hasData {
		r.data = append(r.data, '\n')
	}
	r.hasData = true
	r.data = append(r.data, bytes.TrimPrefix(value, []byte(" "))...)
	return false
}

// give makes an event of the bytes before pos.
func (r *Reader) give() (Event, error) {
	if r.pos > MaxEvent {
		return Event{}, tooLarge()
	}
	r.given = r.pos
	e := Event{Raw: r.buf[:r.pos]}
	if r.hasData {
		e.Data = r.data
		if e.Data == nil {
			e.Data = []byte{}
		}
	}
	return e, nil
}

// last gives what stands before the end of the stream, blank line or not.
func (r *Reader) last() (Event, error) {
	if r.err != io.EOF || len(r.buf) == 0 {
		return Event{}, r.err
	}
	if r.line < len(r.buf) {
		r.take(r.buf[r.line:])
	}
	r.pos, r.line = len(r.buf), len(r.buf)
	return r.give()
}

func tooLarge() error {
	return &penstock.Error{
		Code: penstock.TooLarge, Msg: fmt.Sprintf("an event of the stream has more than %d bytes", MaxEvent),
	}
}
