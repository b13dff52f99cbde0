package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Remote is how an agent gets its order where no executor can write it into the
// task's folder: in a pod, or in a step of a batch job. The engine says who the
// agent is, the server says the rest.
type Remote struct {
	// Contact is how the server is reached, with the attempt's token.
	Contact v1.Contact
	Rank    int
	// LocalRank counts the tasks that share this machine, or this pod, from 0.
	LocalRank int
	// Node is the machine's name where the engine chose it; empty is the one in
	// the order.
	Node       string
	MasterAddr string
	MasterPort int
	// Echo gets what the command writes, too, for the engine's own log.
	Echo io.Writer
}

// ReadContact reads the file that an executor wrote for its agents.
func ReadContact(path string) (v1.Contact, error) {
	var c v1.Contact
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read contact: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read contact: %s: %w", path, err)
	}
	return c, nil
}

// maxOrder bounds an order, in bytes: it lists the files of its data.
const maxOrder = 256 << 20

// fetch asks for the order until the server has an answer. The run that it
// names is its own: a second agent of the same task gets nothing.
func (r *Remote) fetch(ctx context.Context, c *client) (v1.Order, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	path := "/v1/agent/orders/" + strconv.Itoa(r.Rank) + "?run=" + url.QueryEscape(rand.Text())
	var order v1.Order
	err := persist(ctx, func() error {
		answer, err := c.send(ctx, http.MethodGet, path, nil, 0)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if err := json.NewDecoder(io.LimitReader(answer.Body, maxOrder)).Decode(&order); err != nil {
			return temporary{fmt.Errorf("read order: %w", err)}
		}
		return nil
	})
	if err != nil {
		return order, fmt.Errorf("ask for the order of rank %d: %w", r.Rank, err)
	}
	order.Server, order.LocalRank = r.Contact, r.LocalRank
	order.MasterAddr, order.MasterPort = r.MasterAddr, r.MasterPort
	if r.Node != "" {
		order.Node = r.Node
	}
	return order, nil
}

// meetTime is how long the name of rank 0 may take to be known.
const (
	meetTime  = 10 * time.Minute
	meetPause = 250 * time.Millisecond
)

// meet waits until the place where the ranks meet has an address: an engine's DNS
// learns the name of rank 0 some time after that has started, and trainers take
// an unknown name for an error.
func (r *Remote) meet(ctx context.Context) error {
	if r == nil || net.ParseIP(r.MasterAddr) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, meetTime, &penstock.Error{
		Code: penstock.Unavailable, Msg: fmt.Sprintf("the name of rank 0, %s, was not known within %s", r.MasterAddr, meetTime),
		Hint: "see whether rank 0 has started, and whether names of other tasks can be looked up where this one runs",
	})
	defer cancel()
	for {
		if _, err := net.DefaultResolver.LookupHost(ctx, r.MasterAddr); err == nil {
			return nil
		}
		if !sleep(ctx, meetPause) {
			return context.Cause(ctx)
		}
	}
}

// inherited is the environment that the engine gave: it belongs to the image
// and to the devices that the engine chose, and so to the command.
func (r *Remote) inherited() map[string]string {
	env := map[string]string{}
	for _, line := range os.Environ() {
		if name, value, ok := strings.Cut(line, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// trust is how the server's certificate is checked: against the contact's CA,
// or with nil as the machine does.
func trust(contact v1.Contact) (*tls.Config, error) {
	if contact.CA == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(contact.CA)) {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the contact's CA holds no certificate in PEM form"}
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
