package v1

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/penstock/penstock"
)

// Upgrade is the protocol that calls which enter a task switch to, as the
// Upgrade header names it (RFC 9110, section 7.8).
const Upgrade = "penstock-stream"

// MaxFrame is the longest payload of a Frame, in bytes.
const MaxFrame = 64 << 10

// StdinWindow is how many bytes of a command's input a caller may have sent that
// the command hasn't taken yet. So the server always reads on, and sees that the
// caller left, or its terminal has another size, also when the command reads
// nothing.
const StdinWindow = 256 << 10

// Channel says what a Frame is about.
type Channel byte

// The channels. Stdin and Resize go to the server, the others come from it.
const (
	ChannelStdin  Channel = 0 // bytes; none is the end of the input
	ChannelStdout Channel = 1 // bytes
	ChannelStderr Channel = 2 // bytes
	ChannelResize Channel = 3 // a TerminalSize as JSON
	ChannelEnd    Channel = 4 // an ExecEnd as JSON; nothing comes after it
	ChannelTaken  Channel = 5 // how many more bytes of the input the command took: 4 bytes, big-endian
)

// Frame is one message of a command that runs in a task: a byte for the channel,
// four for the payload's length, big-endian, and the payload.
type Frame struct {
	Channel Channel
	Payload []byte
}

// TerminalSize is that of a caller's terminal, in characters.
type TerminalSize struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// ExecEnd is how a command ended: with an exit code, or in another way that
// Problem tells.
type ExecEnd struct {
	ExitCode int      `json:"exitCode"`
	Problem  *Problem `json:"problem,omitempty"`
}

const frameHead = 5

// WriteFrame writes one frame with one Write. TooLarge if the payload has more
// than MaxFrame bytes.
func WriteFrame(w io.Writer, f Frame) error {
	if len(f.Payload) > MaxFrame {
		return tooLong(len(f.Payload))
	}
	b := make([]byte, frameHead, frameHead+len(f.Payload))
	b[0] = byte(f.Channel)
	binary.BigEndian.PutUint32(b[1:], uint32(len(f.Payload)))
	_, err := w.Write(append(b, f.Payload...))
	return err
}

// ReadFrame reads one frame; its payload is in buf, or in a new slice
// if that is too short. io.EOF if the stream ended before it, io.ErrUnexpectedEOF
// within it, TooLarge if it says that it has more than MaxFrame bytes.
func ReadFrame(r io.Reader, buf []byte) (Frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > MaxFrame {
		return Frame{}, tooLong(int(size))
	}
	if len(buf) < int(size) {
		buf = make([]byte, size)
	}
	if _, err := io.ReadFull(r, buf[:size]); err == io.EOF {
		return Frame{}, io.ErrUnexpectedEOF
	} else if err != nil {
		return Frame{}, err
	}
	return Frame{Channel: Channel(head[0]), Payload: buf[:size]}, nil
}

func tooLong(size int) error {
	return &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("a frame of %d bytes; %d are allowed", size, MaxFrame)}
}
