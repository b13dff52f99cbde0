package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/run"
)

var _ run.Entrant = (*Executor)(nil)

// Exec implements run.Entrant.
func (e *Executor) Exec(ctx context.Context, uid penstock.UID, rank int, command []string, s run.Streams) error {
	pod, err := e.entered(ctx, uid, rank)
	if err != nil {
		return err
	}
	return e.exec(ctx, pod, command, s)
}

// entered is the pod of a task that runs.
func (e *Executor) entered(ctx context.Context, uid penstock.UID, rank int) (*corev1.Pod, error) {
	pod, err := e.pod(ctx, uid, rank)
	if err != nil {
		return nil, err
	}
	if o := podState(pod); o.State != run.Running {
		return nil, &penstock.Error{Code: penstock.Conflict, Msg: fmt.Sprintf("rank %d of attempt %s is %s: %s", rank, uid, o.State, o.Detail)}
	}
	return pod, nil
}

func (e *Executor) exec(ctx context.Context, pod *corev1.Pod, command []string, s run.Streams) error {
	tty := s.Sizes != nil
	url := e.client.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: taskContainer, Command: command, Stdin: s.In != nil, Stdout: s.Out != nil, Stderr: s.Err != nil && !tty, TTY: tty,
		}, scheme.ParameterCodec).URL()
	session, err := remotecommand.NewWebSocketExecutor(e.config, http.MethodGet, url.String())
	if err != nil {
		return fmt.Errorf("enter pod %s: %w", pod.Name, err)
	}
	o := remotecommand.StreamOptions{Stdin: s.In, Stdout: s.Out, Tty: tty}
	if tty {
		o.TerminalSizeQueue = sizes{ctx, s.Sizes}
	} else {
		o.Stderr = s.Err
	}
	err = session.StreamWithContext(ctx, o)
	var exit exec.CodeExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return run.Exit(exit.Code)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return told("run a command in pod "+pod.Name, err)
}

// sizes hands on the sizes of a terminal until there are no more.
type sizes struct {
	ctx context.Context
	all <-chan run.Size
}

// Next implements remotecommand.TerminalSizeQueue.
func (s sizes) Next() *remotecommand.TerminalSize {
	select {
	case size, ok := <-s.all:
		if ok {
			return &remotecommand.TerminalSize{Width: size.Columns, Height: size.Rows}
		}
	case <-s.ctx.Done():
	}
	return nil
}

// Dial implements run.Entrant.
func (e *Executor) Dial(ctx context.Context, uid penstock.UID, rank, port int) (io.ReadWriteCloser, error) {
	pod, err := e.entered(ctx, uid, rank)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("reach port %d of pod %s", port, pod.Name)
	url := e.client.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("portforward").URL()
	dialer, err := portforward.NewSPDYOverWebsocketDialer(url, e.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	link, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, told(what, err)
	}
	c, err := connect(ctx, link, port)
	if err != nil {
		return nil, errors.Join(told(what, err), link.Close())
	}
	return c, nil
}

// connection is one TCP connection to a port in a pod.
type connection struct {
	httpstream.Stream
	link httpstream.Connection
	stop func() bool
}

// connect opens the two streams of one connection: one for data, one on which
// the kubelet tells of an error.
func connect(ctx context.Context, link httpstream.Connection, port int) (*connection, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	problems, err := link.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	if err := problems.Close(); err != nil { // only read from
		return nil, err
	}
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := link.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	c := &connection{Stream: data, link: link}
	c.stop = context.AfterFunc(ctx, func() { _ = link.Close() })
	go func() {
		// Anything on it is an error, after which the connection is of no use.
		if text, err := io.ReadAll(io.LimitReader(problems, 1<<16)); err == nil && len(text) > 0 {
			_ = link.Close()
		}
	}()
	return c, nil
}

// CloseWrite ends what goes to the pod, and leaves what comes from it: closing a
// stream of this protocol is but half of it.
func (c *connection) CloseWrite() error { return c.Stream.Close() }

// Close ends both directions.
func (c *connection) Close() error {
	c.stop()
	return errors.Join(c.Stream.Close(), c.link.Close())
}
