package httpapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// maxArgs is how much of a command's arguments is in the audit log, in bytes.
const maxArgs = 380

// command is what shall run beside a task.
type command struct {
	args       []string
	tty, stdin bool
}

// exec runs a command beside a task, over frames: see v1.Frame.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	t, err := s.targetOf(r)
	var c command
	if err == nil {
		c, err = readCommand(r.URL.Query())
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.visit(w, r, t, c.String(), func(v *visit) error { return v.run(c) })
}

func readCommand(q url.Values) (command, error) {
	c := command{args: q["command"]}
	if len(c.args) == 0 || c.args[0] == "" {
		return c, invalid("command", "give it once for each argument", "there is no command")
	}
	for name, to := range map[string]*bool{"tty": &c.tty, "stdin": &c.stdin} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		var err error
		if *to, err = strconv.ParseBool(text); err != nil {
			return c, invalid(name, "", "%.40q is neither true nor false", text)
		}
	}
	return c, nil
}

// String is the command for the audit log: quoted, and not longer than that
// takes.
func (c command) String() string {
	text := fmt.Sprintf("command %q", c.args)
	if len(text) > maxArgs {
		text = strings.ToValidUTF8(text[:maxArgs], "") + fmt.Sprintf("… (%d bytes)", len(text))
	}
	return text
}

// run runs the command and tells the caller how it ended.
func (v *visit) run(c command) error {
	caller, err := v.open()
	if err != nil {
		return err
	}
	defer caller.Close()
	defer context.AfterFunc(v.ctx, caller.hurry)()
	x := &execution{caller: caller}
	streams := run.Streams{Out: output{x, v1.ChannelStdout}}
	if c.stdin {
		x.in = newInput(x.taken)
		streams.In = x.in
	}
	if c.tty {
		x.sizes = make(chan run.Size, 1)
		streams.Sizes = x.sizes
	} else {
		streams.Err = output{x, v1.ChannelStderr}
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		v.end(x.receive())
	}()
	err = v.entrant.Exec(v.ctx, v.attempt.Metadata.UID, v.rank, c.args, streams)
	x.in.close()
	err = v.tell(x, err)
	// What the caller still sends is read until it has the end: a connection that
	// is closed before would be reset, and the end be lost.
	_ = caller.CloseWrite()
	select {
	case <-received:
	case <-time.After(visitEnd):
	}
	_ = caller.Close()
	<-received
	return err
}

// tell sends the command's end to the caller, who may be gone.
func (v *visit) tell(x *execution, err error) error {
	end, exit := v1.ExecEnd{}, run.Exit(0)
	switch {
	case err == nil:
	case errors.As(err, &exit):
		end.ExitCode = int(exit)
	default:
		if v.ctx.Err() != nil {
			err = v.why()
		}
		f := v.s.failure(err)
		end.Problem, err = &f.Problem, f
	}
	if payload, bad := json.Marshal(end); bad == nil {
		_ = x.send(v1.ChannelEnd, payload)
	}
	return err
}

// execution is a command that runs, with its caller at the other end.
type execution struct {
	caller *caller
	in     *input        // nil: none
	sizes  chan run.Size // nil: no terminal

	mu sync.Mutex // one frame at a time
}

func (x *execution) send(channel v1.Channel, payload []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return v1.WriteFrame(x.caller, v1.Frame{Channel: channel, Payload: payload})
}

// taken tells the caller how much of the input has found its reader.
func (x *execution) taken(n int) {
	_ = x.send(v1.ChannelTaken, binary.BigEndian.AppendUint32(nil, uint32(n))) // receive sees that the caller is gone
}

// output is one of the command's.
type output struct {
	x       *execution
	channel v1.Channel
}

// Write sends all of it, in as many frames as that takes.
func (o output) Write(p []byte) (int, error) {
	for part := range slices.Chunk(p, v1.MaxFrame) {
		if err := o.x.send(o.channel, part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// receive takes the caller's frames, and says why there are no more.
func (x *execution) receive() error {
	buf := make([]byte, v1.MaxFrame)
	for {
		f, err := v1.ReadFrame(x.caller, buf)
		if err == nil {
			err = x.accept(f)
		}
		if known := (*penstock.Error)(nil); err != nil && !errors.As(err, &known) {
			err = errLeft(err)
		}
		if err != nil {
			return err
		}
	}
}

func (x *execution) accept(f v1.Frame) error {
	switch {
	case f.Channel == v1.ChannelStdin && x.in != nil:
		return x.in.add(f.Payload)
	case f.Channel == v1.ChannelResize && x.sizes != nil:
		var size v1.TerminalSize
		if err := json.Unmarshal(f.Payload, &size); err != nil {
			return invalid("frame", "", "this is not the size of a terminal: %.80q", f.Payload)
		}
		select { // only the newest counts
		case <-x.sizes:
		default:
		}
		x.sizes <- run.Size(size)
		return nil
	}
	return invalid("frame", "", "a frame of channel %d has no place in this call", f.Channel)
}

// input is what the caller sent and the command hasn't read: StdinWindow bytes
// at most.
type input struct {
	taken func(n int)

	mu    sync.Mutex
	more  sync.Cond // something came, or the end
	buf   bytes.Buffer
	ended bool // no more comes
}

func newInput(taken func(int)) *input {
	i := &input{taken: taken}
	i.more.L = &i.mu
	return i
}

// Read waits for what comes.
func (i *input) Read(p []byte) (int, error) {
	n := i.take(p)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	i.taken(n)
	return n, nil
}

func (i *input) take(p []byte) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	for i.buf.Len() == 0 && !i.ended && len(p) > 0 {
		i.more.Wait()
	}
	n, _ := i.buf.Read(p) // its error is that it is empty
	return n
}

// add takes what came; nothing is the end.
func (i *input) add(b []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended || len(b) == 0 {
		i.ended = true
		i.more.Broadcast()
		return nil
	}
	if n := i.buf.Len() + len(b); n > v1.StdinWindow {
		return &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("%d bytes of input wait for the command; %d may", n, v1.StdinWindow)}
	}
	i.buf.Write(b)
	i.more.Broadcast()
	return nil
}

// close lets go of who reads.
func (i *input) close() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.buf.Reset()
	i.more.Broadcast()
}
