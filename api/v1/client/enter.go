package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// ExecOptions say what runs beside which task, and what it is connected to. A
// nil stream is not connected.
type ExecOptions struct {
	Attempt  int // 0 is the newest
	Rank     int
	Command  []string
	In       io.Reader
	Out, Err io.Writer
	// Sizes makes the streams a terminal, of the sizes that come. Err gets nothing
	// then: a terminal has one output.
	Sizes <-chan v1.TerminalSize
}

// Exec runs a command beside a running task and gives its exit code once it has
// ended. The end of ctx ends the command. A Read of In that is under way then is
// left to itself. It needs HTTP/1.1 all the way to the server.
func (c *Client) Exec(ctx context.Context, job penstock.Ref, o ExecOptions) (int, error) {
	q := url.Values{
		"attempt": {strconv.Itoa(o.Attempt)}, "rank": {strconv.Itoa(o.Rank)}, "command": o.Command,
		"tty": {strconv.FormatBool(o.Sizes != nil)}, "stdin": {strconv.FormatBool(o.In != nil)},
	}
	stream, err := c.upgrade(ctx, call{method: http.MethodGet, path: path(job, "exec"), query: q})
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	x := &execution{stream: stream, room: v1.StdinWindow, over: make(chan struct{})}
	x.grown.L = &x.mu
	defer x.end()
	if o.In != nil {
		go x.feed(o.In)
	}
	if o.Sizes != nil {
		go x.resize(o.Sizes)
	}
	code, err := x.receive(o)
	if ctx.Err() != nil && err != nil {
		return 0, &penstock.Error{Code: penstock.Canceled, Msg: "given up", Err: context.Cause(ctx)}
	}
	return code, err
}

// execution is a command that runs, as its caller sees it.
type execution struct {
	stream io.ReadWriter
	over   chan struct{} // closed when the command has ended

	writing sync.Mutex // one frame at a time

	mu    sync.Mutex
	grown sync.Cond // room did, or ended came
	room  int       // bytes of input that may be sent
	ended bool
}

func (x *execution) send(channel v1.Channel, payload []byte) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return v1.WriteFrame(x.stream, v1.Frame{Channel: channel, Payload: payload})
}

// feed sends the input, as fast as the command takes it.
func (x *execution) feed(in io.Reader) {
	buf := make([]byte, v1.MaxFrame/2)
	for {
		n, err := in.Read(buf)
		if n > 0 && (!x.reserve(n) || x.send(v1.ChannelStdin, buf[:n]) != nil) {
			return // receive tells why
		}
		if err != nil {
			_ = x.send(v1.ChannelStdin, nil)
			return
		}
	}
}

// reserve waits until n bytes may be sent, and tells false if the command ended.
func (x *execution) reserve(n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.room < n && !x.ended {
		x.grown.Wait()
	}
	x.room -= n
	return !x.ended
}

func (x *execution) release(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.room += n
	x.grown.Broadcast()
}

func (x *execution) end() {
	close(x.over)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.grown.Broadcast()
}

func (x *execution) resize(sizes <-chan v1.TerminalSize) {
	for {
		select {
		case <-x.over:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			payload, err := json.Marshal(size)
			if err != nil || x.send(v1.ChannelResize, payload) != nil {
				return
			}
		}
	}
}

// receive hands out what the command writes, until it has ended.
func (x *execution) receive(o ExecOptions) (int, error) {
	buf := make([]byte, v1.MaxFrame)
	for {
		f, err := v1.ReadFrame(x.stream, buf)
		if err != nil {
			return 0, &penstock.Error{Code: penstock.Unavailable, Msg: "the connection broke off before the command's end was known", Err: err}
		}
		var to io.Writer
		switch f.Channel {
		case v1.ChannelStdout:
			to = o.Out
		case v1.ChannelStderr:
			to = o.Err
		case v1.ChannelTaken:
			if len(f.Payload) == 4 {
				x.release(int(binary.BigEndian.Uint32(f.Payload)))
			}
		case v1.ChannelEnd:
			return readEnd(f.Payload)
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(f.Payload); err != nil {
			return 0, fmt.Errorf("pass on what the command wrote: %w", err)
		}
	}
}

func readEnd(payload []byte) (int, error) {
	var end v1.ExecEnd
	if err := json.Unmarshal(payload, &end); err != nil {
		return 0, fmt.Errorf("decode the command's end: %w", err)
	}
	if p := end.Problem; p != nil {
		return 0, &penstock.Error{Code: p.Code, Msg: p.Detail, Where: p.Where, Hint: p.Hint}
	}
	return end.ExitCode, nil
}

// ForwardOptions say which port of which task is meant.
type ForwardOptions struct {
	Attempt int // 0 is the newest
	Rank    int
	Port    int
}

// Tunnel is a connection to a port of a task. CloseWrite ends the direction to
// the task alone.
type Tunnel interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Forward connects to a TCP port of a running task, as if from where that runs.
// The caller closes; the end of ctx does, too. It needs HTTP/1.1 all the way to
// the server.
func (c *Client) Forward(ctx context.Context, job penstock.Ref, o ForwardOptions) (Tunnel, error) {
	q := url.Values{"attempt": {strconv.Itoa(o.Attempt)}, "rank": {strconv.Itoa(o.Rank)}, "port": {strconv.Itoa(o.Port)}}
	stream, err := c.upgrade(ctx, call{method: http.MethodGet, path: path(job, "forward"), query: q})
	if err != nil {
		return nil, err
	}
	t := &tunnel{Tunnel: stream}
	t.stop = context.AfterFunc(ctx, func() { _ = stream.Close() })
	return t, nil
}

type tunnel struct {
	Tunnel
	stop func() bool
}

// Close ends both directions.
func (t *tunnel) Close() error {
	t.stop()
	return t.Tunnel.Close()
}

// upgrade makes a call that becomes a stream of bytes in both directions.
func (c *Client) upgrade(ctx context.Context, r call) (Tunnel, error) {
	r.header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {v1.Upgrade}}
	own := *c
	own.HTTP = onlyHTTP1(c.HTTP)
	resp, err := own.send(ctx, r)
	if err != nil {
		return nil, err
	}
	stream, ok := resp.Body.(Tunnel)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		_ = resp.Body.Close()
		return nil, &penstock.Error{
			Code: penstock.Unsupported, Msg: "the server answered " + resp.Status + " and didn't switch to " + v1.Upgrade,
			Hint: "a proxy before it may not pass on Upgrade, or the server is older than this client",
		}
	}
	return stream, nil
}

// onlyHTTP1 is h for one call that takes the connection over: HTTP/2 has none to
// give, and a limit on the whole call's time would end it.
func onlyHTTP1(h *http.Client) *http.Client {
	if h == nil {
		h = defaultHTTP
	}
	own := *h
	own.Timeout = 0
	inner := h.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	if t, ok := inner.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives, t.ForceAttemptHTTP2, t.TLSNextProto = true, false, nil
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		if t.TLSClientConfig != nil {
			t.TLSClientConfig.NextProtos = nil
		}
		own.Transport = t
	}
	return &own
}
