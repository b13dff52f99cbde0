package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// forward connects the caller to a port of a task: bytes in both directions.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	t, err := s.targetOf(r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	text := r.URL.Query().Get("port")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		s.refuse(w, invalid("port", "ports are 1 to 65535", "%.40q is not a port", text))
		return
	}
	s.visit(w, r, t, fmt.Sprintf("port %d", port), func(v *visit) error { return v.tunnel(int(port)) })
}

// tunnel carries bytes between the caller and the port until both directions
// have ended. One that breaks is broken for the caller, too: it gets a reset
// where there would be an end.
func (v *visit) tunnel(port int) error {
	far, err := v.dial(port)
	if err != nil {
		return err
	}
	defer far.Close()
	near, err := v.open()
	if err != nil {
		return err
	}
	defer near.Close()
	back := make(chan struct{})
	stop := context.AfterFunc(v.ctx, func() {
		near.abort()
		_ = far.Close()
	})
	defer stop()
	go func() {
		defer close(back)
		_, err := io.Copy(near, far)
		if err == nil {
			v.idle.Store(int64(visitLinger)) // who has been told all of it should go
			err = near.CloseWrite()
		}
		v.broke(port, err)
	}()
	_, err = io.Copy(far, near)
	if err == nil {
		err = v.pass(far)
	}
	v.broke(port, err)
	<-back
	if v.ctx.Err() != nil {
		return v.why()
	}
	return nil
}

// pass tells the far end that the caller sends no more. One that can't be told
// has visitLinger to say the rest.
func (v *visit) pass(far io.Closer) error {
	if half, ok := far.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	v.idle.Store(int64(visitLinger))
	return nil
}

// broke ends the visit for an error of either end.
func (v *visit) broke(port int, err error) {
	if known := (*penstock.Error)(nil); err != nil && !errors.As(err, &known) {
		err = &penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("the connection to port %d broke off", port), Err: err}
	}
	if err != nil {
		v.end(err)
	}
}

func (v *visit) dial(port int) (io.ReadWriteCloser, error) {
	late := time.AfterFunc(visitDial, func() {
		v.end(&penstock.Error{Code: penstock.Unavailable, Msg: fmt.Sprintf("port %d didn't answer within %s", port, visitDial)})
	})
	defer late.Stop()
	far, err := v.entrant.Dial(v.ctx, v.attempt.Metadata.UID, v.rank, port)
	if err != nil && v.ctx.Err() != nil {
		return nil, v.why()
	}
	return far, err
}

// caller is the caller's end of a visit, once HTTP has left it.
type caller struct {
	net.Conn
	v    *visit
	from io.Reader
	mu   sync.Mutex // of the deadline
}

// open switches protocols.
func (v *visit) open() (*caller, error) {
	v.w.Header().Set("Connection", "Upgrade")
	v.w.Header().Set("Upgrade", v1.Upgrade)
	v.switched = true
	v.w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buf, err := http.NewResponseController(v.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	early, err := buf.Reader.Peek(buf.Reader.Buffered())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over what came early: %w", err), conn.Close())
	}
	// Not from buf: an end that is read there ends the request's context, too.
	return &caller{Conn: conn, v: v, from: io.MultiReader(bytes.NewReader(early), conn)}, nil
}

// Read reads; an error but io.EOF is that the caller left.
func (c *caller) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if n > 0 {
		c.v.touch()
	}
	if err != nil && err != io.EOF {
		err = errLeft(err)
	}
	return n, err
}

// Write writes within visitWrite, or within visitEnd once the visit is over.
func (c *caller) Write(p []byte) (int, error) {
	c.mu.Lock()
	within := visitWrite
	if c.v.ctx.Err() != nil {
		within = visitEnd
	}
	err := c.SetWriteDeadline(time.Now().Add(within))
	c.mu.Unlock()
	if err != nil {
		return 0, errLeft(err)
	}
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.v.touch()
	}
	if err != nil {
		err = errLeft(err)
	}
	return n, err
}

// hurry gives a write that is under way visitEnd.
func (c *caller) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(visitEnd)) // it is closed, then
}

// CloseWrite says that no more comes.
func (c *caller) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := half.CloseWrite(); err != nil {
		return errLeft(err)
	}
	return nil
}

// abort closes so that the caller can't take it for an end.
func (c *caller) abort() {
	conn := c.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close() // there is nothing left to save
}
